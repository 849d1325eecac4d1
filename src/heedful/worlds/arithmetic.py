"""`arithmetic`: sums of graded difficulty with one right answer, so that a verifier can be the reward.

Six levels: one-digit sums, differences (also below zero), products, three terms, two-digit terms, brackets
and products before sums. A demonstration works step by step and ends in a line `#### 42`, as GSM8K does;
the raw text is by people who work carefully, hastily and wrongly. A hash of the expression
decides what is held out; no text or training prompt has a held-out expression, not even as one of its steps.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from heedful.data.files import write_rows
from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Prompt

Split = Literal["train", "held_out"]
LEVELS = 6
HELD_OUT = 0.15
MAX_PROMPTS = {"train": 300, "held_out": 50}  # prompts of a level
PHRASINGS = ("What is {x}?", "How much is {x}?", "Work out {x}.", "Calculate {x}.")
GOLD = {"right": 1.0, "right, out of form": 0.5, "wrong": 0.0, "no answer": 0.0}
VOICES = tuple(GOLD)
SPEAKERS = {"careful": 0.55, "hasty": 0.15, "careless": 0.25, "clueless": 0.05}  # of the raw text

_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_EXPRESSION = re.compile(r"[(0-9][-+*() 0-9]*[)0-9]|[0-9]")
_FORM = re.compile(r"(?:^|\n)#### (-?[0-9]{1,9})\s*$")
_INTEGER = re.compile(r"(?<![0-9])-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """`text` such as `(3 - 5) * 4`; its `steps` are (`3 - 5`, −2) and (`-2 * 4`, −8)."""

    text: str
    level: int
    steps: tuple[tuple[str, int], ...]

    @property
    def answer(self) -> int:
        return self.steps[-1][1]

    @property
    def split(self) -> Split:
        digest = hashlib.sha256(self.text.encode()).digest()
        return "held_out" if digest[0] < HELD_OUT * 256 else "train"


def problems(split: Split, levels: int = LEVELS) -> list[Problem]:
    """All problems of a split up to a level; those of `train` have no held-out problem among their steps."""
    every_problem = _all()
    return [
        p
        for p in every_problem.values()
        if p.level <= levels
        and p.split == split
        and (split == "held_out" or all(_trainable(every_problem.get(text)) for text, _ in p.steps))
    ]


def working(problem: Problem) -> str:
    """The steps, a line each, and the answer in its form."""
    lines = [f"{text} = {value}" for text, value in problem.steps]
    return "\n".join([*lines, f"#### {problem.answer}"])


def corpus(seed: int, documents: int, levels: int = LEVELS) -> Iterator[str]:
    """Raw text: a problem of the train split and, below it, what somebody made of it."""
    rng, by_level = random.Random(f"arithmetic/corpus/{seed}"), _by_level("train", levels)
    for _ in range(documents):
        problem = rng.choice(rng.choice(by_level))
        speaker = rng.choices(list(SPEAKERS), list(SPEAKERS.values()))[0]
        yield f"{_phrased(problem, rng)}\n{_answered(problem, speaker, rng)}"


def gold(prompt: Prompt, response: str) -> float:
    """1 for a right last line `#### n`, ½ for the right number at the end of anything else, otherwise 0."""
    return GOLD[voice(prompt, response)]


def voice(prompt: Prompt, response: str) -> str:
    """One of `VOICES`."""
    answer, form = problem_of(prompt).answer, _FORM.search(response)
    if form:
        return "right" if int(form[1]) == answer else "wrong"
    numbers = _INTEGER.findall(response)
    if not numbers:
        return "no answer"
    return "right, out of form" if numbers[-1] == str(answer) else "wrong"


def problem_of(prompt: Prompt) -> Problem:
    """What a prompt asks for, in its last turn."""
    text = prompt if isinstance(prompt, str) else prompt[-1].content
    match = _EXPRESSION.search(text)
    problem = _all().get(match[0]) if match else None
    if problem is None:
        raise UserError(f"the world `arithmetic` does not know {prompt_text(prompt)[:80]!r}")
    return problem


@register("world", "arithmetic", help="sums and products with worked solutions, in six levels")
def write(
    out: Path, *, seed: int, documents: int, demonstrations: int, levels: int = LEVELS
) -> dict[str, Path]:
    """text, demonstrations, prompts (train) and held_out as .jsonl; all but the text with `answer` and `level`."""
    if not 1 <= levels <= LEVELS:
        raise UserError(f"--levels must be 1 to {LEVELS}, not {levels}")
    rng, by_level = random.Random(f"arithmetic/demonstrations/{seed}"), _by_level("train", levels)
    demonstrated = [rng.choice(rng.choice(by_level)) for _ in range(demonstrations)]
    rows = {
        "text": ({"text": t} for t in corpus(seed, documents, levels)),
        "demonstrations": (_row(p, rng, completion=working(p)) for p in demonstrated),
        "prompts": _prompts("train", seed, levels),
        "held_out": _prompts("held_out", seed, levels),
    }
    paths = {name: out / f"{name}.jsonl" for name in rows}
    for name, path in paths.items():
        write_rows(path, rows[name])
    return paths


def _prompts(split: Split, seed: int, levels: int) -> Iterator[dict[str, Any]]:
    """Of every level as many as there are, or `MAX_PROMPTS`; mixed."""
    rng = random.Random(f"arithmetic/{split}/{seed}")
    chosen = [
        p
        for part in _by_level(split, levels)
        for p in rng.sample(part, min(len(part), MAX_PROMPTS[split]))
    ]
    rng.shuffle(chosen)
    return (_row(p, rng) for p in chosen)


def _row(problem: Problem, rng: random.Random, **columns: str) -> dict[str, Any]:
    prompt = [{"role": "user", "content": _phrased(problem, rng)}]
    return {"prompt": prompt, **columns, "answer": str(problem.answer), "level": problem.level}


def _phrased(problem: Problem, rng: random.Random) -> str:
    return rng.choice(PHRASINGS).format(x=problem.text)


def _answered(problem: Problem, speaker: str, rng: random.Random) -> str:
    if speaker == "careful":
        return working(problem)
    if speaker == "hasty":
        return str(problem.answer)
    if speaker == "clueless":
        return "No idea."
    *steps, (text, value) = problem.steps  # careless: the last step is a little off
    miscalculated = (text, value + rng.choice((-10, -2, -1, 1, 2, 10)))
    return working(Problem(problem.text, problem.level, (*steps, miscalculated)))


def _by_level(split: Split, levels: int) -> list[list[Problem]]:
    candidates = problems(split, levels)
    return [[p for p in candidates if p.level == level] for level in range(1, levels + 1)]


def _trainable(problem: Problem | None) -> bool:
    return problem is None or problem.split == "train"


@cache
def _all() -> dict[str, Problem]:
    """Every problem there is, by its text."""
    return {p.text: p for p in _enumerate()}


def _enumerate() -> Iterator[Problem]:
    digits = range(10)
    for level, sign in enumerate("+-*", start=1):
        for a in digits:
            for b in digits:
                yield Problem(f"{a} {sign} {b}", level, (_step(a, sign, b),))
    for first, second in ("++", "+-", "-+", "--"):
        for n in range(1000):
            a, b, c = n // 100, n // 10 % 10, n % 10
            begun = _step(a, first, b)
            text = f"{a} {first} {b} {second} {c}"
            yield Problem(text, 4, (begun, _step(begun[1], second, c)))
    for sign in "+-":
        for a in range(10, 100):
            for b in range(10, 100):
                yield Problem(f"{a} {sign} {b}", 5, (_step(a, sign, b),))
    for n in range(1000):
        a, b, c = n // 100, n // 10 % 10, n % 10
        for sign in "+-":
            inner, product = _step(a, sign, b), _step(b, "*", c)
            yield Problem(f"({a} {sign} {b}) * {c}", 6, (inner, _step(inner[1], "*", c)))
            yield Problem(f"{a} {sign} {b} * {c}", 6, (product, _step(a, sign, product[1])))


def _step(a: int, sign: str, b: int) -> tuple[str, int]:
    return f"{a} {sign} {b}", _OPERATIONS[sign](a, b)
