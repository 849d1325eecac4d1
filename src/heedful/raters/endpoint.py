"""A language model behind an OpenAI-compatible server as a judge: of two responses in both orders, or of each alone."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.raters.asking import (
    ONE,
    PAIR,
    Letters,
    by_principle,
    drawn,
    preferred,
    read_principles,
)
from heedful.raters.votes import pairs, ranked
from heedful.remote.endpoint import Answer, Endpoint, Options, fill
from heedful.types import Comparison, Prompt
from heedful.waiting import all_of

log = logging.getLogger("heedful")
PATIENCE = (
    12  # so many answers without a verdict, and none with one, are a judge that does not judge
)
WORTH = {"ab": {"A": 1.0, "B": 0.0, "C": 0.5}, "yesno": {"Yes": 1.0, "No": 0.0}}
FORMS = {"ab": (PAIR, ("prompt", "a", "b")), "yesno": (ONE, ("prompt", "response"))}
SURE = 1e-4  # a server that tells no log-probs says Yes or No


@dataclass(frozen=True)
class JudgeOptions(Options):
    """What stands in a judge's brackets."""

    form: str = "ab"  # two responses by letter in both orders, or yesno: each by itself
    principles: Path | None = None  # a file, one a line: each comparison is asked about one of them
    force: bool = False  # go on with a judge that says the same letter in both orders


class EndpointJudge:
    """`types.Rater`. P(first is better) is the mean of both orders; C, a tie, counts ½.

    Asking both ways round takes out the model's love of a place or a letter (Zheng et al. 2023, §3.4). By `yesno` it is
    σ of the difference of log P(Yes) − log P(No). Log-probs are read where the server offers them, else the words. An
    answer without a verdict counts as a tie, is counted, and told; if the first dozen are such, judging stops.
    """

    def __init__(self, endpoint: Endpoint):
        options = endpoint.options if isinstance(endpoint.options, JudgeOptions) else JudgeOptions()
        self.endpoint, self.name, self.form = endpoint, f"llm:{endpoint.model}", options.form
        if self.form not in FORMS:
            raise UserError(f"{endpoint.where}: form must be ab or yesno, not {self.form!r}")
        self.principles = read_principles(endpoint.where, options.principles)
        default, needed = FORMS[self.form]
        if self.principles:
            default, needed = by_principle(default), (*needed, "principle")
        self.question = endpoint.question(default, needed)
        self.letters = Letters(endpoint.where, options.force)
        self.verdicts = self.unclear = 0

    async def judge(self, prompt: Prompt, responses: Sequence[str]) -> Comparison:
        """Two calls for every two different responses, or one for each."""
        began, principle = time.monotonic(), drawn(self.principles, prompt, responses)
        asked = pairs(responses)
        if self.form == "ab":
            found = await all_of(
                self.probability(prompt, responses[i], responses[j], principle) for i, j in asked
            )
            said = dict(zip(asked, found, strict=True))
        else:
            different = list(dict.fromkeys(responses))
            found = await all_of(self.worth(prompt, r, principle) for r in different)
            worth = dict(zip(different, found, strict=True))
            said = {(i, j): preferred(worth[responses[i]], worth[responses[j]]) for i, j in asked}
        seconds = time.monotonic() - began
        return replace(ranked(prompt, responses, said, self.name, seconds), explanation=principle)

    def summary(self) -> str:
        """What it has cost, how often nothing was said, and how far its letters can be used."""
        e, more = self.endpoint, ""
        if self.unclear:
            more = f"; {self.unclear} of {self.unclear + self.verdicts} answers without a verdict count as ties"
        told = f"{e.calls} calls, {e.tokens} tokens{more}" if e.calls else ""
        told = "; ".join(filter(None, (told, self.letters.told())))
        return f"{self.name}: {told}" if told else ""

    async def probability(
        self, prompt: Prompt, first: str, second: str, principle: str | None = None
    ) -> float:
        """That `first` is the better one."""
        forward, backward = await all_of(
            self._verdict({"prompt": prompt_text(prompt), "a": a, "b": b}, principle)
            for a, b in ((first, second), (second, first))
        )
        self.letters.heard(forward, backward)
        return (forward + 1 - backward) / 2

    async def worth(self, prompt: Prompt, response: str, principle: str | None = None) -> float:
        """The log-odds of Yes, in nats."""
        values = {"prompt": prompt_text(prompt), "response": response}
        yes = min(max(await self._verdict(values, principle), SURE), 1 - SURE)
        return math.log(yes / (1 - yes))

    async def _verdict(self, values: dict[str, str], principle: str | None) -> float:
        """From 0 to 1: of A, or of Yes."""
        worth = WORTH[self.form]
        text = fill(self.question, values | ({"principle": principle} if principle else {}))
        answer = await self.endpoint.ask(text, tuple(worth))
        said = preference(answer, worth)
        if said is not None:
            self.verdicts += 1
            return said
        self.unclear += 1
        if not self.verdicts and self.unclear >= PATIENCE:
            words = ", ".join(worth)
            raise UserError(
                f"{self.endpoint.where}: none of the first {PATIENCE} answers has a verdict ({words}); one is "
                f"{answer.text[:80]!r}; a model that thinks first needs answer_tokens=2000"
            )
        if self.unclear == 1:
            log.warning(
                "%s: an answer without a verdict, %r, counts as a tie", self.name, answer.text[:80]
            )
        return 0.5


def preference(answer: Answer, worth: Mapping[str, float] = WORTH["ab"]) -> float | None:
    """How much A, or Yes, is preferred, from 0 to 1; None of an answer without a verdict."""
    if answer.probabilities:
        return sum(worth[word] * p for word, p in answer.probabilities.items())
    words = "|".join(worth)
    begins = re.match(rf"[\W_]*({words})\b", answer.text)
    said = re.findall(rf"\b({words})\b", answer.text.strip().rpartition("\n")[2])
    if begins and not re.match(r"[\W_]*A [a-z]", answer.text):
        return worth[begins[1]]
    return worth[said[0]] if len(set(said)) == 1 else None
