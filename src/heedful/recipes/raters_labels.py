"""Who can be relied on where people judge single responses: thumbs, verdicts on rules, ratings, each axis by itself."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heedful.configs.raters import Config
from heedful.data.columns import prompt_text
from heedful.data.files import write_json
from heedful.data.ratings import stream_ratings
from heedful.data.reading import named
from heedful.errors import UserError
from heedful.raters.labels import Model, fit, labels_of
from heedful.transfer.sources import materialise
from heedful.types import Rated

MOST_CLASSES = 20  # of an axis; beyond them it measures, and does not label


def run(config: Config, model: Model) -> dict[str, Any]:
    """Prints a table of each axis; writes `axes`, which it returns, and `weights`: rater → 0 to 1, with a version."""
    source = materialise(config.data, "scores")
    skip = config.on_bad_row == "drop"
    rated = list(stream_ratings(source, config.columns, axes=config.axes, skip_bad=skip))
    gold = [] if config.gold is None else list(stream_ratings(config.gold, axes=config.axes))
    known = {
        axis: {item: value for item, _, value in rows} for axis, rows in _by_axis(gold).items()
    }
    whose = _by_axis([r for r in rated if r.rater is not None])
    if not whose:
        raise UserError(
            f"{named(config.data)}: no label has a rater; a column rater says whose it is"
        )
    told = any(
        known.get(axis, {}).keys() & {item for item, _, _ in rows} for axis, rows in whose.items()
    )
    if config.gold is not None and not told:
        raise UserError(f"--gold {named(config.gold)}: nobody has judged any of its responses")
    axes: dict[str, Any] = {}
    alike: list[str] = []
    for axis, rows in whose.items():
        try:
            axes[axis] = _fitted(rows, known.get(axis, {}), model)
        except UserError as error:
            alike.append(f"{axis}: {error}")
    if not axes:
        raise UserError(f"{named(config.data)}: {'; '.join(alike)}")
    if config.out is not None:
        version = _version(whose, known, model)
        found = {"version": version, "model": model, "axes": axes, "weights": _weights(axes)}
        write_json(config.out, found)
    _print(axes, alike, sum(r.rater is None for r in rated))
    return axes


Rows = list[tuple[Hashable, str, float]]  # which response, whose label, what it says


def _by_axis(rated: Sequence[Rated]) -> dict[str, Rows]:
    """Of what somebody says twice of a response the last counts."""
    found: dict[str, dict[tuple[Hashable, str], float]] = defaultdict(dict)
    for r in rated:
        for axis, value in r.values.items():
            found[axis][(prompt_text(r.prompt), r.response), r.rater or ""] = value
    return {
        axis: [(i, who, value) for (i, who), value in said.items()] for axis, said in found.items()
    }


def _fitted(rows: Rows, known: Mapping[Hashable, float], model: Model) -> dict[str, Any]:
    """{classes, shares, items, raters: [{rater, labels, says, weight, gold}]}: shares and says as `labels.Fitted` has
    them, `gold` how many of the known ones were right, of how many."""
    items, raters, values = zip(*rows, strict=True)
    there = set(items)
    labels = labels_of(items, raters, values, {i: v for i, v in known.items() if i in there})
    if len(labels.classes) > MOST_CLASSES:
        raise UserError(f"{len(labels.classes)} different values are no labels")
    fitted = fit(labels, model)
    sure = labels.gold[labels.item] >= 0
    right = sure & (labels.label == labels.gold[labels.item])
    counts = [
        torch.bincount(labels.rater[of], minlength=len(labels.people)).tolist()
        for of in (slice(None), right, sure)
    ]
    told = zip(labels.people, *counts, fitted.says.tolist(), fitted.weights.tolist(), strict=True)
    people = [
        {
            "rater": name,
            "labels": number,
            "says": [[round(p, 6) for p in row] for row in says],
            "weight": round(weight, 6),
            "gold": [hits, of_gold],
        }
        for name, number, hits, of_gold, says, weight in told
    ]
    people.sort(key=lambda one: (one["weight"], one["rater"]))
    shares = [round(p, 6) for p in fitted.shares.tolist()]
    return {
        "classes": labels.classes,
        "shares": shares,
        "items": len(labels.items),
        "raters": people,
    }


def _weights(axes: Mapping[str, Any]) -> dict[str, float]:
    """Of each rater over the axes, by how many labels they gave on each."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for axis in axes.values():
        for one in axis["raters"]:
            sums[one["rater"]][0] += one["labels"] * one["weight"]
            sums[one["rater"]][1] += one["labels"]
    return {name: round(total / number, 6) for name, (total, number) in sorted(sums.items())}


def _version(whose: Any, known: Any, model: Model) -> str:
    told = json.dumps(
        [model, sorted(whose.items()), sorted((a, sorted(k.items())) for a, k in known.items())]
    )
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _print(axes: Mapping[str, Any], alike: Sequence[str], nameless: int) -> None:
    console = Console(highlight=False)
    for name, axis in axes.items():
        classes = [f"{c:g}" for c in axis["classes"]]
        known = any(one["gold"][1] for one in axis["raters"])
        title = f"{name}: {axis['items']} responses, " + ", ".join(
            f"{share:.0%} are {c}" for c, share in zip(classes, axis["shares"], strict=True)
        )
        table = Table(title=Text(title), title_justify="left", box=None, header_style="bold")
        for column in (
            "rater",
            "labels",
            *(f"{c} as {c}" for c in classes),
            "weight",
            *(["gold"] * known),
        ):
            table.add_column(column, justify="left" if column == "rater" else "right")
        for one in axis["raters"]:
            right = [f"{row[c]:.0%}" for c, row in enumerate(one["says"])]
            gold = [f"{one['gold'][0]} of {one['gold'][1]}"] * known
            table.add_row(
                Text(one["rater"]), str(one["labels"]), *right, f"{one['weight']:.2f}", *gold
            )
        console.print(table)
    console.print(
        "“1 as 1”: how often they say 1 of what is 1; weight: how much oftener they say a label where it is true than "
        "where it is not, 0 for guessing and below"
    )
    for sentence in alike:
        console.print(Text(f"left out, {sentence}"))
    if nameless:
        console.print(f"labels without a rater are left out: {nameless}")
