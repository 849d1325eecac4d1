"""The definition of a question kind, of which each module beside this one makes an instance, `KIND`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from heedful.errors import UserError

NAME = re.compile(r"[a-z][a-z0-9_]{0,9}")  # what the column task.kind and a file's name can hold
Part = Literal["ranks", "scores", "rules"]
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Question:
    """What an answer speaks of, by place on the screen: `shown[0]` is the completion under A."""

    options: dict[str, Any]
    shown: Sequence[str]
    lengths: Callable[[], Sequence[int]]  # characters of the texts shown; looked up when called
    comment: str | None = None  # what stands beside the answer


@dataclass(frozen=True)
class Parsed:
    """An answer by completion id, as the tables keep it."""

    outcome: str  # answer, tie, both_bad, skip, flag
    text: str | None = None
    strength: float | None = None
    confidence: float | None = None
    ranks: tuple[tuple[str, int], ...] = ()
    scores: tuple[tuple[str, str, float], ...] = ()  # completion, axis, value
    rules: tuple[tuple[str, str, bool], ...] = ()  # completion, rule, kept
    critiques: tuple[tuple[str, int | None, int | None, str], ...] = ()  # start and end: a span
    edit: tuple[str, str] | None = None  # completion, new text; it beats its original
    demonstration: str | None = None
    turns: int = 0
    verdicts: tuple[bool | None, ...] = ()  # of each turn's reply, whether it keeps the task's rule
    # Of several questions on one screen: name, kind and answer of each that was answered; nothing of the above then.
    answers: tuple[tuple[str, str, Parsed], ...] = ()


@dataclass(frozen=True)
class Measure:
    """How the answers of two raters are compared: which part of them, and on which scale (Krippendorff's α)."""

    of: Part
    level: Level
    # Between the farthest values; None: a scale on which two are never quite the same.
    span: float | None


@dataclass(frozen=True)
class Kind:
    """A kind of question: its options, answers and exports. The JavaScript module `page` draws it.

    `parse` gets an answer without its comment and confidence, and raises `UserError` where it does not fit. It
    turns places into completion ids, so that nothing that leaves the server names a completion.
    """

    name: str
    label: str  # its answers, on the lead's pages
    does: str  # what people do
    keeps: str  # what is kept of it
    form: str  # its answer, for those who write programs, in Markdown
    responses: tuple[int, int]  # the least and the most that are shown
    parse: Callable[[Question, dict[str, Any]], Parsed]
    example: dict[str, Any]  # an answer where the least responses are shown, with `example_options`
    exports: tuple[str, ...]  # the forms of store.export in which its answers have rows
    options: tuple[str, ...] = ()
    example_options: dict[str, Any] = field(default_factory=dict)
    check: Callable[[dict[str, Any]], dict[str, Any]] = dict  # options, with their defaults
    comment: str = "text"  # the comment's name: another where the answer itself is a text
    measure: Measure | None = None
    swaps: bool = False  # two side by side: asked again the other way round, position bias measured
    anchored: bool = (
        False  # the first of a task's responses is shown first, and the others are about it
    )
    axes: tuple[str, ...] = ()  # that it scores, where its options name none
    talks: bool = False  # a conversation with models comes before the answer: store.talk
    plays: bool = False  # or, of those, with an environment: store.plays
    replies: int = 2  # in such a conversation to each message: of two the better goes on
    apart: str = ""  # of this option each entry is a question of its own
    page: Path | None = None  # None: web/static/rate/kinds/NAME.js
    # A judge's ranks by place as an answer of this kind, where its answers rank.
    ranked: Callable[[Sequence[int | None]], dict[str, Any]] = lambda ranks: {"ranks": list(ranks)}

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UserError(
                f"a kind of question is named by 1 to 10 of a–z, 0–9 and _, not '{self.name}'"
            )


def grouped(
    limits: tuple[int, int],
    completions: Sequence[str],
    *,
    together: bool = False,
    anchored: bool = False,
) -> Iterator[Sequence[str]]:
    """A prompt's responses by screen: each alone, every combination of a fixed number, or all at once. `together`: all
    at once where each could stand alone, too. `anchored`: another stands first from combination to combination."""
    minimum, maximum = limits
    if minimum == maximum:
        for k, asked in enumerate(combinations(completions, minimum)):
            turn = k % minimum if anchored else 0
            yield asked[turn:] + asked[:turn]
    elif minimum == 1 and not together:
        yield from ([c] for c in completions)
    elif completions and len(completions) >= minimum:
        yield completions
