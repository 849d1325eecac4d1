"""Pages of single instruments: a sentence, figures and a table, from the numbers of a JSON file alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heedful.report import page, svg, words
from heedful.report.figures import Figure
from heedful.report.svg import Series

NAMES = {"proxy": "the reward itself", "gold": "gold", "watched": "the watched reward"}


def drawing(title: str, series: Sequence[Series], read: str = "", **axes: Any) -> Figure:
    """A chart as wide as a page, with a key for each line."""
    name = "".join(c for c in title.lower() if c.isalnum())
    chart = svg.chart(
        series, name=name, title=title, desc=read or title, width=680, height=300, **axes
    )
    return Figure(
        title, chart, [(svg.key(s), s.name) for s in series] if len(series) > 1 else [], read
    )


def write(out: Path, **context: Any) -> Path:
    """The page: title, outcome, drawings, a table of head and rows, notes, and facts (name, value)."""
    return page.write(
        out,
        page.fill(
            "instrument.html.j2", style_compare=Markup(page.static("compare.css")), **context
        ),
    )


def judge_of(result: dict[str, Any]) -> str:
    """Which curve says what is meant: gold where there is one."""
    return "gold" if "gold" in result["curves"] else "watched"


def trust(result: dict[str, Any]) -> str:
    """One sentence: how far the reward can be maximised before what is meant falls."""
    name = judge_of(result)
    curve, most = result["curves"][name], result["ns"][-1]
    start, top = curve["mean"][0], max(curve["mean"])
    gain = f"{NAMES[name]} goes from {words.number(start)} to {words.number(top)}"
    if curve["peak_n"] == most:
        return f"By {NAMES[name]} the reward can be trusted as far as was looked: {gain} at n = {most}."
    where = f"{gain} at n = {curve['peak_n']} ({words.number(curve['peak_kl'])} nats)"
    if curve["fall_ci"][0] <= 0:
        return f"{where[0].upper()}{where[1:]}; what it falls after that could be chance."
    lost = (
        f"{words.percent(curve['lost'])} of that gain is lost at n = {most}"
        if top > start
        else "it only falls"
    )
    return f"{where[0].upper()}{where[1:]}, and then it falls: {lost}."


AXES = {
    "x_label": "d = √KL to the model, √nats",
    "y_label": "mean over prompts, with 95 % intervals",
}


def _row(name: str, curve: dict[str, Any]) -> list[str]:
    """A curve in the table; the reward's own has neither alarm nor correlation."""
    known = "correlation" in curve
    return [
        name, words.number(curve["mean"][0]), words.number(max(curve["mean"])), str(curve["peak_n"]),
        words.number(curve["peak_kl"]), words.number(curve["mean"][-1]), words.percent(curve["lost"]),
        words.interval(curve["fall_ci"]), str(curve["alarm_n"] or "none") if known else "",
        words.number(curve["correlation"]) if known else "",
    ]  # fmt: skip


def overoptimisation(result: dict[str, Any], out: Path) -> Path:
    """The page of `heedful overoptimisation`; returns its path."""
    ns, curves = result["ns"], result["curves"]
    drawings = [
        drawing(
            f"{NAMES[name].capitalize()} of best-of-n by the reward",
            [*_measured(name, k, curve, ns, result["kl"])],
            _laws(curve) if name != "proxy" else "",
            **AXES,
        )
        for k, (name, curve) in enumerate(curves.items())
    ]
    rows = [_row(NAMES[name], c) for name, c in curves.items()]
    judge = judge_of(result)
    if others := result.get("sweep"):
        every = {result["reward"]: {"kl": result["kl"], **curves[judge]}} | others
        lines = [
            _points(reward, k, curve, ns, curve["kl"]) for k, (reward, curve) in enumerate(every.items())
        ]  # fmt: skip
        title = f"{NAMES[judge].capitalize()} of best-of-n by each reward"
        drawings.append(drawing(title, lines, **AXES))
        rows += [_row(f"{NAMES[judge]}, by {reward}", curve) for reward, curve in others.items()]
    head = [
        "score", "n = 1", "highest", "there n", "and nats", f"n = {ns[-1]}", "lost", "fall, interval", "alarm at n",
        "correlation",
    ]  # fmt: skip
    told = {
        "model": result["model"],
        "reward": result["reward"],
        "gold": result["gold"],
        "watched reward": result["watch_reward"],
        "prompts": result["prompts"],
        "responses each": result["samples"],
        "left out, as a score abstains": result["left_out"],
        "heedful": result["version"],
        **result["machine"],
    }
    notes = [
        "Every n is read off the same responses by order statistics, without bias. KL is log n − (n−1)/n less what "
        "ties of the reward take away. The alarm rings where three sizes in a row lie below the highest before them, "
        "each by more than three standard errors of the difference. Correlation is within prompts, between a score "
        "and the reward.",
        "RL spends more KL than best-of-n for the same reward (Gao et al. 2023): compare at the reward that is "
        "reached, not at the KL.",
    ]
    return write(
        out, title="Over-optimisation", outcome=trust(result), drawings=drawings, head=head, rows=rows, notes=notes,
        facts=[(k, str(v)) for k, v in told.items() if v is not None],
    )  # fmt: skip


