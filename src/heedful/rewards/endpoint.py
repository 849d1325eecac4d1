"""A language model behind an OpenAI-compatible server as a reward: a grade for each response, from 0 to 1."""

from __future__ import annotations

import re
from collections.abc import Sequence

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.remote.endpoint import Answer, Endpoint, fill
from heedful.types import Facts, Group, Prompt
from heedful.waiting import all_of

GRADES = tuple("0123456789")
QUESTION = """Here are a prompt and a response to it. Grade the response from 0 (wrong, useless or harmful) to 9 (correct, helpful and clear; nothing could be better). Length in itself is no merit. Answer with one digit.

Prompt:
{prompt}

Response:
{response}

Grade (0 to 9):"""  # noqa: E501
PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")


class EndpointReward:
    """`types.Reward`: the expected grade by the log-probs of the digits where the server offers them, over 9.

    A rubric may name columns of the prompt's row, such as {answer}. An answer without a grade is an error.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self.question = endpoint.question(QUESTION, ("prompt", "response"))
        self.columns = set(PLACE.findall(self.question)) - {"prompt", "response"}

    def check(self, prompt: Prompt, facts: Facts) -> None:
        """A column that the rubric names and the row has not."""
        if missing := self.columns - set(facts):
            raise UserError(
                f"{self.endpoint.where}: {self.endpoint.options.rubric} has a place for {{{min(missing)}}}, "
                f"and the row of {prompt_text(prompt)[:60]!r} has no such column"
            )

    async def __call__(self, group: Group) -> Sequence[float]:
        return await all_of(self._grade(group, text) for text in group.responses)

    async def _grade(self, group: Group, response: str) -> float:
        values = {name: str(group.facts[name]) for name in self.columns}
        values |= {"prompt": prompt_text(group.prompt), "response": response}
        answer = await self.endpoint.ask(fill(self.question, values), GRADES)
        if (value := grade(answer)) is None:
            raise UserError(
                f"{self.endpoint.where}: the answer {answer.text[:80]!r} has no grade from 0 to 9; "
                "a model that thinks first needs answer_tokens=2000"
            )
        return value


def grade(answer: Answer) -> float | None:
    """From 0 to 1; None of an answer without a digit that stands alone."""
    if answer.probabilities:
        return sum(int(digit) * p for digit, p in answer.probabilities.items()) / 9
    digits = re.findall(r"(?<![\d.])(\d)(?:\s?/\s?9)?(?![\d.]*\d)", answer.text)
    return int(digits[0]) / 9 if digits else None
