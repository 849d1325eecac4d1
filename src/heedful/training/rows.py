"""Rows that cannot be trained on as they are: all of them are found before the first step, by one policy for every
command (`--on-bad-row`), and what was dropped or cut is counted.

    data = read(config, stream_demonstrations)        # its first row is there
    rows = data.fit(sequences(tokenizer, limit))      # row by row: what a parser refuses, what is too long

A row is read and turned into tokens once. What training needs of it is kept on disk (`training.kept`), its text is not.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformers import PreTrainedTokenizerBase

from heedful.configs.common import ByEpochs, Drawing, OnBadRow, Training
from heedful.data.reading import Reading, Source, named
from heedful.data.sources import is_held_out, stream_questions
from heedful.data.tokens import (
    encode_demonstration,
    encode_group,
    encode_prompt,
    excerpt,
    no_room,
    stop_tokens,
)
from heedful.errors import UserError
from heedful.rewards import Parts as Rewards
from heedful.run.settings import FREE, identity
from heedful.training.kept import Judgment, Kept, KeptTasks, Parts, kept
from heedful.training.trust import EQUAL, UNASKED, Raters
from heedful.types import (
    Comparison,
    Demonstration,
    Facts,
    LabelledResponse,
    Prompt,
    Rated,
    Sample,
    Task,
)

Item = TypeVar("Item")
Answered = TypeVar("Answered", bound=Comparison | Demonstration | LabelledResponse | Rated)
Made = TypeVar("Made")
Sequences = tuple[Answered, list[Sample]]  # an item, and its responses each after the prompt
ROWS = Path("state", "rows")  # in the run's folder
SOME = 64  # items in whole that the checks before training choose theirs from
log = logging.getLogger("heedful")


class TooLong(UserError):
    """A row that could be cut; `shorter` is what is left of it then, None where nothing would be."""

    def __init__(self, reason: str, shorter: Callable[[], Any]):
        super().__init__(reason)
        self.shorter = shorter


@dataclass
class Rows(Generic[Item]):
    """The items of a source with their places, what becomes of its bad rows, and how many were dropped and cut."""

    source: Source
    policy: OnBadRow
    items: Iterable[tuple[str, Item]]
    reading: Reading
    left_out: int = 0
    cut: int = 0
    first: str = field(default="", repr=False)

    def fit(self, make: Callable[[Item], Made]) -> Iterator[Made]:
        """What `make` makes of every item. It raises `TooLong` or UserError of one that cannot be used as it is; by
        the policy that is an error with file and line, or the item is dropped, or cut where it can be."""
        number = 0
        for place, item in self.items:
            try:
                made = make(item)
            except UserError as error:
                if self.policy == "stop":
                    more = ", cut shortens them" if isinstance(error, TooLong) else ""
                    hint = f"--on-bad-row drop leaves such rows out{more}"
                    raise UserError(f"{place}: {error}; {hint}") from error
                cuts = self.policy == "cut"
                made = error.shorter() if cuts and isinstance(error, TooLong) else None
                self._count(f"{place}: {error}", cut=made is not None)
                if made is None:
                    continue
            number += 1
            yield made
        if not number and self.reason:
            raise UserError(f"{self.name}: no row can be used; the first: {self.reason}")
        self._tell()

    @property
    def name(self) -> str:
        """The source as it was typed."""
        return named(self.source)

    @property
    def dropped(self) -> int:
        """Rows that were left out, once all are read."""
        return self.reading.skipped + self.left_out

    @property
    def reason(self) -> str:
        """Why the first of them was."""
        return self.reading.reason or self.first

    @property
    def note(self) -> dict[str, Any]:
        """For the run's record; empty where every row was used as it is."""
        if not self.dropped and not self.cut:
            return {}
        return {
            "data": self.name,
            "rows": self.reading.rows,
            "dropped": self.dropped,
            "cut": self.cut,
            "first": self.reason,
        }

    def _count(self, reason: str, *, cut: bool) -> None:
        self.first = self.first or reason
        self.cut, self.left_out = self.cut + cut, self.left_out + (not cut)

    def _tell(self) -> None:
        if self.note:
            log.warning(
                "%s: of %d rows %d were dropped and %d cut (--on-bad-row %s), the first: %s",
                self.name,
                self.reading.rows,
                self.dropped,
                self.cut,
                self.policy,
                self.reason,
            )


