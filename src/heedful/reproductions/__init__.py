"""Published claims made again by one command each, with criteria that were frozen before the final run.

A file of this folder that has a `REPRODUCTION` is one; `frontier_exact.py` is called `frontier-exact`. What it imports
at its top is light, since `heedful reproduce --list` reads them all.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from heedful.errors import UserError, did_you_mean

SEEDS = 4  # with fewer, no verdict is final
Result = Mapping[str, Any]  # of one seed: numbers by their names, and whatever a figure needs


@dataclass(frozen=True)
class Criterion:
    """What must hold, in words and as a comparison of a measured number with a threshold.

    `of` says which number: the mean over seeds, the end of its 95 % interval that is worst for the claim, or the
    worst of the seeds.
    """

    words: str
    value: str
    direction: Literal["at least", "at most"]
    threshold: float
    of: Literal["mean", "interval", "every seed"] = "mean"

    def measured(self, summary: Mapping[str, Any]) -> float:
        """The number that is compared, of a summary {mean, ci, seeds}."""
        upwards = self.direction == "at least"
        if self.of == "mean":
            return summary["mean"]
        if self.of == "every seed":
            return (min if upwards else max)(summary["seeds"])
        return summary["ci"][0 if upwards else 1] if summary["ci"] else math.nan

    def holds(self, number: float) -> bool:
        """Whether the threshold is met; never by a number that is none."""
        return (
            number >= self.threshold if self.direction == "at least" else number <= self.threshold
        )


@dataclass(frozen=True)
class Figure:
    """A picture as data: lines of points, each with the ends of its interval or None."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    intervals: Mapping[str, Sequence[tuple[float, float] | None]] | None = None


@dataclass(frozen=True)
class Reproduction:
    """A claim and how it is tested. Field by field what its page says."""

    name: str
    claim: str
    """What is claimed, in one or two sentences."""
    source: str
    """Where it was claimed: paper, section."""
    what: str
    """What is run here: world, models, sizes."""
    frozen: str
    """The day on which the criteria were written down, before the final run: 2026-11-29."""
    criteria: tuple[Criterion, ...]
    run: Callable[[int, Path, bool], Result]
    """(seed, a folder for its files, whether to be quick) → numbers by name, and data for the figure."""
    minutes: float
    """About how long all seeds take on two cores."""
    seeds: int = SEEDS
    figure: Callable[[Sequence[Result]], Figure] | None = None
    """The results of all seeds → a picture."""

    @property
    def command(self) -> str:
        """What makes it again."""
        return f"heedful reproduce {self.name}"


def names() -> list[str]:
    """All there are, in alphabetical order."""
    files = Path(__file__).parent.glob("*.py")
    known = (f for f in files if "\nREPRODUCTION = " in f.read_text(encoding="utf-8"))
    return sorted(f.stem.replace("_", "-") for f in known)


def load(name: str) -> Reproduction:
    """The reproduction of a name; UserError with the nearest one."""
    known = names()
    if name not in known:
        raise UserError(
            f"there is no reproduction '{name}'{did_you_mean(name, known)}: {', '.join(known)}"
        )
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").REPRODUCTION
