"""The figures of a comparison: a line for each method, told apart by colour, marker and a label at its end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from heedful.report import svg, words
from heedful.report.svg import Axis, el, marker

COLOURS = 8  # m-0 … m-7 in compare.css; no common factor with the markers: 56 different pairs
MARKS = ("circle", "square", "triangle", "diamond", "nabla", "plus", "cross")
WIDTH, TOP, SPACE = 860, 26.0, 16.0  # px; SPACE between two labels
PEOPLE = "people's answers"
NAMES = {"gold": "gold score", "reward": "proxy reward"}


@dataclass(frozen=True)
class Line:
    """One method: means over seeds with intervals, and each run's own points."""

    label: str
    css: str
    shape: str
    dash: bool = False
    points: Sequence[tuple[float, float]] = ()
    ci: Sequence[tuple[float, float] | None] = ()
    runs: Sequence[Sequence[tuple[float, float]]] = ()  # for each point, where the seeds lie
    tips: Sequence[str] = ()
    level: float | None = None  # a method without an x, such as best of n against time


def look(place: int) -> tuple[str, str]:
    """Colour (as a class of compare.css) and marker of the method at this place."""
    return f"m-{place % COLOURS}", MARKS[place % len(MARKS)]


def key(place: int, dash: bool) -> Markup:
    """The little picture beside a method's name."""
    css, shape = look(place)
    line = el("path", d="M1 7H27", class_="ln dash" if dash else "ln")
    mark = marker(shape, 14.0, 7.0, 4.4, class_="pt")
    return el("svg", line, mark, class_=f"key {css}", viewBox="0 0 28 14", width=28, height=14,
              aria_hidden="true")  # fmt: skip


def figure(results: dict[str, Any], y: str, x: str) -> Markup | None:
    """`y` (gold or reward) against `x` (kl or seconds) at every checkpoint; None where nothing was trained."""
    start = results["start"][y]["mean"]
    lines = [line(m, i, y, x) for i, m in enumerate(results["methods"]) if m["points"]]
    if not any(n.points for n in lines):
        return None
    if y in results.get("people", {}):
        css, shape = look(len(results["methods"]))
        level = results["people"][y]["mean"]
        lines.append(Line(PEOPLE, css, shape, dash=True, level=level))
    ends = [
        f"{n.label} ends at {n.points[-1][0]:.2f}, {n.points[-1][1]:.2f}" for n in lines if n.points
    ]
    against = {"kl": "KL to the start", "seconds": "training time"}[x]
    return chart(
        lines,
        start,
        name=f"f-{y}-{x}",
        title=f"{NAMES[y].capitalize()} against {against}, every checkpoint a point",
        desc=f"The start lies at 0, {start:.2f}; " + "; ".join(ends) + ".",
        x_label="KL to the start, nats per response" if x == "kl" else "seconds of training",
        y_label=f"mean {NAMES[y]} on held-out prompts",
    )


def kl_by_beta(results: dict[str, Any]) -> Markup | None:
    """How far the finished models moved: a line for methods that differ by β alone, in the colour of the first of them
    and with its label where several lines are of one method; None where there are none."""
    found: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for method in results["methods"]:
        end = method["points"][-1] if method["points"] else {}
        if method.get("beta") and "kl" in end:
            place = (math.log10(method["beta"]), end["kl"])
            found.setdefault(method["beta_of"], []).append(place)
    lines = [(i, m, sorted(found[m["label"]], key=itemgetter(0))) for i, m in enumerate(results["methods"])
             if len(found.get(m["label"], ())) > 1]  # fmt: skip
    if not lines:
        return None
    several = Counter(m["method"] for _, m, _ in lines)
    names = [m["label"] if several[m["method"]] > 1 else m["method"] for _, m, _ in lines]
    series = [
        svg.Series(
            name,
            look(i)[0],
            [(beta, kl["mean"]) for beta, kl in of],
            markers=True,
            ci=[kl["ci"] for _, kl in of],
            note=name,
        )
        for name, (i, _, of) in zip(names, lines, strict=True)
    ]
    ends = [f"{s.name}: {s.points[0][1]:.2f} to {s.points[-1][1]:.2f}" for s in series]
    return svg.chart(
        series,
        name="f-kl-beta",
        title="KL to the start against β, the finished models",
        desc="; ".join(ends),
        x_label="log₁₀ β",
        y_label="KL to the start, nats per response",
        y_include=[0.0],
        width=WIDTH,
        height=320,
    )


def line(method: dict[str, Any], place: int, y: str, x: str) -> Line:
    """A method's results as a line."""
    points, free = method["points"], method["method"].startswith("best_of_")
    own = Line(method["label"], *look(place), dash=free)
    if free and x == "seconds":
        return replace(own, level=points[-1][y]["mean"])
    return replace(
        own,
        points=[(p[x]["mean"], p[y]["mean"]) for p in points],
        ci=[p[y]["ci"] for p in points],
        runs=[list(zip(p[x]["seeds"], p[y]["seeds"], strict=True)) for p in points],
        tips=[_tip(method["label"], p, free) for p in points],
    )