def read(
    config: Training | Drawing,
    reader: Callable[..., Iterable[Item]],
    source: Source | None = None,
    columns: Sequence[str] | None = None,
) -> Rows[Item]:
    """The rows of a config's data, or of another source, by one of those that stream in `data.sources`: read one by one
    as they are asked for, and the first at once, so that a wrong file is told before a model is loaded."""
    reading, policy = Reading(), config.on_bad_row
    of: Any = config
    source = of.data if source is None else source
    columns = of.columns if columns is None else columns
    items = reader(source, columns=columns, skip_bad=policy != "stop", reading=reading)
    placed = ((reading.place, item) for item in items)
    return Rows(source, policy, chain([*islice(placed, 1)], placed), reading)  # type: ignore[arg-type]


def parts_of(
    config: ByEpochs,
    data: Rows[Answered],
    reader: Callable[..., Iterable[Answered]],
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    judged: Callable[[Answered, list[Sample]], Iterable[Judgment]],
    raters: Raters = UNASKED,
) -> Parts:
    """As `--eval-data` has it, or a share of the prompts by their hash; `judged` says what is to be learned of an item,
    and `raters` remembers whose it is.

    Where one part has nothing the other is both. A run that goes on has them from where `fit` kept them, and reads no
    more than a few rows for the checks.
    """
    make, some = sequences(tokenizer, limit), Spread[Answered](SOME)
    key = "" if raters.way != EQUAL else _key(config, limit)
    folder = config.out / ROWS
    if not config.restart and (before := kept(folder, key, config.out.parent)) is not None:
        return replace(before, some=[item for item, _ in islice(data.fit(make), SOME)])
    train, held = Kept(config.out.parent), Kept(config.out.parent)
    own = config.eval_data is not None
    for item, samples in data.fit(make):
        some.add(item)
        apart = not own and is_held_out(item.prompt, config.held_out)
        made = raters.signed(item, judged(item, samples), learned=not apart)
        (held if apart else train).extend(made)
    notes = [data.note]
    if config.eval_data is not None:
        other = read(config, reader, config.eval_data)
        for item, samples in other.fit(make):
            held.extend(raters.signed(item, judged(item, samples), learned=False))
        notes.append(other.note)
    notes = [note for note in notes if note]
    return Parts(train or held, held or train, some.items, notes, key)


def _key(config: ByEpochs, limit: int) -> str:
    """Of all that decides which rows there are, in which tokens."""
    told = identity(config)
    free = {name: value for name, value in told["settings"].items() if name not in FREE}
    settled = [free, config.on_bad_row, limit, told["inputs"], told["sources"], told["versions"]]
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()


class Spread(Generic[Item]):
    """`most` items or a few more of a stream whose length nobody knows, evenly from its beginning to its end."""

    def __init__(self, most: int):
        self.most, self.every, self.number = most, 1, 0
        self.items: list[Item] = []

    def add(self, item: Item) -> None:
        if self.number % self.every == 0:
            self.items.append(item)
        self.number += 1
        if len(self.items) == 2 * self.most:
            self.items, self.every = self.items[::2], 2 * self.every


# ── prompts with responses ───────────────────────────────────────────────────────────────────────