def _measured(
    name: str, place: int, curve: dict[str, Any], ns: Sequence[int], kl: Sequence[float]
) -> list[Series]:
    """The measured curve and, but for the reward itself, best-of-n's law."""
    d = [math.sqrt(x) for x in kl]
    found = [_points("measured", place, curve, ns, kl)]
    if name != "proxy":
        law = curve["best_of_n_law"]
        fitted = [(x, curve["mean"][0] + x * (law["alpha"] - law["beta"] * x)) for x in d]
        found.append(Series("d (α − β d)", "m-6", fitted, dash=True))
    return found


def _points(
    name: str, place: int, curve: dict[str, Any], ns: Sequence[int], kl: Sequence[float]
) -> Series:
    """A curve against √KL, with its intervals."""
    tips = [
        f"n = {n}, {k:.2f} nats: {m:.3f} [{low:.3f}, {high:.3f}]"
        for n, k, m, (low, high) in zip(ns, kl, curve["mean"], curve["ci"], strict=True)
    ]
    points = [(math.sqrt(k), m) for k, m in zip(kl, curve["mean"], strict=True)]
    return Series(name, f"m-{place % 8}", points, markers=True, ci=curve["ci"], tips=tips)


def _laws(curve: dict[str, Any]) -> str:
    """The fits in words."""
    bon, rl = curve["best_of_n_law"], curve["rl_law"]
    return (
        f"Best-of-n's law d (α − β d): α {words.number(bon['alpha'], 3)}, β {words.number(bon['beta'], 3)}, "
        f"R² {words.number(bon['r2'])}; RL's d (α − β log d): α {words.number(rl['alpha'], 3)}, "
        f"β {words.number(rl['beta'], 3)}, R² {words.number(rl['r2'])}."
    )


KINDS = {"answer": "the whole answer", "token": "a token of it, on average"}


def calibration(result: dict[str, Any], out: Path) -> Path:
    """The page of `heedful evaluate --calibration`; returns its path."""
    found = result["calibration"]
    kinds = {name: found[name] for name in KINDS}
    diagram = [Series("calibrated", "m-6", [(0.0, 0.0), (1.0, 1.0)], dash=True)]
    covered = []
    for k, (name, of) in enumerate(kinds.items()):
        points = [(b["confidence"], b["right"]) for b in of["bins"]]
        tips = [
            f"{b['n']} answers: {b['confidence']:.3f} sure, {b['right']:.3f} right"
            for b in of["bins"]
        ]
        diagram.append(
            Series(f"probability of {KINDS[name]}", f"m-{k}", points, markers=True, tips=tips)
        )
        covered.append(
            Series(f"by the probability of {KINDS[name]}", f"m-{k}", of["risk_coverage"])
        )
    drawings = [
        drawing(
            "Reliability diagram", diagram, "Below the dashed line the model is too sure. Bins of equal mass.",
            x_label="confidence", y_label="share of right answers", y_range=(0.0, 1.0), x_zero=True,
        ),
        drawing(
            "Risk against coverage", covered, "What is wrong among the answers given, if only the surest are given.",
            x_label="share of prompts answered", y_label="share wrong of these", y_include=(0.0,), x_zero=True,
        ),
    ]  # fmt: skip
    rows = [
        [
            KINDS[name], words.number(of["confidence"]), _with(of, "ece"), _with(of, "brier"), _with(of, "auroc"),
            words.number(of["repair"]["temperature"]),
            *(_with(of["repair"], name) for name in ("ece_before", "ece_after")),
            f"{words.number(of['repair']['slope'])}, {words.number(of['repair']['offset'])}",
            _with(of["repair"], "ece_offset"),
        ]
        for name, of in kinds.items()
    ]  # fmt: skip
    head = [
        "probability of",
        "confidence",
        "ECE",
        "Brier",
        "AUROC",
        "T that repairs",
        "ECE before",
        "and after",
        "slope, offset",
        "ECE after these",
    ]
    told, doubt = kinds["answer"], found["words"]
    outcome = (
        f"{words.percent(told['right'])} of {told['answers']} answers are right. By the probability of a token the "
        f"model is off by {_with(kinds['token'], 'ece')}, and a right answer is surer than a wrong one in "
        f"{words.percent(kinds['token']['auroc'])} of pairs."
    )
    notes = [
        "ECE: mean distance of confidence and share of right answers over 15 bins of equal mass, biased upwards for "
        "few answers; Brier: mean squared distance; AUROC: how often a right answer is surer than a wrong one. T "
        "divides the log-odds, which moves confidences towards or away from one half; slope and offset (Platt) mend "
        "those that are all too high or too low. All are fitted on every second answer, and ECE before and after is "
        "of the others. "
        "Intervals: 95 %, bootstrap over answers; that of ECE has 0 where noise alone would give as much.",
        f"Doubt in words (English phrases): {words.percent(doubt['doubting'])} of answers, right then "
        f"{words.percent(doubt['right_with'])}, else {words.percent(doubt['right_without'])}; "
        f"{words.percent(doubt['abstained'])} say that they do not know.",
    ]
    facts = [
        ("model", result["model"]),
        ("a right answer has a gold score of", f"{found['right_from']:g} or more"),
    ]
    return write(
        out,
        title="Calibration",
        outcome=outcome,
        drawings=drawings,
        head=head,
        rows=rows,
        notes=notes,
        facts=facts,
    )


def _with(of: dict[str, Any], name: str) -> str:
    """A number and its interval."""
    ci = of[f"{name}_ci"]
    return f"{words.number(of[name])} {words.interval(None if None in ci else ci)}".strip()
