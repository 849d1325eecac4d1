r"""The final answer in a text, and numbers as people and models write them.

A final answer stands behind the last `####` (GSM8K) or in the last `\boxed{…}` (MATH), whichever comes
later. Every pattern here is linear in the text's length: what a model writes is hostile, and a pattern
that backtracks, or the number 1e999999999, would stop the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MOST_DIGITS = 60  # a longer number is noise, and exact arithmetic with it slow
LARGEST_EXPONENT = 60

_SIGNS = dict.fromkeys(map(ord, "−–‒﹣－"), "-")
_NARROW = "\u00a0\u2009\u202f"  # spaces that group digits, as a common space does not reliably
_SPACES = dict.fromkeys(map(ord, _NARROW), " ")
_DIGITS = {ord("０") + i: str(i) for i in range(10)}
_PARTS = {ord("½"): " 1/2", ord("¼"): " 1/4", ord("¾"): " 3/4", ord("⁄"): "/", ord("％"): "%"}
_PLAIN = _SIGNS | _SPACES | _DIGITS | _PARTS

_DECIMAL = r"(?:[0-9][0-9,]*(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w.)\]}}])[-+])?[$€£¥]?(?P<minus>(?<=[$€£¥])-)?(?P<first>{_DECIMAL})"
    rf"(?P<exponent>[eE][-+]?[0-9]+)?"
    rf"(?: (?P<above>[0-9]{{1,9}})/(?P<below>[0-9]{{1,9}})(?![0-9])| ?/ ?(?P<second>{_DECIMAL}))?"
    r"(?P<percent> ?(?:\\?%|percent\b))?"
)
_FRACTION = re.compile(r"([0-9]?)\\[dt]?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}")
_THOUSANDS = re.compile(rf"(?<=[0-9])(?:[{_NARROW}]|\\,|\{{,\}})(?=[0-9]{{3}}(?![0-9]))")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value, and whether a percent sign stood behind it."""

    value: Fraction
    percent: bool = False

    def equals(self, other: Number, tolerance: float = 0.0) -> bool:
        """Within `tolerance`. 50 % equals 50, where only the sign was left out, and 0.5, which it is."""
        mine, theirs = {self.value}, {other.value}
        if self.percent != other.percent:
            mine |= {self.value / 100} if self.percent else set()
            theirs |= {other.value / 100} if other.percent else set()
        return any(abs(a - b) <= tolerance for a in mine for b in theirs)


def final_answer(text: str) -> str | None:
    """What stands behind the last `####` (to the end of its line) or in the last box; None without either."""
    hashes, box = text.rfind("####"), text.rfind(r"\boxed{")
    if hashes < 0 and box < 0:
        return None
    if hashes > box:
        return text[hashes + 4 :].strip().partition("\n")[0].strip()
    depth, start = 1, box + len(r"\boxed{")
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i].strip()
    return ""  # a box that was never closed holds no answer


def final_number(text: str) -> Number | None:
    """The number in the final answer (the first there), or the last number of a text that marks none."""
    marked = final_answer(text)
    found = None
    for found in numbers_in(text if marked is None else marked):  # noqa: B007
        if marked is not None:
            break
    return found


def numbers_in(text: str) -> Iterator[Number]:
    r"""All numbers: −1,234.5 · $3 · .5 · 3/4 · 1 1/2 · \frac{3}{4} · 2e3 · 50 %. "10-20" holds 10 and 20."""
    text = _THOUSANDS.sub("", text).replace(r"\!", "").replace(r"\$", "$").translate(_PLAIN)
    text = _FRACTION.sub(_flat, text)
    for match in _NUMBER.finditer(text):
        yield from _numbers(match)


def _flat(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    return f"{whole} {above}/{below}" if whole else f"{above}/{below}"


def _numbers(match: re.Match[str]) -> Iterator[Number]:
    """A match is one number, or a list such as 1,2,3, which no thousands separator groups like this."""
    first = match["first"].rstrip(",")
    whole, dot, decimals = first.partition(".")
    if "," in whole and not _GROUPED.fullmatch(whole):
        *others, whole = whole.split(",")
        for other in others:
            if other and len(other) <= MOST_DIGITS:
                yield Number(Fraction(int(other)))
    value = _exact(whole.replace(",", "") + dot + decimals + (match["exponent"] or ""))
    if value is not None and match["below"]:
        below = int(match["below"])
        value = value + Fraction(int(match["above"]), below) if below else None
    elif value is not None and match["second"]:
        second = _exact(match["second"].replace(",", ""))
        value = value / second if second else None
    if value is not None:
        negative = (match["sign"] == "-") != bool(match["minus"])
        yield Number(-value if negative else value, percent=bool(match["percent"]))


def _exact(text: str) -> Fraction | None:
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > MOST_DIGITS or len(exponent) > 4 or abs(int(exponent or 0)) > LARGEST_EXPONENT:
        return None
    return Fraction(text)
