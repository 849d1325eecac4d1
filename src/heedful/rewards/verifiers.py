"""Verifiable rewards: 1 for a response whose final answer is the one in the prompt's row, else 0 (METHODS row 35).

The right answer stands in the column `answer`, `solution` or `target`; a worked solution is fine, its own
final answer counts ("… #### 72"). A row without an answer is an error: nobody can be right or wrong there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.registry import register
from heedful.rewards.answers import Number, final_answer, final_number
from heedful.types import Facts, Prompt

COLUMNS = ("answer", "solution", "target")


@register("reward", "exact_match", help="1 where the final answer is the right text")
def exact_match(*, column: str = "", ignore_case: bool = True) -> Callable[..., float]:
    """1 where the final answer, or a whole response that marks none, is the right text; a list holds several.

    Runs of spaces, a full stop at the end, dollar signs of mathematics and forms of Unicode make no difference.
    """

    def plain(text: str) -> str:
        marked = final_answer(text)
        text = unicodedata.normalize("NFKC", text if marked is None else marked)
        text = " ".join(text.split()).strip("$ ").removesuffix(".").rstrip()
        return text.casefold() if ignore_case else text

    def score(prompt: Prompt, response: str, facts: Facts) -> float:
        truth = right_answer(prompt, facts, column)
        accepted = truth if isinstance(truth, list | tuple) else [truth]
        return float(plain(response) in {plain(str(a)) for a in accepted})

    return score


@register("reward", "numeric", help="1 where the final number is the right one")
def numeric(*, column: str = "", tolerance: float = 0.0) -> Callable[..., float]:
    """1 where the final number is the right one: exactly, as fractions, or within `tolerance`."""
    if tolerance < 0:
        raise ValueError("tolerance must not be negative")

    def score(prompt: Prompt, response: str, facts: Facts) -> float:
        truth = right_number(prompt, right_answer(prompt, facts, column))
        said = final_number(response)
        return float(said is not None and said.equals(truth, tolerance))

    return score


def right_answer(prompt: Prompt, facts: Facts, column: str = "") -> Any:
    """The value of `column`, or of the first of `COLUMNS` that the prompt's row has."""
    wanted = (column,) if column else COLUMNS
    for name in wanted:
        if facts.get(name) is not None:
            return facts[name]
    raise UserError(
        f"a verifier needs the right answer in a column {' or '.join(f'`{n}`' for n in wanted)}; the row of "
        f"{prompt_text(prompt)[:60]!r} has beside its prompt {', '.join(facts) or 'nothing'}"
    )


def right_number(prompt: Prompt, truth: Any) -> Number:
    """A row's right answer as a number."""
    found = final_number(str(truth))
    if found is None or isinstance(truth, bool):
        raise UserError(
            f"the right answer {str(truth)[:60]!r} to {prompt_text(prompt)[:60]!r} has no number"
        )
    return found