def _tip(label: str, p: dict[str, Any], free: bool) -> str:
    where = f"best of {p['step']}" if free else f"step {p['step']}, {p['seconds']['mean']:.1f} s"
    said = [f"{label}, {where}: KL {words.number(p['kl']['mean'])} nats"] if "kl" in p else []
    for name in (n for n in NAMES if n in p):
        said.append(
            f"{NAMES[name]} {words.number(p[name]['mean'])} {words.interval(p[name]['ci'])}"
        )
    return ", ".join(said).strip()


def chart(
    lines: Sequence[Line], start: float, *, name: str, title: str, desc: str, x_label: str, y_label: str
) -> Markup:  # fmt: skip
    """All lines from the start (0, `start`); labels stand in the right margin in the order of their ends."""
    height = max(400, round(SPACE * (len(lines) + 1)) + 90)
    spots = [p for n in lines for p in (*n.points, *(q for run in n.runs for q in run))]
    ys = [start, *(b for _, b in spots), *(n.level for n in lines if n.level is not None)]
    ys += [end for n in lines for ci in n.ci if ci for end in ci]
    x_low, x_high = min([0.0, *(a for a, _ in spots)]), max([0.0, *(a for a, _ in spots)])
    x_ticks, y_ticks = svg.nice_ticks(x_low, x_high, 7), svg.nice_ticks(min(ys), max(ys), 6)
    left = 14.0 + 6.6 * max(len(svg.tick_text(t, y_ticks[1] - y_ticks[0])) for t in y_ticks)
    right = WIDTH - 52.0 - 7.2 * max(len(n.label) for n in (*lines, Line("start", "", "")))
    x = Axis(x_low, x_high if x_high > x_low else x_ticks[-1], left, right, x_ticks)
    y = Axis(y_ticks[0], y_ticks[-1], height - 38.0, TOP, y_ticks)
    parts = [el("title", title, id=f"{name}-t"), el("desc", desc, id=f"{name}-d")]
    parts += svg.frame(x, y, x_label, y_label, height)
    parts.append(el("path", d=f"M{left:.1f} {y(start):.1f}H{right:.1f}", class_="rule"))
    parts += [_draw(n, x, y, start) for n in lines]
    origin = el("title", f"start: {words.number(start)}")
    spot = marker("circle", x(0.0), y(start), 5.0, class_="pt start")
    parts.append(el("g", el("g", origin, spot), class_="m-start"))
    parts += _labels(lines, x, y, start)
    return el("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", class_="chart compare",
              aria_labelledby=f"{name}-t {name}-d")  # fmt: skip


def _draw(n: Line, x: Axis, y: Axis, start: float) -> Markup:
    ln = "ln dash" if n.dash else "ln"
    if n.level is not None:
        return el(
            "g", el("path", d=f"M{x.a:.1f} {y(n.level):.1f}H{x.b:.1f}", class_=ln), class_=n.css
        )
    spots = [(x(a), y(b)) for a, b in n.points]
    d = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in [(x(0.0), y(start)), *spots])
    parts = [el("path", d=d, class_=ln)]
    for (a, _), ci in zip(spots, n.ci, strict=True):
        if ci:
            parts.append(el("path", d=f"M{a:.1f} {y(ci[0]):.1f}V{y(ci[1]):.1f}", class_="ci"))
    for a, b in (q for run in n.runs for q in run):
        parts.append(marker(n.shape, x(a), y(b), 2.4, class_="run-dot"))
    for (a, b), tip in zip(spots, n.tips, strict=True):
        parts.append(el("g", el("title", tip), marker(n.shape, a, b, 4.8, class_="pt")))
    return el("g", *parts, class_=n.css)


def _labels(lines: Sequence[Line], x: Axis, y: Axis, start: float) -> list[Markup]:
    """Names in the right margin, pushed apart, each with its marker and a thin line from the end it names."""
    ends = [(x.b, y(n.level), n) if n.level is not None else (x(n.points[-1][0]), y(n.points[-1][1]), n)
            for n in lines]  # fmt: skip
    ends = sorted([*ends, (x.b, y(start), Line("start", "m-start", "circle"))], key=lambda e: e[1])
    at = apart([b for _, b, _ in ends], low=TOP, high=y.a)
    found = []
    for (a, b, n), to in zip(ends, at, strict=True):
        lead = el("path", d=f"M{a:.1f} {b:.1f}L{x.b + 8:.1f} {to:.1f}h10", class_="lead-line")
        mark = marker(n.shape, x.b + 26, to, 4.4, class_="pt start" if n.css == "m-start" else "pt")
        text = el("text", n.label, x=x.b + 36, y=to + 4, class_="note")
        found.append(el("g", lead, mark, text, class_=n.css))
    return found


def apart(wanted: Sequence[float], *, low: float, high: float, space: float = SPACE) -> list[float]:
    """Positions `space` from each other, in sum of squares nearest to `wanted` (ascending), within [low, high].

    Without the i-th label's share of the spacing this is isotonic regression: neighbours that are out of order
    are pooled at their mean until none are. More labels than fit between low and high run on below.
    """
    pools: list[tuple[float, int]] = []  # (sum, how many)
    for i, spot in enumerate(wanted):
        pools.append((spot - i * space, 1))
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            (a, m), (b, n) = pools.pop(), pools.pop()
            pools.append((a + b, m + n))
    flat = [total / n for total, n in pools for _ in range(n)]
    top = max(low, high - space * (len(flat) - 1))
    return [min(max(at, low), top) + i * space for i, at in enumerate(flat)]
