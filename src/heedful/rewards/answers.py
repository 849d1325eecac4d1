r"""The final answer in a text, and numbers as people and models write them.

A final answer stands behind the last `####` (GSM8K) or in the last `\boxed{…}` (MATH), whichever comes
later. `read_answer` is the one reader of right answers and of responses alike: two readers of one text pay what is
wrong (the last number of 2√3 is 3, its first is 2). Every
pattern here is linear in the text's length: what a model writes is hostile, and a pattern that backtracks, or the
number 1e999999999, would stop the run.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 500  # characters of an answer
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
# What stands beside a number without changing it: units and words, spaces, dollars and brackets of LaTeX.
_BESIDE = re.compile(
    r"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname)\s*\{([^{}]{0,60})\}(?:\^\{?[0-9]\}?)?"
    r"|\^?\{?(?:\\circ|°)\}?|\\(?:left|right|quad|[ ,;:!()\[\]$])"
)
_MATHEMATICS = re.compile(r"[\\^_*/×·÷+√π<>≤≥±\-{]|(?<![A-Za-z])[a-ik-zA-Z](?=[( ]?[0-9])")
_BEFORE = re.compile(r"(?:[\^_/×·÷+√{]|(?<!\*)\*|\\[a-zA-Z]+|(?<![A-Za-z])[a-zA-Z])\s?$")
_BEHIND = re.compile(
    r"[\^√π]|\\(?!text|mathrm|mbox|[ ,;!()\[\]%$])|\s?[*/×·÷][^*]|(?: ?[xyz]|[a-cefikn-rt-w])(?![a-zA-Z])"
)
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value, and whether a percent sign stood behind it."""

    value: Fraction
    percent: bool = False

    @property
    def text(self) -> str:
        """As mathematics is written: 3/4, 50\\%."""
        return f"{self.value}{chr(92) + '%' if self.percent else ''}"

    def equals(self, other: Number, tolerance: float = 0.0) -> bool:
        """Within `tolerance`. 50 % equals 50, where only the sign was left out, and 0.5, which it is."""
        mine, theirs = {self.value}, {other.value}
        if self.percent != other.percent:
            mine |= {self.value / 100} if self.percent else set()
            theirs |= {other.value / 100} if other.percent else set()
        return any(abs(a - b) <= tolerance for a in mine for b in theirs)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that a text gives: a plain number, or what has to be read as mathematics."""

    number: Number | None
    formula: str = ""


def read_answer(text: str) -> Answer:
    r"""The final answer, of right answers and responses alike.

    What is marked, or is no sentence, is the answer as a whole: 2\sqrt{3} is no 3, and "18 or 19" is no 18. Of
    sentences that mark nothing the last number is, unless it is a piece of a formula. Numbers are −1,234.5 · $3 · .5 ·
    3/4 · 1 1/2 · \frac{3}{4} · 2e3 · 50 %. In "10-20" the last number is 20, not −20.
    """
    marked = final_answer(text)
    whole = text.strip() if marked is None else marked
    if marked is None and len(_WORDS.findall(_BESIDE.sub(" ", whole[-LONGEST:]))) > 2:
        number = _last_number(whole)
        return Answer(number, "" if number else whole[-LONGEST:])
    if len(whole) > LONGEST:
        return Answer(None)
    number = _only_number(whole)
    return Answer(number, "" if number else rf"\boxed{{{whole}}}" if whole else "")


def _only_number(text: str) -> Number | None:
    """The number that a text is, with words or units around it at most; of an equation the right side."""
    left, equals, right = text.rpartition("=")
    if equals and not re.search(r"[,;]|\b(?:or|and)\b", left + right):
        text = right
    text = _plain(text)
    matches = list(_NUMBER.finditer(text))
    if len(matches) != 1 or _BEHIND.match(text, matches[0].end()):
        return None
    match = matches[0]
    rest = f"{text[: match.start()]} \0 {text[match.end() :]}".rstrip(". ")
    beside = re.sub(r"\*\*|--+|(?<=\s)-(?=\s)|(?<=[A-Za-z])[-/](?=[A-Za-z])", " ", rest)
    if _MATHEMATICS.search(beside) or _BEFORE.search(text[: match.start()]):
        return None
    return _number(match)


def _last_number(text: str) -> Number | None:
    """The last number of a text, None where it is a piece of a formula."""
    text = _plain(text)
    last = deque(_NUMBER.finditer(text), maxlen=1)
    if not last:
        return None
    before, behind = text[max(0, last[0].start() - 20) : last[0].start()], last[0].end()
    if _BEFORE.search(before) or _BEHIND.match(text, behind):
        return None
    return _number(last[0])


def final_answer(text: str) -> str | None:
    """What stands behind the last `####` (to the end of its line) or in the last box; None without either."""
    hashes, box = text.rfind("####"), max(text.rfind(name) for name in (r"\boxed", r"\fbox"))
    if hashes < 0 and box < 0:
        return None
    if hashes > box:
        return text[hashes + 4 :].partition("\n")[0].strip()
    opening = _BOX.match(text, box)
    if opening is None:  # \boxed 5
        return text[box:].partition(" ")[2].partition(" ")[0].strip("$.")
    depth, start = 1, opening.end()
    for i in range(start, len(text)):
        if text[i - 1] == "\\":  # the braces of a set
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i].strip()
    return ""  # a box that was never closed holds no answer


def _plain(text: str) -> str:
    text = (
        _BESIDE.sub(r" \1 ", _THOUSANDS.sub("", text))
        .replace(r"\!", "")
        .replace(r"\$", "$")
        .translate(_COMMON)
    )
    return _FRACTION.sub(_flat, text)


def _flat(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    return f"{whole} {above}/{below}" if whole else f"{above}/{below}"


def _number(match: re.Match[str]) -> Number | None:
    """The value of a match; a list such as 1,2,3, which no thousands are grouped like, has none."""
    negative = (match["sign"] == "-") != bool(match["minus"])
    whole, dot, decimals = match["first"].rstrip(",").partition(".")
    if "," in whole and not _GROUPED.fullmatch(whole):
        return None
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
