"""Verifiable rewards: 1 for a response whose final answer is the one in the prompt's row, else 0.

The right answer stands in the column `answer`, `solution` or `target`; a worked solution is fine, its own
final answer counts ("… #### 72"). Right answers and responses are read by the same reader. A row without an answer
that this reader can read is an error: nobody can be right or wrong there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.registry import register
from heedful.rewards import formulas
from heedful.rewards.answers import Answer, final_answer, read_answer
from heedful.types import Facts, Prompt

COLUMNS = ("answer", "solution", "target")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\{([^{}]{0,200})\}")


@register("reward", "exact_match", help="1 where the final answer is the right text")
def exact_match(*, column: str = "", ignore_case: bool = True) -> Callable[..., float]:
    """1 where the final answer, or a whole response that marks none, is the right text; a list holds several.

    Runs of spaces, a full stop at the end, dollar signs of mathematics and forms of Unicode make no difference.
    """

    def plain(text: str) -> str:
        marked = final_answer(text)
        text = unicodedata.normalize("NFKC", text if marked is None else marked)
        text = " ".join(_TEXT.sub(r"\1", text).split()).strip("$ ").removesuffix(".").rstrip()
        return text.casefold() if ignore_case else text

    def accepted(prompt: Prompt, facts: Facts) -> set[str]:
        truth = right_answer(prompt, facts, column)
        texts = {
            plain(_written(a)) for a in (truth if isinstance(truth, list | tuple) else [truth])
        }
        if not all(texts) or not texts:
            raise UserError(f"the right answer to {prompt_text(prompt)[:60]!r} is empty")
        return texts

    def score(prompt: Prompt, response: str, facts: Facts) -> float:
        return float(plain(response) in accepted(prompt, facts))

    return checked(score, accepted)


@register("reward", "numeric", help="1 where the final number or formula is the right one")
def numeric(*, column: str = "", tolerance: float = 0.0) -> Callable[..., float]:
    """1 where the final number or formula is worth the right one: exactly, as fractions, or within `tolerance`.

    Formulas (roots, sets, intervals, matrices, several solutions) are compared by math-verify, whose decimals
    count to six digits.
    """
    if tolerance < 0:
        raise ValueError("tolerance must not be negative")

    def truths(prompt: Prompt, facts: Facts) -> list[Answer]:
        truth = right_answer(prompt, facts, column)
        return [
            _right_number(prompt, a)
            for a in (truth if isinstance(truth, list | tuple) else [truth])
        ]

    def score(prompt: Prompt, response: str, facts: Facts) -> float:
        given = read_answer(response)
        return float(any(_same(truth, given, tolerance) for truth in truths(prompt, facts)))

    return checked(score, truths)


def checked(
    score: Callable[..., float], check: Callable[[Prompt, Facts], Any]
) -> Callable[..., float]:
    """A scorer whose rows can be checked before anything is sampled: `check` raises what scoring would."""
    score.check = check  # type: ignore[attr-defined]
    return score


def right_answer(prompt: Prompt, facts: Facts, column: str = "") -> Any:
    """The value of `column`, or of the first of `COLUMNS` that the prompt's row has."""
    wanted = (column,) if column else COLUMNS
    for name in wanted:
        value = facts.get(name)
        if value is not None and value == value:  # NaN is how tables say that there is none
            return value
    raise UserError(
        f"a verifier needs the right answer in a column {' or '.join(f'`{n}`' for n in wanted)}; the row of "
        f"{prompt_text(prompt)[:60]!r} has beside its prompt {', '.join(facts) or 'nothing'}"
    )


def _right_number(prompt: Prompt, truth: Any) -> Answer:
    """A row's right answer as a number or a formula."""
    answer = read_answer(_written(truth))
    readable = answer.number is not None or (answer.formula and formulas.readable(answer.formula))
    if not readable or isinstance(truth, bool):
        raise UserError(
            f"the right answer {str(truth)[:60]!r} to {prompt_text(prompt)[:60]!r} has no number and no formula; "
            "exact_match compares text"
        )
    return answer


def _same(truth: Answer, given: Answer, tolerance: float) -> bool:
    if truth.number is not None and given.number is not None:
        return given.number.equals(truth.number, tolerance)
    sides = [_formula(truth), _formula(given)]
    return all(sides) and formulas.equal(*sides, tolerance)


def _formula(answer: Answer) -> str:
    return answer.formula or (rf"\boxed{{{answer.number.text}}}" if answer.number else "")


def _written(truth: Any) -> str:
    """A right answer as text; a table that has gaps makes 72.0 of 72."""
    whole = isinstance(truth, float) and truth.is_integer() and abs(truth) < 1e15
    return str(int(truth) if whole else truth)
