"""The page's figures: which series go into which chart, and the words that describe them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from heedful.report import svg, words
from heedful.report.results import Curve, Point, Results
from heedful.report.svg import Series, el

MOST_POINTS = 160


@dataclass(frozen=True)
class Panel:
    """One small chart of learning curves: `lines` maps a metric to its name in the legend."""

    title: str
    unit: str
    lines: dict[str, str]
    read: str = ""  # how to read it, in one sentence
    rule: float | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Figure:
    """A drawn chart with what stands around it."""

    title: str
    chart: Markup
    legend: list[tuple[Markup, str]]
    read: str = ""


LOSS = Panel(
    "Loss", "nats per token", {"loss": "training", "eval/loss": "held-out"},
    "Lower is better; a held-out line that turns up means learning by heart.",
)  # fmt: skip
PANELS: dict[str, list[Panel]] = {
    "pretrain": [LOSS],
    "sft": [LOSS],
    "reward": [
        Panel(
            "Accuracy", "share of pairs", {"accuracy": "training", "eval/accuracy": "held-out"},
            "How often the preferred response gets the higher score; dashed level: guessing.", 0.5,
        ),
        Panel(
            "Loss", "nats per comparison", {"loss": "training", "eval/loss": "held-out"},
            "The negative log-likelihood of what people chose.",
        ),
        Panel("Margin", "r(chosen) − r(rejected)", {"margin": "margin"},
              "How far apart the scores of a pair are."),
    ],
    "ppo": [
        Panel("Reward", "reward-model score", {"reward": "reward"},
              "The proxy that PPO climbs, not the gold score."),
        Panel("KL to SFT", "nats per response", {"kl/seq": "KL"},
              "What the climb costs in drift from the language it had learned."),
        Panel("KL coefficient β", "price of a nat", {"kl/coef": "β"},
              "Constant where β is fixed; the adaptive controller moves it towards its target."),
        Panel("Clipped", "share of tokens", {"policy/clipfrac": "clip fraction"},
              "Tokens whose ratio left 1 ± ε; a lasting high share says that steps are too big."),
        Panel("Critic", "explained variance", {"value/explained_variance": "explained variance"},
              "1: the critic foresees every return; 0: no better than their mean. Cut at −1.",
              0.0, (-1.0, 1.0)),
        Panel("Entropy", "nats per token", {"policy/entropy": "entropy"},
              "How undecided the model is; a sudden fall to 0 is collapse."),
        Panel("Length", "tokens per response", {"completions/mean_length": "length"},
              "Watch it: reward models like to be flattered by length."),
    ],
    "dpo": [
        Panel("Margin", "nats × β", {"rewards/margins": "chosen − rejected"},
              "How much further DPO has moved chosen than rejected responses.", 0.0),
        Panel("Implicit rewards", "nats × β",
              {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
              "β times the log-ratio to SFT, for each side of a pair.", 0.0),
        Panel("Log-probability", "nats per response",
              {"logps/chosen": "chosen", "logps/rejected": "rejected"},
              "Absolute: a growing margin can hide that chosen responses become less likely too."),
        Panel("Accuracy", "share of pairs", {"rewards/accuracies": "training"},
              "How often the chosen response has the higher implicit reward.", 0.5),
    ],
}  # fmt: skip


def thin(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """At most `most` points: neighbours are averaged, so that no step is picked by chance."""
    size = -(-len(curve) // most)
    buckets = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets]


def panel(run: str, spec: Panel, metrics: dict[str, Curve], name: str) -> Figure | None:
    """The chart of one panel, or None when the run logged none of its metrics."""
    found = {metric: curve for metric in spec.lines if (curve := metrics.get(metric))}
    if not found:
        return None
    series, said = [], []
    for metric, curve in found.items():
        text, second = spec.lines[metric], list(spec.lines).index(metric) > 0
        few = second and len(curve) <= 30
        series.append(Series(text, words.css(run), thin(curve), dash=second, markers=few))
        (first_step, first), (last_step, last) = curve[0], curve[-1]
        said.append(f"{text}: {first:.3g} at step {first_step:g}, {last:.3g} at step {last_step:g}")
    title = f"{words.label(run)}: {spec.title.lower()} ({spec.unit})"
    chart = svg.chart(
        series, name=name, title=title, desc="; ".join(said) + ".", x_label="step",
        y_label=spec.unit, rule=spec.rule, y_range=spec.y_range,
    )  # fmt: skip
    legend = [(svg.key(s), s.name) for s in series] if len(series) > 1 else []
    return Figure(spec.title, chart, legend, spec.read)


def curves(results: Results) -> list[tuple[str, list[Figure]]]:
    """Every run's panels, in the order of the pipeline; runs without metrics have an empty list."""
    runs = [r for r in PANELS if r in results.curves]
    found = []
    for run in runs:
        metrics = results.curves[run]
        drawn = [panel(run, p, metrics, f"c-{run}-{i}") for i, p in enumerate(PANELS[run])]
        found.append((run, [f for f in drawn if f]))
    return found


def small_curve(run: str, results: Results) -> Figure | None:
    """The first panel of a run, for the story."""
    if run not in PANELS or not results.curves.get(run):
        return None
    return panel(run, PANELS[run][0], results.curves[run], f"s-{run}")


