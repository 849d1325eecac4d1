r"""The final answer in a text, and numbers as people and models write them.

A final answer stands behind the last `####` (GSM8K) or in the last `\boxed{…}` (MATH), whichever comes
later. Every pattern here is linear in the text's length: what a model writes is hostile, and a pattern
that backtracks, or the number 1e999999999, would stop the run.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

MOST_DIGITS = 60  # a longer number is noise, and exact arithmetic with it slow
LARGEST_EXPONENT = 60

_SIGNS = dict.fromkeys(map(ord, "−–‒﹣－"), "-")
_NARROW = "\u00a0\u2009\u202f"  # spaces that group digits, as a common space does not reliably
_SPACES = dict.fromkeys(map(ord, _NARROW), " ")
_DIGITS = {ord("０") + i: str(i) for i in range(10)}
_PARTS = {ord("½"): " 1/2", ord("¼"): " 1/4", ord("¾"): " 3/4", ord("⁄"): "/", ord("％"): "%"}
_COMMON = _SIGNS | _SPACES | _DIGITS | _PARTS

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
        return text[hashes + 4 :].partition("\n")[0].strip()
    depth, start = 1, box + len(r"\boxed{")
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i].strip()
    return ""  # a box that was never closed holds no answer


def final_number(text: str) -> Number | None:
    r"""The first number of the final answer, or the last number of a text that marks none.

    −1,234.5 · $3 · .5 · 3/4 · 1 1/2 · \frac{3}{4} · 2e3 · 50 %. In "10-20" the last number is 20, not −20.
    """
    marked = final_answer(text)
    matches = _NUMBER.finditer(_plain(text if marked is None else marked))
    if marked is not None:
        match = next(matches, None)
        return _number(match, 0) if match else None
    last = deque(matches, maxlen=1)
    return _number(last[0], -1) if last else None


def _plain(text: str) -> str:
    text = _THOUSANDS.sub("", text).replace(r"\!", "").replace(r"\$", "$").translate(_COMMON)
    return _FRACTION.sub(_flat, text)


def _flat(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    return f"{whole} {above}/{below}" if whole else f"{above}/{below}"


def _number(match: re.Match[str], which: int) -> Number | None:
    """A match is one number, or a list such as 1,2,3, which no thousands are grouped like; `which` of it."""
    negative = (match["sign"] == "-") != bool(match["minus"])
    whole, dot, decimals = match["first"].rstrip(",").partition(".")
    if "," in whole and not _GROUPED.fullmatch(whole):
        if which == 0:
            value = _exact(whole.partition(",")[0])
            return None if value is None else Number(-value if negative else value)
        negative, whole = False, whole.rpartition(",")[2]
    value = _exact(whole.replace(",", "") + dot + decimals + (match["exponent"] or ""))
    if value is not None and match["below"]:
        below = int(match["below"])
        value = value + Fraction(int(match["above"]), below) if below else None
    elif value is not None and match["second"]:
        second = _exact(match["second"].replace(",", ""))
        value = value / second if second else None
    if value is None:
        return None
    return Number(-value if negative else value, percent=bool(match["percent"]))


def _exact(text: str) -> Fraction | None:
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > MOST_DIGITS or len(exponent) > 4 or abs(int(exponent or 0)) > LARGEST_EXPONENT:
        return None
    return Fraction(text)
