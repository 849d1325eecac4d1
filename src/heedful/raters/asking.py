"""How models are asked what is better, and whether what they say is about the responses at all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from heedful.data.sources import prompt_text
from heedful.disk import read_text
from heedful.errors import UserError
from heedful.types import Comparison, Prompt

BETTER = "is better: more correct, more helpful, clearer, and free of harm? Length in itself is no merit."
PAIR = f"""Here are a prompt and two responses to it. Which response {BETTER} Answer with one letter: A, B, or C if they are equally good.

Prompt:
{{prompt}}

Response A:
{{a}}

Response B:
{{b}}

The better response (A, B or C):"""  # noqa: E501
GOOD = "a good response: correct, helpful, clear, and free of harm?"
ONE = f"""Here are a prompt and a response to it. Is it {GOOD} Answer Yes or No.

Prompt:
{{prompt}}

Response:
{{response}}

Answer (Yes or No):"""
FOLLOWS = {
    BETTER: "follows this principle better: {principle}",
    GOOD: "a response that follows this principle: {principle}",
}
ENOUGH = 25  # pairs in both orders, from which a judge is known by its letters
MOST = 0.8  # of them with the same letter both times


def by_principle(question: str) -> str:
    """The question that asks for a principle in place of everything that is good."""
    for general, special in FOLLOWS.items():
        question = question.replace(general, special)
    return question


def read_principles(where: str, path: Path | None) -> tuple[str, ...]:
    """One a line; empty lines and those that begin with # are none."""
    if path is None:
        return ()
    lines = read_text(path, where).splitlines()
    principles = tuple(s for line in lines if (s := line.strip()) and not s.startswith("#"))
    if not principles:
        raise UserError(f"{where}: {path} has no principle; one a line is wanted")
    return principles


def drawn(principles: Sequence[str], prompt: Prompt, responses: Sequence[str]) -> str | None:
    """The principle by which these responses are compared (Bai et al. 2022, §4.1): one of them, always the same."""
    if not principles:
        return None
    text = "\0".join((prompt_text(prompt), *sorted(responses)))
    return principles[int(hashlib.sha256(text.encode()).hexdigest(), 16) % len(principles)]


def preferred(first: float, second: float) -> float:
    """P(first is better) of two log-odds or log-likelihood ratios: σ(first − second)."""
    return 1 / (1 + math.exp(min(700.0, second - first)))


@dataclass
class Letters:
    """How often a judge has said the same letter in both orders of a pair.

    Such an answer is about places. Both orders are asked, so that it makes a tie and no wrong label; but of a judge
    that nearly always answers so the few labels that are left are accidents, and it is refused.
    """

    where: str
    """What begins the refusal: the flag and the judge."""
    force: bool = False
    pairs: int = 0
    same: int = 0

    def heard(self, forward: float, backward: float) -> None:
        """P(A) in both orders; who cannot choose has said no letter.

        UserError: nearly all pairs got the same letter twice."""
        if 0.5 in (forward, backward):
            return
        self.pairs += 1
        self.same += (forward > 0.5) == (backward > 0.5)
        if not self.force and self.pairs >= ENOUGH and self.same > MOST * self.pairs:
            raise UserError(
                f"{self.where} says the same letter in both orders of {self.same} of {self.pairs} pairs: it judges "
                "places, not responses. Another form (form=yesno, or form=contrast of a local model) may do better; "
                "force=true goes on"
            )

    def told(self) -> str:
        """A sentence, or nothing where nothing was asked."""
        if not self.pairs:
            return ""
        consistent = 1 - self.same / self.pairs
        return f"its letter followed the response in both orders of {consistent:.0%} of {self.pairs} pairs"


def agreements(people: Sequence[Comparison], judge: Sequence[Comparison]) -> list[float]:
    """Of each pair of responses between which people chose: 1 where the judge chose the same, ½ where it did not
    choose, 0 where the other."""
    found = []
    for theirs, its in zip(people, judge, strict=True):
        for i, j in combinations(range(len(theirs.responses)), 2):
            wanted, given = (c.places[j] - c.places[i] for c in (theirs, its))
            if wanted:
                found.append(0.5 if not given else float((wanted > 0) == (given > 0)))
    return found
