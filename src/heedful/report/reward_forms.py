"""The page of `heedful compare rewards`: accuracy, calibration, and which differences chance does not explain."""

from __future__ import annotations

from typing import Any

from heedful.report import words
from heedful.report.compare_figures import COLOURS
from heedful.report.figures import Figure
from heedful.report.instruments import drawing
from heedful.report.svg import Series

HEAD = ["form", "accuracy", "more than the first", "log-loss", "confidence", "ECE", "Brier"]
BASELINES = ("length", "n-grams")


def outcome(result: dict[str, Any]) -> str:
    """One sentence or two: the most accurate form, and whether that is more than simple baselines and than chance."""
    forms = result["forms"]
    best = max(forms, key=lambda name: forms[name]["accuracy"])
    of = forms[best]
    text = (
        f"{best} predicts {words.percent(of['accuracy'])} {words.percent_interval(of['accuracy_ci'])} of "
        f"{of['pairs']} pairs in {result['folds']} folds."
    )
    first, *others = forms
    clear = [name for name in others if not _could_be_chance(forms[name])]
    if not others:
        return text
    if not clear:
        return f"{text} No form differs from {first} by more than chance explains."
    told = [
        f"{name} by {words.number(100 * forms[name]['more_accurate'], 1)} points" for name in clear
    ]
    return f"{text} From {first} differ clearly: {words.listed(told)}."  # fmt: skip


def _could_be_chance(of: dict[str, Any]) -> bool:
    low, high = of["more_accurate_ci"]
    return low <= 0 <= high


def page(result: dict[str, Any]) -> dict[str, Any]:
    """What `instruments.write` fills in."""
    forms, alike = result["forms"], result["same_as_bradley_terry"]
    rows = [
        [
            name,
            f"{words.percent(of['accuracy'])} {words.percent_interval(of['accuracy_ci'])}",
            _difference(of),
            f"{words.number(of['log_loss'])} {words.interval(of['log_loss_ci'])}",
            words.number(of["confidence"]),
            f"{words.number(of['ece'])} {words.interval(of['ece_ci'])}",
            words.number(of["brier"]),
        ]
        for name, of in forms.items()
    ]
    notes = [
        "Each prompt is predicted by what was fitted to the other folds. Intervals: 95 %, bootstrap over prompts; they "
        "say what other prompts would change, not what another seed or other folds would. Log-loss of chance: 0.69. "
        "ECE: mean distance of confidence and share right, biased upwards for few pairs; its interval has 0 where "
        "noise alone would give as much.",
        *(f"{name} is bradley_terry here: {why}." for name, why in alike.items()),
    ]
    return {
        "title": "Forms of reward models",
        "outcome": outcome(result),
        "drawings": figures(forms),
        "head": HEAD,
        "rows": rows,
        "notes": notes,
        "facts": [
            ("model", result["model"] or "none"),
            ("data", result["data"]),
            *_told(result["settings"]),
        ],
    }


def figures(forms: dict[str, Any]) -> list[Figure]:
    """A reliability diagram of the trained forms, and one of the baselines: more lines than colours nobody reads."""
    groups = [
        ("Calibration of reward models", [n for n in forms if n not in BASELINES]),
        ("Calibration of baselines", [n for n in forms if n in BASELINES]),
    ]
    drawn = []
    for title, names in groups:
        for start in range(0, len(names), COLOURS - 1):
            part = names[start : start + COLOURS - 1]
            more = f" ({1 + start // (COLOURS - 1)})" if len(names) >= COLOURS else ""
            drawn.append(reliability(title + more, {name: forms[name] for name in part}))
    return drawn


def reliability(title: str, forms: dict[str, Any]) -> Figure:
    """Share right against how sure a form was of the response that it prefers."""
    series = [
        Series("calibrated", f"m-{COLOURS - 1}", [(0.5, 0.5), (1.0, 1.0)], dash=True),
        *(
            Series(
                name,
                f"m-{k}",
                [(b["confidence"], b["right"]) for b in of["bins"]],
                markers=True,
                tips=[
                    f"{b['n']} pairs: {b['confidence']:.3f} sure, {b['right']:.3f} right"
                    for b in of["bins"]
                ],
            )
            for k, (name, of) in enumerate(forms.items())
        ),
    ]
    read = "Below the dashed line a form is too sure. Bins of equal mass."
    return drawing(
        title, series, read, x_label="confidence in the preferred one", y_label="share right",
        y_range=(0.0, 1.0),
    )  # fmt: skip


def _difference(of: dict[str, Any]) -> str:
    if "more_accurate" not in of:
        return words.ABSENT
    low, high = (100 * x for x in of["more_accurate_ci"])
    return f"{words.number(100 * of['more_accurate'], 1)} [{words.number(low, 1)}, {words.number(high, 1)}]"


def _told(settings: dict[str, Any]) -> list[tuple[str, str]]:
    shown = ("folds", "strength", "epochs", "batch_size", "learning_rate", "max_length", "seed")
    told = {name: settings.get(name) for name in shown}
    return [(name.replace("_", " "), str(value)) for name, value in told.items() if value is not None]  # fmt: skip
