"""What a check says. One line of plain words with the number measured, and what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["pass", "warning", "fail", "not applicable"]
EXCERPT = 40  # characters of somebody's text in a line


@dataclass(frozen=True, slots=True)
class Finding:
    """`measured` is the number in `says`, for machines. Whatever is no pass has a remedy, or `says` why not. What
    is not `here` bears on other data or programs than those at hand."""

    kind: Kind
    says: str
    remedy: str = ""
    measured: float | None = None
    here: bool = True
    group: str = ""
    check: str = ""
    seconds: float = 0.0


class NotApplicable(Exception):
    """Raised where what a check looks at is not there; the message says what."""


def passed(says: str, measured: float | None = None) -> Finding:
    return Finding("pass", says, "", measured)


def warned(says: str, remedy: str, measured: float | None = None) -> Finding:
    return Finding("warning", says, remedy, measured)


def elsewhere(says: str, remedy: str, measured: float | None = None) -> Finding:
    """A warning of what does no harm here: `heedful doctor` tells it, a run that begins does not."""
    return Finding("warning", says, remedy, measured, here=False)


def failed(says: str, remedy: str, measured: float | None = None) -> Finding:
    return Finding("fail", says, remedy, measured)


def graded(
    says: str, measured: float, *, warn: float, fail: float = math.inf, remedy: str
) -> Finding:
    """A pass up to `warn`, a warning above it, a failure above `fail`; what is no number has failed."""
    if math.isnan(measured) or measured > fail:
        return failed(says, remedy, measured)
    return warned(says, remedy, measured) if measured > warn else passed(says, measured)


def quoted(text: str) -> str:
    """An excerpt that is safe in a terminal: control characters are escaped."""
    return repr(text if len(text) <= EXCERPT else text[:EXCERPT] + "…")


def share(part: int, whole: int) -> str:
    """`3 of 40 (8 %)`, `none of 40`."""
    if not part:
        return f"none of {whole:,}"
    percent = 100 * part / whole
    return f"{part:,} of {whole:,} ({'under 1' if 0 < percent < 1 else f'{percent:.0f}'} %)"