def ladder(results: Results) -> Markup:
    """Every stage's gold score on one scale, with its interval: the page in one picture."""
    names = words.ordered(results.stages)
    ends = [results.stages[n].gold for n in names]
    ends += [e for n in names for e in results.stages[n].gold_ci or ()]
    ticks = svg.nice_ticks(min(ends), max(ends), 5)
    width, row = 460, 38
    bottom = row * len(names) + 6.0
    x = svg.Axis(ticks[0], ticks[-1], 92.0, width - 62.0)
    parts = [el("title", "Gold score of every stage", id="ladder-t")]
    said = "; ".join(f"{words.label(n)} {words.number(results.stages[n].gold)}" for n in names)
    parts.append(el("desc", f"Mean gold score on held-out prompts: {said}.", id="ladder-d"))
    for t in ticks:
        parts.append(el("path", d=f"M{x(t):.1f} 4V{bottom:.1f}", class_="grid"))
        text = svg.tick_text(t, ticks[1] - ticks[0])
        parts.append(el("text", text, x=x(t), y=bottom + 17, class_="tick", text_anchor="middle"))
    for i, name in enumerate(names):
        stage, at = results.stages[name], row * i + 24.0
        low, high = stage.gold_ci or (stage.gold, stage.gold)
        css = words.css(name)
        parts.append(
            el(
                "g",
                el("text", words.label(name), x=80.0, y=at + 5, class_="name", text_anchor="end"),
                el("path", d=f"M{x(x.low):.1f} {at:.1f}H{x(stage.gold):.1f}", class_="stem"),
                el("path", d=f"M{x(low):.1f} {at:.1f}H{x(high):.1f}", class_="whisker"),
                svg.marker(svg.shape_of(css), x(stage.gold), at, 6.5, class_="pt"),
                el("text", words.number(stage.gold), x=width - 4.0, y=at + 5, class_="value",
                   text_anchor="end"),
                class_=css,
            )
        )  # fmt: skip
    label = "mean gold score on held-out prompts →"
    parts.append(el("text", label, x=x.b, y=bottom + 35, class_="lab", text_anchor="end"))
    return el(
        "svg", *parts, viewBox=f"0 0 {width} {bottom + 42:.0f}", role="img", class_="chart ladder",
        aria_labelledby="ladder-t ladder-d",
    )  # fmt: skip


def frontier(results: Results) -> list[Figure]:
    """Gold against KL, and beside it the proxy reward against KL where it was measured."""
    if not results.frontier:
        return []
    groups: dict[str, list[Point]] = {}
    for point in results.frontier:
        groups.setdefault(point.method, []).append(point)
    methods = words.ordered(groups)
    for points in groups.values():
        points.sort(key=lambda p: (p.step or 0, p.n or 0))
    gold = [_series(m, groups[m], "gold") for m in methods]
    found = [_scatter("gold", "Gold score", gold, 620, 400, "what people really want")]
    proxy = [_series(m, [p for p in groups[m] if p.reward is not None], "reward") for m in methods]
    proxy = [s for s in proxy if s.points]
    if proxy:
        found.append(_scatter("proxy", "Proxy reward", proxy, 400, 400, "reward-model score"))
    return found


def _series(method: str, points: list[Point], what: str) -> Series:
    xy = [(p.kl, p.gold if what == "gold" else p.reward or 0.0) for p in points]
    last = points[-1] if points else None
    note = words.label(f"best_of_{last.n}" if last and last.n else method)
    return Series(
        words.label(method), words.css(method), xy, markers=True,
        ci=[p.gold_ci for p in points] if what == "gold" else (),
        tips=[_tip(p) for p in points], note=note, dash=words.kind(method) == "best_of_n",
    )  # fmt: skip


def _tip(p: Point) -> str:
    where = words.label(p.method)
    if p.n is not None:
        where = f"best-of-{p.n}"
    elif p.step is not None:
        where += f", step {p.step}"
    text = f"{where}: KL {words.number(p.kl)} nats, gold {words.number(p.gold)}"
    text += f" {words.interval(p.gold_ci)}" if p.gold_ci else ""
    return text if p.reward is None else f"{text}, proxy reward {words.number(p.reward)}"


def _scatter(name: str, title: str, series: Sequence[Series], w: int, h: int, unit: str) -> Figure:
    ends = [f"{s.note} ends at KL {s.points[-1][0]:.2f}, {s.points[-1][1]:.2f}" for s in series]
    chart = svg.chart(
        series, name=f"f-{name}", title=f"{title} against KL to SFT, every checkpoint a point",
        desc="; ".join(ends) + ".", x_label="KL to SFT, nats per response", y_label=unit,
        width=w, height=h, x_zero=True,
    )  # fmt: skip
    return Figure(title, chart, [(svg.key(s), s.name) for s in series])


def forest(stage: str, results: Results) -> Markup | str:
    """A win rate and its interval on 0–100 %, one half marked; the numbers stand beside it as text."""
    s = results.stages[stage]
    if s.win_rate is None:
        return ""
    x = svg.Axis(0.0, 1.0, 6.0, 154.0)
    low, high = s.win_rate_ci or (s.win_rate, s.win_rate)
    css = words.css(stage)
    return el(
        "svg",
        el("path", d="M6 11H154", class_="grid"),
        el("path", d=f"M{x(0.5):.1f} 1V21", class_="rule"),
        el("path", d=f"M{x(low):.1f} 11H{x(high):.1f}", class_="whisker"),
        svg.marker(svg.shape_of(css), x(s.win_rate), 11.0, 4.5, class_="pt"),
        viewBox="0 0 160 22", width=160, height=22, class_=f"forest {css}", aria_hidden="true",
    )  # fmt: skip
