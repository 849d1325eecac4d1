"""A comparison's results.json → compare.html, one page that needs nothing else, and table.md for documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heedful.errors import UserError
from heedful.report import compare_figures as figures
from heedful.report import page, words

# What a table shows of a method's last point: name in results.json → head of the column
COLUMNS = {
    "gold": "gold",
    "win_rate": "wins",
    "reward": "reward",
    "kl": "KL, nats",
    "hypervolume": "hypervolume",
    "length": "tokens",
    "seconds": "seconds",
}

# By what the responses are compared with: the head of the column, and what the page says.
WINS = {"start": "wins against the start", "people": "wins against people"}
WON = {"start": "the start's response", "people": "people's answer"}


def build(folder: Path) -> Path:
    """Draws `folder/results.json` of `heedful compare`; returns the page's path. Same input, same bytes."""
    file = Path(folder) / "results.json"
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{file}: {e.strerror}") from None
    page.write(folder / "table.md", markdown(results))
    return page.write(folder / "compare.html", page.fill("compare.html.j2", **context(results)))


def context(results: dict[str, Any]) -> dict[str, Any]:
    """What the template asks for."""
    first = "gold" if "gold" in results["start"] else "reward"
    shown = [n for n in COLUMNS if any(n in p for m in results["methods"] for p in m["points"])]
    measured = [y for y in ("gold", "reward") if y in results["start"]]
    against = "people" if "people" in results else "start"
    heads = {**COLUMNS, "win_rate": WINS[against]}
    drawn = {
        f"{figures.NAMES[y].capitalize()} against {AGAINST[x]}": figures.figure(results, y, x)
        for y in measured
        for x in ("kl", "seconds")
    } | {"KL against β": figures.kl_by_beta(results)}
    return {
        "results": results,
        "style_compare": Markup(page.static("compare.css")),
        "outcome": outcome(results, first),
        "figures": [
            {"title": title, "chart": chart} for title, chart in drawn.items() if chart is not None
        ],
        "columns": [heads[name] for name in shown],
        "won_against": WON[against],
        "rows": [row(results, shown, m, i) for i, m in enumerate(results["methods"])],
        "start_row": cells(results["start"], shown),
        "failed": failures(results),
        "machine": [f"{k} {v}" for k, v in (results["machine"] | results["versions"]).items()],
    }


AGAINST = {"kl": "KL", "seconds": "training time"}


def outcome(results: dict[str, Any], y: str) -> str:
    """One sentence from the numbers alone: who is highest, what that took, and whom it cannot be told from."""
    ends = {m["label"]: m["points"][-1] for m in results["methods"] if m["points"]}
    start = words.number(results["start"][y]["mean"])
    if not ends:
        return f"No method has a result; the start's mean {figures.NAMES[y]} is {start}."
    best = max(ends, key=lambda label: ends[label][y]["mean"])
    top = ends[best]
    text = f"{best} ends highest: mean {figures.NAMES[y]} {words.number(top[y]['mean'])} "
    text += f"{words.interval(top[y]['ci'])}, from {start} at the start"
    if "kl" in top:
        text += f", at {words.number(top['kl']['mean'])} nats from it"
    ci = top[y]["ci"]
    near = [
        label
        for label, end in ends.items()
        if label != best and ci and end[y]["ci"] and end[y]["ci"][1] >= ci[0]
    ]
    if near:
        text += f". Its interval overlaps with {words.listed(near)}"
    return text + "."


def cells(point: dict[str, Any], shown: Sequence[str]) -> list[tuple[str, str]]:
    """(value, interval) for each column that is shown."""
    found = []
    for name in shown:
        measure = point.get(name)
        if measure is None:
            found.append((words.ABSENT, ""))
        elif name == "win_rate":
            found.append((words.percent(measure["mean"]), words.percent_interval(measure["ci"])))
        else:
            digits = {"length": 1, "seconds": 1}.get(name, 2)
            ci = measure["ci"]
            span = f"[{words.number(ci[0], digits)}, {words.number(ci[1], digits)}]" if ci else ""
            found.append((words.number(measure["mean"], digits), span))
    return found


def row(
    results: dict[str, Any], shown: Sequence[str], method: dict[str, Any], place: int
) -> dict[str, Any]:
    """One method in the table: its last point, averaged over the seeds that finished."""
    end = method["points"][-1] if method["points"] else None
    trained = not method["method"].startswith("best_of_")
    said = cells(end if trained else {**end, "seconds": None}, shown) if end else []
    return {
        "key": figures.key(place, not trained),
        "label": method["label"],
        "method": "" if method["method"] == method["label"] else method["method"],
        "runs": f"{method['runs']} of {len(results['seeds'])}",
        "cells": said,
        "responses": _responses(end) if end and trained else "",
        "steps": words.whole(end["optimiser_steps"]) if end and trained else "",
        "alarms": str(len(method["alarms"])) if trained else "",
    }


def _responses(point: dict[str, Any]) -> str:
    return ("≥ " if point["at_least"] else "") + words.whole(point["responses"])


def failures(results: dict[str, Any]) -> list[str]:
    """One sentence for each run that failed; seeds that failed alike share it."""
    found: dict[tuple[str, str], list[str]] = {}
    for m in results["methods"]:
        for failed in m["failed"]:
            found.setdefault((m["label"], failed["why"]), []).append(str(failed["seed"]))
    return [
        f"{label}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}, failed: {why}"
        for (label, why), seeds in found.items()
    ]


def markdown(results: dict[str, Any]) -> str:
    """The table for documents."""
    shown = context(results)
    head = ["method", "runs", *shown["columns"], "responses", "steps", "alarms"]
    lines = [head, ["---"] * len(head)]
    start = [f"{a} {b}".strip() for a, b in shown["start_row"]]
    lines.append(["start", "", *start, "", "", ""])
    for r in shown["rows"]:
        said = [f"{a} {b}".strip() for a, b in r["cells"]] or ["failed"] * len(shown["columns"])
        name = f"{r['label']} ({r['method']})" if r["method"] else r["label"]
        lines.append([name, r["runs"], *said, r["responses"], r["steps"], r["alarms"]])
    table = "\n".join("| " + " | ".join(cells_) + " |" for cells_ in lines)
    notes = "".join(f"\n- {' '.join(sentence.split())}" for sentence in shown["failed"])
    return table + "\n" + (notes + "\n" if notes else "")