def sequences(
    tokenizer: PreTrainedTokenizerBase, limit: int
) -> Callable[[Answered], Sequences[Answered]]:
    """For `Rows.fit`: an item and its responses as sequences of at most `limit` tokens."""

    def make(item: Answered) -> Sequences[Answered]:
        samples = encoded(tokenizer, item)
        before, longest = _prompt_length(samples[0]), max(len(s.tokens) for s in samples)
        if before >= limit or longest > limit:
            reason = no_room(item.prompt, before, 1, limit) or (
                f"a prompt of {before} tokens and a response of {longest - before} are longer than {limit} tokens: "
                f"{excerpt(item.prompt)!r}"
            )
            raise TooLong(reason, lambda: shorter(item, longest - before))
        return item, _told_apart(samples)

    def shorter(item: Answered, response: int) -> Sequences[Answered] | None:
        """The prompt's end and the response's beginning; no more than half is the response's where both are long."""
        room = limit - min(response, limit // 2)
        prompt = shortened(item.prompt, lambda p: len(encode_prompt(tokenizer, p)) <= room)
        if prompt is None:
            return None
        item = replace(item, prompt=prompt)
        try:
            return item, _told_apart([trimmed(s, limit) for s in encoded(tokenizer, item)])
        except UserError:
            return None

    return make


def encoded(
    tokenizer: PreTrainedTokenizerBase, item: Comparison | Demonstration | LabelledResponse | Rated
) -> list[Sample]:
    """An item's responses in whole, each after the prompt."""
    if isinstance(item, Comparison):
        return encode_group(tokenizer, item.prompt, item.responses)
    if isinstance(item, LabelledResponse | Rated):
        return encode_group(tokenizer, item.prompt, [item.response])
    return [encode_demonstration(tokenizer, item)]


def trimmed(sample: Sample, limit: int) -> Sample:
    """A sequence without what is beyond `limit` tokens; then it does not teach where to stop."""
    if len(sample.tokens) <= limit:
        return sample
    return replace(
        sample,
        tokens=sample.tokens[:limit],
        mask=sample.mask[:limit],
        logprobs=sample.logprobs[:limit],
        stop_reason="length",
    )


def _told_apart(samples: list[Sample]) -> list[Sample]:
    if len(samples) > 1 and len({s.tokens for s in samples}) == 1:
        raise UserError("the responses are the same tokens, so nothing was compared")
    return samples


def _prompt_length(sample: Sample) -> int:
    return (*sample.mask, True).index(True)


# ── prompts to answer ────────────────────────────────────────────────────────────────────────────


def askable(
    tokenizer: PreTrainedTokenizerBase, window: int, max_tokens: int, reward: Rewards | None
) -> Callable[[tuple[Prompt, Facts]], Task]:
    """For `Rows.fit`: a prompt as a task that leaves room for `max_tokens` in the policy's window and in the context of
    each reward model, and whose row has what the rewards ask for."""

    def room(prompt: Prompt) -> str | None:
        reason = no_room(prompt, len(encode_prompt(tokenizer, prompt)), max_tokens, window)
        return reason or (reward.room(prompt, max_tokens) if reward else None)

    def task(prompt: Prompt, facts: Facts) -> Task:
        ids = tuple(encode_prompt(tokenizer, prompt))
        return Task(prompt, ids, tuple(stop_tokens(tokenizer, prompt)), facts)

    def make(row: tuple[Prompt, Facts]) -> Task:
        prompt, facts = row
        if reward is not None:
            reward.check(prompt, facts)
        made = task(prompt, facts)
        reason = no_room(prompt, len(made.tokens), max_tokens, window)
        if reason := reason or (reward.room(prompt, max_tokens) if reward else None):
            raise TooLong(reason, lambda: shorter(prompt, facts))
        return made

    def shorter(prompt: Prompt, facts: Facts) -> Task | None:
        cut = shortened(prompt, lambda p: room(p) is None)
        return None if cut is None else task(cut, facts)

    return make


def asked_of(
    config: Training,
    data: Rows[tuple[Prompt, Facts]],
    held_out: Source | None,
    make: Callable[[tuple[Prompt, Facts]], Task],
) -> tuple[Sequence[Task], list[Task], list[dict[str, Any]]]:
    """(prompts to train on, on disk where they are of files, those of `--eval-data`, what to record)."""
    in_memory = isinstance(data.items, list)  # an environment's own tasks, whatever they hold
    todo, held = [] if in_memory else KeptTasks(config.out.parent), []
    todo.extend(data.fit(make))
    notes = [data.note]
    if held_out is not None:
        other = read(config, stream_questions, held_out)
        held = list(other.fit(make))
        notes.append(other.note)
    return todo, held, [note for note in notes if note]


def prompts_of(tasks: Sequence[Task]) -> list[Prompt]:
    """Some of their prompts, evenly from the whole, for the checks before training."""
    return [tasks[i].prompt for i in range(0, len(tasks), max(1, len(tasks) // SOME))]


def shortened(prompt: Prompt, fits: Callable[[Prompt], bool]) -> Prompt | None:
    """The longest end of a prompt that fits: of a text its last words; of a conversation its last turns from a user's
    on, after the system message, and if need be the last words of the last. None where nothing fits."""
    if fits(prompt):
        return prompt
    if isinstance(prompt, str):
        return _last_words(prompt, fits)
    first = prompt[0]
    system = prompt[:1] if first.role in ("system", "developer") else ()
    users = [i for i, m in enumerate(prompt) if m.role == "user" and i >= len(system)]
    if not users:
        return None

    def since(turn: int, content: str | None = None) -> Prompt:
        rest = list(prompt[turn:])
        if not system:  # the tools and the template's variables stand with the first turn
            rest[0] = replace(rest[0], tools=first.tools, template_kwargs=first.template_kwargs)
        if content is not None:
            rest[0] = replace(rest[0], content=content)
        return (*system, *rest)

    for turn in users:
        if fits(since(turn)):
            return since(turn)
    last = users[-1]
    content = _last_words(prompt[last].content, lambda text: fits(since(last, text)))
    return None if content is None else since(last, content)


def _last_words(text: str, fits: Callable[[str], bool]) -> str | None:
    """By bisection over the places where a word begins: a longer end has no fewer tokens."""
    begins = [i for i in range(1, len(text)) if text[i - 1].isspace() and not text[i].isspace()]
    low, high = 0, len(begins)  # the first end that fits is in begins[low:high]
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(text[begins[middle] :]) else (middle + 1, high)
    return text[begins[low] :] if low < len(begins) else None
