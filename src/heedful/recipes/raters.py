"""Raters: a model of who can be relied on, fitted to what they said, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heedful.configs.raters import Config
from heedful.data.files import write_json
from heedful.data.reading import named
from heedful.data.sources import read_comparisons, stream_comparisons
from heedful.errors import UserError
from heedful.raters.advice import About, about
from heedful.raters.reliability import Collected, Estimate
from heedful.raters.weights import Fingerprint
from heedful.recipes import raters_labels, raters_models
from heedful.transfer.sources import materialise
from heedful.transfer.workspace import gold_shares


def run(config: Config) -> Any:
    """Prints a table, and writes `raters`: a list of `About`, and `weights`: rater → 0 to 1, with their version.
    Returns that list; of models their ratings, of labels what was found of each axis."""
    if config.models:
        return raters_models.run(config)
    found = raters_labels.run(config, config.labels) if config.labels else _compared(config)
    if isinstance(config.data, str) and config.data.startswith("db:"):
        print_gold(gold_shares(config.data))
    return found


def print_gold(shares: Mapping[str, tuple[int, int]]) -> None:
    """How many of a workspace's gold questions, of any kind, each rater has had right."""
    if shares:
        told = (f"{who} {count} of {n}" for who, (count, n) in sorted(shares.items()))
        Console(highlight=False).print(Text(f"gold questions right: {', '.join(told)}"))


def _compared(config: Config) -> list[dict[str, Any]]:
    data = materialise(config.data, "rankings")
    comparisons = stream_comparisons(data, config.columns, skip_bad=config.on_bad_row == "drop")
    gold = read_comparisons(config.gold) if config.gold is not None else []
    collected, fingerprint, nameless = Collected(gold), Fingerprint(), 0
    for c in comparisons:  # of a million only what the fit needs is kept
        collected.add(c)
        fingerprint.add(c)
        nameless += c.rater is None
    try:
        people = about(collected)
    except UserError as error:
        raise UserError(f"{named(config.data)}: {error}") from None
    if config.gold is not None and not any(a.gold.n for a in people):
        raise UserError(
            f"--gold {named(config.gold)}: nobody has compared any two of its responses"
        )
    for c in gold:
        fingerprint.add(c)
    if config.out is not None:
        head = {"version": fingerprint.version, "comparisons": collected.comparisons}
        write_json(config.out, head | as_json(people))
    _print(people, nameless)
    return as_json(people)["raters"]


def as_json(people: Sequence[About]) -> dict[str, Any]:
    """`--out`'s file."""
    return {
        "raters": [asdict(person) for person in people],
        "weights": {person.rater: round(person.weight, 6) for person in people},
    }


def _print(people: Sequence[About], nameless: int) -> None:
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    known = any(a.gold.n for a in people)
    for title in (
        "rater",
        "comparisons",
        "reliability",
        "first",
        "longer",
        "agrees",
        "seconds",
        "weight",
        *(["gold"] if known else []),
    ):
        table.add_column(title, justify="left" if title == "rater" else "right")
    for a in people:
        table.add_row(
            Text(a.rater),
            str(a.comparisons),
            _interval(a.reliability, "{:.2f}"),
            _interval(a.place, "{:+.1f}"),
            _interval(a.length, "{:+.1f}"),
            f"{a.agreement.value:.0%}",
            "–" if a.seconds is None else f"{a.seconds:.0f}",
            f"{a.weight:.2f}",
            *([f"{a.gold.count} of {a.gold.n}"] if known else []),
        )
    console.print(table)
    console.print(
        "reliability: how often they say what they see (0.5 is chance); first, longer: log-odds for what stands first "
        "and for longer responses; in brackets 95 % intervals"
    )
    for a in people:
        for sentence in a.advice:
            console.print(Text(f"{a.rater}: {sentence}"))
    if nameless:
        console.print(f"comparisons without a rater are left out: {nameless}")


def _interval(e: Estimate, form: str) -> str:
    return f"{form.format(e.value)} [{form.format(e.low)}, {form.format(e.high)}]"
