"""A language model behind an OpenAI-compatible server as a judge: which of two responses is better, in both orders."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.raters.votes import pairs, ranked
from heedful.remote.endpoint import Answer, Endpoint, fill
from heedful.types import Comparison, Prompt
from heedful.waiting import all_of

log = logging.getLogger("heedful")
PATIENCE = (
    12  # so many answers without a verdict, and none with one, are a judge that does not judge
)
QUESTION = """Here are a prompt and two responses to it. Which response is better: more correct, more helpful, clearer, and free of harm? Length in itself is no merit. Answer with one letter: A, B, or C if they are equally good.

Prompt:
{prompt}

Response A:
{a}

Response B:
{b}

The better response (A, B or C):"""  # noqa: E501
WORTH = {"A": 1.0, "B": 0.0, "C": 0.5}


class EndpointJudge:
    """`types.Rater`. P(first is better) is the mean of both orders; C, a tie, counts ½.

    Asking both ways round takes out the model's love of a place or a letter (Zheng et al. 2023, §3.4). Log-probs are
    read where the server offers them, else the letter. An answer without a verdict counts as a tie, is counted, and
    told; if the first dozen are such, judging stops.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint, self.name = endpoint, f"llm:{endpoint.model}"
        self.question = endpoint.question(QUESTION, ("prompt", "a", "b"))
        self.verdicts = self.unclear = 0

    async def judge(self, prompt: Prompt, responses: Sequence[str]) -> Comparison:
        """Two calls for every two different responses."""
        began = time.monotonic()
        asked = pairs(responses)
        found = await all_of(self.probability(prompt, responses[i], responses[j]) for i, j in asked)
        probabilities = dict(zip(asked, found, strict=True))
        return ranked(prompt, responses, probabilities, self.name, time.monotonic() - began)

    def summary(self) -> str:
        """What it has cost, and how often nothing was said."""
        e, unclear = self.endpoint, ""
        if self.unclear:
            unclear = f"; {self.unclear} of {self.unclear + self.verdicts} answers without a verdict count as ties"
        return f"{self.name}: {e.calls} calls, {e.tokens} tokens{unclear}"

    async def probability(self, prompt: Prompt, first: str, second: str) -> float:
        """That `first` is the better one."""
        forward, backward = await all_of(
            (self._prefers_a(prompt, first, second), self._prefers_a(prompt, second, first))
        )
        return (forward + 1 - backward) / 2

    async def _prefers_a(self, prompt: Prompt, a: str, b: str) -> float:
        text = fill(self.question, {"prompt": prompt_text(prompt), "a": a, "b": b})
        answer = await self.endpoint.ask(text, tuple(WORTH))
        worth = preference(answer)
        if worth is not None:
            self.verdicts += 1
            return worth
        self.unclear += 1
        if not self.verdicts and self.unclear >= PATIENCE:
            raise UserError(
                f"{self.endpoint.where}: none of the first {PATIENCE} answers has a verdict (A, B or C); one is "
                f"{answer.text[:80]!r}; a model that thinks first needs answer_tokens=2000"
            )
        if self.unclear == 1:
            log.warning(
                "%s: an answer without a verdict, %r, counts as a tie", self.name, answer.text[:80]
            )
        return 0.5


def preference(answer: Answer) -> float | None:
    """How much A is preferred, from 0 to 1; None of an answer without a verdict."""
    if answer.probabilities:
        return sum(WORTH[word] * p for word, p in answer.probabilities.items())
    begins = re.match(r"[\W_]*([ABC])\b", answer.text)
    letters = re.findall(r"\b([ABC])\b", answer.text.strip().rpartition("\n")[2])
    if begins and not re.match(r"[\W_]*A [a-z]", answer.text):
        return WORTH[begins[1]]
    return WORTH[letters[0]] if len(set(letters)) == 1 else None
