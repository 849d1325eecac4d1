"""A critique by a principle, and what is written anew because of it (Bai et al. 2022, §3.1), in words of our own."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from heedful.data.sources import prompt_text
from heedful.remote.endpoint import fill
from heedful.types import Prompt

CRITIQUE = """Here are a prompt and a response to it. In one to three sentences, say where the response goes against this principle, or that it does not: {principle}

Prompt:
{prompt}

Response:
{response}

Critique:"""  # noqa: E501
REVISE = """Here are a prompt, a response to it, and a critique of the response. Write the response anew, so that it follows this principle and still answers the prompt: {principle} Write nothing but the new response.

Prompt:
{prompt}

Response:
{response}

Critique:
{critique}

New response:"""  # noqa: E501

Writer = Callable[[str], Awaitable[str]]  # a question → what a model writes


@dataclass(frozen=True)
class Revision:
    """One round: the principle, what was said by it, and the response that came of it."""

    principle: str
    critique: str
    completion: str


@dataclass(frozen=True)
class Revised:
    """A response with its rounds. One in which nothing was written leaves it as it was."""

    prompt: Prompt
    original: str
    revisions: tuple[Revision, ...] = field(default=())

    @property
    def completion(self) -> str:
        """What it says in the end."""
        return self.revisions[-1].completion if self.revisions else self.original


def chosen(principles: Sequence[str], prompt: Prompt, rounds: int, seed: int) -> list[str]:
    """A principle for each round, all different as long as there are enough; the same prompt has always the same."""
    rng = random.Random(f"{seed}/{prompt_text(prompt)}")
    drawn: list[str] = []
    while len(drawn) < rounds:
        drawn += rng.sample(principles, len(principles))
    return drawn[:rounds]


async def revised(
    write: Writer, prompt: Prompt, response: str, principles: Sequence[str]
) -> Revised:
    """One critique and one revision for each principle, each of what the round before has left."""
    now = Revised(prompt, response)
    for principle in principles:
        values = {
            "prompt": prompt_text(prompt),
            "response": now.completion,
            "principle": principle,
        }
        critique = (await write(fill(CRITIQUE, values))).strip()
        text = (await write(fill(REVISE, values | {"critique": critique}))).strip()
        made = Revision(principle, critique, text or now.completion)
        now = Revised(prompt, response, (*now.revisions, made))
    return now
