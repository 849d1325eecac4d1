"""What the annotation of a config's field says besides its type: its flag's spellings, and the numbers one can mean.

    top_p: Annotated[float, Range(0, 1, above=True)] = 1.0
    learning_rate: Annotated[float, alias("--lr"), AT_LEAST_0] = 1e-4

Marks are inherited: a subclass that gives a field another default need not repeat them. Numbers are checked by
`refuse_out_of_range` alone, wherever they come from: flags, a file or Python.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

from heedful.errors import UserError

SLOT = object()  # in a field's annotation: it holds a part (`heedful.tagged`)


@dataclass(frozen=True)
class Flag:
    """How a field is typed: by other names too, or by its place, or not at all."""

    aliases: tuple[str, ...] = ()
    positional: bool = False
    hidden: bool = False
    metavar: str | None = None
    help: str | None = None


def alias(*names: str) -> Flag:
    """Other spellings of a flag, e.g. those that users of TRL know."""
    return Flag(aliases=names)


Data = str | tuple[str, ...]  # one source, or several: files, hf:NAME, db:WORKSPACE
DATA = Flag(aliases=("--dataset-name",), metavar="SOURCE [SOURCE …]")
ROWS = Flag(metavar="FILE.jsonl")  # where a command writes rows
POSITIONAL = Flag(positional=True)
HIDDEN = Flag(hidden=True)


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`: these two as well, but with `above` not `low`, with `below` not `high`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, number: float) -> bool:
        """Whether somebody can mean this number."""
        over = number > self.low if self.above else number >= self.low
        under = number < self.high if self.below else number <= self.high
        return over and under and math.isfinite(number)

    def __str__(self) -> str:
        if not self.above and not self.below and max(-self.low, self.high) < math.inf:
            return f"from {self.low:g} to {self.high:g}"
        limits = []
        if self.low > -math.inf:
            limits.append(f"above {self.low:g}" if self.above else f"at least {self.low:g}")
        if self.high < math.inf:
            limits.append(f"below {self.high:g}" if self.below else f"at most {self.high:g}")
        return " and ".join(limits)

    def refusal(self, number: float) -> str:
        """What such a number must be."""
        finite = "" if math.isfinite(number) else "a finite number"
        return "must be " + ", ".join(filter(None, (finite, str(self))))


FINITE = Range()
AT_LEAST_0 = Range(0)
AT_LEAST_1 = Range(1)
ABOVE_0 = Range(0, above=True)
SHARE = Range(0, 1)  # of something, all of it allowed
SEED = Range(0, 2**63 - 1)


@functools.cache
def types_of(kind: type, *, marked: bool = False) -> Mapping[str, Any]:
    """Field → its type, with or without marks. A command line asks dozens of times, and `get_type_hints` compiles each
    annotation anew."""
    return MappingProxyType(get_type_hints(kind, include_extras=marked))


@functools.cache
def marks(kind: type) -> dict[str, tuple[Any, ...]]:
    """Field → the marks of its annotation; those of a base class stand where a subclass has none of that type."""
    found: dict[str, tuple[Any, ...]] = {}
    for cls in reversed(kind.__mro__):
        own = inspect.get_annotations(cls)
        hints = types_of(cls, marked=True) if own else {}
        for name in own:
            new = tuple(getattr(hints[name], "__metadata__", ()))
            old = (m for m in found.get(name, ()) if type(m) not in {type(n) for n in new})
            found[name] = (*new, *old)
    return found


def flag_of(kind: type, name: str) -> Flag:
    """What is said of a field's flag."""
    return next((m for m in marks(kind)[name] if isinstance(m, Flag)), Flag())


def range_of(kind: type, name: str) -> Range:
    """The numbers that a field can have."""
    return next((m for m in marks(kind)[name] if isinstance(m, Range)), FINITE)


def refuse_out_of_range(config: Any, where: str = "--", prefix: str = "") -> None:
    """UserError for a number that nobody can mean, in a dataclass or one within it, but for its parts. `where` stands
    before a field's name."""
    for f in fields(config):
        value, name = getattr(config, f.name), prefix + f.name
        if is_dataclass(value) and SLOT not in marks(type(config))[f.name]:
            refuse_out_of_range(value, where, f"{name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float) or isinstance(number, bool):
                continue
            limits = range_of(type(config), f.name)
            if not limits.holds(number):
                shown = name.replace("_", "-") if where == "--" else name
                raise UserError(f"{where}{shown} {number:.12g}: {limits.refusal(number)}")
