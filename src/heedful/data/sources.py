"""Files → types, in the columns that users already have: plain, conversational, TRL's formats, HH-RLHF."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeVar

from heedful.data import foreign
from heedful.data.columns import (
    answer,
    as_chat,
    column,
    ends_with_question,
    messages_of,
    prompt_columns,
    prompt_from,
    prompt_from_json,
    prompt_text,
    prompt_to_json,
    response,
    string,
    turns,
    with_template,
)
from heedful.data.comparisons import (
    COMPARED,
    comparison_of,
    is_compared,
    prompt_of_pair,
    prompts_once,
    tell_repeats,
    unpaired_of,
)
from heedful.data.critiques import critique_in, question, said_of
from heedful.data.files import Row, read_rows, write_rows
from heedful.data.forms import asked, standard
from heedful.data.reading import (
    Aside,
    Reading,
    Source,
    named,
    read_items,
    read_table,
    reader_of,
)
from heedful.data.splits import fold_of, is_held_out, split_by_prompt
from heedful.errors import UserError
from heedful.types import Comparison, Demonstration, Facts, LabelledResponse, Prompt

__all__ = [
    "demonstrations",
    "demonstrations_of",
    "facts_of",
    "fold_of",
    "is_held_out",
    "prompt_columns",
    "prompt_from_json",
    "prompt_of",
    "prompt_text",
    "prompt_to_json",
    "read_comparisons",
    "read_demonstrations",
    "read_prompts",
    "read_questions",
    "read_rows",
    "read_samples",
    "read_texts",
    "read_triplets",
    "read_unpaired",
    "samples_of",
    "split_by_prompt",
    "stream_comparisons",
    "stream_demonstrations",
    "stream_questions",
    "stream_texts",
    "stream_unpaired",
    "write_rows",
]

Item = TypeVar("Item")
PROMPTS = ("prompt", "messages")  # the first of these columns that a row has
TRIPLET = ("anchor", "positive", "negative")
JUDGED = ("chosen", "rejected", "responses", "ranking")


def stream_texts(
    source: Source,
    columns: Sequence[str] = (),
    *,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[str]:
    """Raw documents from the column `text`; empty ones are left out and counted."""

    def parse(where: str, row: dict[str, Any]) -> list[str | Aside]:
        text = string(where, row, "text")
        return [text if text.strip() else Aside("an empty text is left out")]

    text = None
    rows = read_table(source, columns, broken=True)
    for text in read_items(source, rows, parse, skip_bad=skip_bad, reading=reading):
        yield text
    if text is None:
        raise UserError(f"{named(source)}: every `text` is empty")


def read_texts(source: Source, columns: Sequence[str] = ()) -> list[str]:
    """All of `stream_texts`."""
    return list(stream_texts(source, columns))


def read_prompts(source: Source, columns: Sequence[str] = ()) -> list[Prompt]:
    """Prompts as `read_questions` has them."""
    return [prompt for prompt, _ in read_questions(source, columns)]


def read_questions(source: Source, columns: Sequence[str] = ()) -> list[tuple[Prompt, Facts]]:
    """All of `stream_questions`."""
    return list(stream_questions(source, columns))


def stream_questions(
    source: Source,
    columns: Sequence[str] = (),
    *,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[tuple[Prompt, Facts]]:
    """Prompts, each with the other columns of its row, which a reward may look at. See `prompt_of`."""
    rows = read_table(source, columns, lines=True, broken=True)

    def parse(where: str, row: dict[str, Any]) -> list[tuple[Prompt, Facts]]:
        return [(prompt_of(where, row), facts_of(row))]

    return read_items(source, rows, parse, skip_bad=skip_bad, reading=reading)


def prompt_of(where: str, row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row, in whichever columns it stands: of a conversation what comes before its last answer, of a
    comparison what both sides share."""
    row = asked(row)
    if "conversation_a" in row:
        return comparison_of(where, row).prompt
    pair = {"chosen", "rejected"} <= row.keys()
    # A text beside whole conversations is a copy of one of their turns, and never what is asked of the model.
    copied = isinstance(row.get("prompt"), str) and (isinstance(row.get("messages"), list) or pair)
    if pair and (copied or not row.keys() & set(PROMPTS)):
        return prompt_of_pair(where, row)
    if not copied and ("prompt" in row or "messages" not in row):
        value = column(where, row, "prompt", "messages", "question")
        prompt = as_chat(prompt_from(where, "prompt", value), row.get("completion", ""))
        return with_template(where, row, prompt)
    messages = messages_of(where, "messages", row["messages"])
    if len(messages) > 1 and messages[-1].role == "assistant":
        messages = messages[:-1]
    return with_template(where, row, ends_with_question(where, "messages", messages))


def facts_of(row: Mapping[str, Any], *others: str) -> Facts:
    """The columns of a row but those of its prompt, what was judged of it, and `others`, read-only."""
    left = asked(row)
    prompt = next((name for name in PROMPTS if name in left), None)
    out = {prompt, *others, *(JUDGED if is_compared(left) else ())}
    return MappingProxyType({k: v for k, v in left.items() if k not in out})


def stream_comparisons(
    source: Source,
    columns: Sequence[str] = (),
    *,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[Comparison]:
    """Comparisons in every form that `data.foreign` knows: heedful's rankings, TRL's pairs, other tools' exports.

    Unusable rows (equal or empty responses) are errors, or left out and counted with `skip_bad`.
    """
    rows = read_table(source, columns, broken=True)
    items = foreign.comparisons(rows, source=source, skip_bad=skip_bad, reading=reading)
    return prompts_once(source, items, lambda: _again(source, columns, foreign.compared))


def read_comparisons(
    source: Source, *, skip_bad: bool | None = None, columns: Sequence[str] = ()
) -> list[Comparison]:
    """All of `stream_comparisons`."""
    return list(stream_comparisons(source, columns, skip_bad=skip_bad))


def stream_unpaired(
    source: Source,
    columns: Sequence[str] = (),
    *,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[LabelledResponse]:
    """Responses that were liked or not, from TRL's unpaired form or split from any form of comparison."""
    wanted = reader_of("prompt", "completion", "messages", "label", "kto_tag", *JUDGED)
    rows, item = read_table(source, columns, broken=True), None
    items = read_items(source, rows, unpaired_of, reads=wanted, skip_bad=skip_bad, reading=reading)
    for item in prompts_once(source, items, lambda: _again(source, columns, unpaired_of)):
        yield item
    if item is None:
        raise UserError(
            f"{named(source)}: every comparison is a tie, so no response was liked or disliked"
        )


def read_unpaired(
    source: Source, *, skip_bad: bool | None = None, columns: Sequence[str] = ()
) -> list[LabelledResponse]:
    """All of `stream_unpaired`."""
    return list(stream_unpaired(source, columns, skip_bad=skip_bad))


def stream_demonstrations(
    source: Source,
    columns: Sequence[str] = (),
    *,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
    best: float = 1.0,
) -> Iterator[Demonstration]:
    """From prompt + completion, or from messages: each assistant turn is a demonstration given the turns before it.

    A text prompt whose completion is a message is a user's turn. A sample whose `stop_reason` is
    `length` was truncated, and gets no end token. Of the rows only the `best` share by their `reward`.
    """
    rows = read_table(source, columns, broken=True)
    if best < 1:
        rows = _best(source, columns, rows, best)
    items = _demonstrations(rows, source, skip_bad, reading)
    return prompts_once(source, items, lambda: _again(source, columns, demonstrations_of))


def _best(
    source: Source, columns: Sequence[str], rows: Iterable[Row], share: float
) -> Iterator[Row]:
    """Those rows whose `reward` is that of the last of the best ones, or more: equal rewards are not told apart."""
    rewards = sorted((_reward(*row) for row in read_table(source, columns)), reverse=True)
    least = rewards[max(1, round(share * len(rewards))) - 1]
    return (row for row in rows if _reward(*row) >= least)


def _reward(where: str, row: Mapping[str, Any]) -> float:
    value = column(where, row, "reward")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(
            f"{where}: `reward` must be a finite number where the best rows are to be kept"
        )
    return float(value)


def read_demonstrations(source: Source, columns: Sequence[str] = ()) -> list[Demonstration]:
    """All of `stream_demonstrations`."""
    return list(stream_demonstrations(source, columns))


def demonstrations(rows: Iterable[Row], source: Source) -> list[Demonstration]:
    """The demonstrations in rows of a source."""
    items = list(_demonstrations(rows, source, None, None))
    return list(prompts_once(source, items, lambda: items))


def _demonstrations(
    rows: Iterable[Row], source: Source, skip_bad: bool | None, reading: Reading | None
) -> Iterator[Demonstration]:
    wanted = reader_of("prompt", "completion", "messages", "critique", "start", "end")
    return read_items(
        source, rows, demonstrations_of, reads=wanted, skip_bad=skip_bad, reading=reading
    )


def _again(
    source: Source,
    columns: Sequence[str],
    parse: Callable[[str, dict[str, Any]], Iterable[Item]],
) -> Iterator[Item]:
    """The items of a source in silence; whoever reads it aloud says what is wrong with a row."""
    for where, row in read_table(source, columns, broken=True):
        with suppress(UserError):
            yield from parse(where, row)


def read_triplets(source: Source, columns: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """(anchor, positive, negative), as `heedful export triplets` has them and sentence-transformers reads them: a text,
    another that is closer to it, and one that is not."""

    def parse(where: str, row: dict[str, Any]) -> list[tuple[str, str, str]]:
        anchor, near, far = (string(where, row, name) for name in TRIPLET)
        if near == far:
            raise UserError(f"{where}: `positive` and `negative` are the same text")
        return [(anchor, near, far)]

    return list(read_items(source, read_table(source, columns), parse))


def read_samples(source: Source, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows with a prompt and a completion, such as `heedful sample` writes; other columns are kept."""
    samples = list(read_items(source, read_table(source, columns), samples_of))
    tell_repeats(source, [(s["prompt"], s["completion"]) for s in samples])
    return samples


def demonstrations_of(where: str, row: Mapping[str, Any]) -> Iterator[Demonstration]:
    """The demonstrations in a row: one, or as many as its messages have assistant turns, or it has completions. Of a
    critique, which is no reason to imitate what it is about, that of writing it."""
    row = standard(row)
    if "critique" in row and {"prompt", "completion"} <= row.keys():
        yield _critic(where, row)
        return
    if "messages" in row and not {"prompt", "completion"} <= row.keys():
        yield from turns(where, row)
        return
    if "completion" not in row and is_compared(row):
        raise UserError(f"{where}: {COMPARED}")
    if "text" in row and not row.keys() & {"prompt", "completion"}:
        raise UserError(
            f"{where}: a `text` alone has no prompt and no answer; `train pretrain` learns from texts, here a "
            "`prompt` and a `completion` are wanted, or `messages`"
        )
    prompt = prompt_from(where, "prompt", column(where, row, "prompt", "messages"))
    completion = column(where, row, "completion")
    several = isinstance(completion, list) and all(isinstance(c, str) for c in completion)
    for said in completion if several else [completion]:
        text, calls = answer(where, "completion", said)
        asked_of = with_template(where, row, as_chat(prompt, said))
        yield Demonstration(asked_of, text, row.get("stop_reason") != "length", calls)


def _critic(where: str, row: Mapping[str, Any]) -> Demonstration:
    """A remark about a response as what a critic should say of it."""
    said = column(where, row, "completion")
    text = said if isinstance(said, str) else response(where, "completion", said)
    prompt = as_chat(prompt_from(where, "prompt", row["prompt"]), said)
    asked_of = question(prompt, text)
    return Demonstration(asked_of, said_of(asked_of, critique_in(where, row, text)))


def samples_of(where: str, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The samples in a row, in heedful's columns: one, or a row each for `responses` without a ranking."""
    if isinstance(shown := row.get("shown"), Mapping):  # a transcript, and what raters see of it
        row = {k: v for k, v in row.items() if k not in ("messages", "shown", "tools")} | dict(
            shown
        )
    row = standard(row)
    if "messages" in row and not {"prompt", "completion", "responses"} & row.keys():
        row = _last_answer(where, row)
    prompt_from(where, "prompt", column(where, row, "prompt"))
    several = row.get("responses")
    if isinstance(several, list) and "completion" not in row:
        rest = {k: v for k, v in row.items() if k not in ("responses", "ranking")}
        rows = [{**rest, "completion": text} for text in several]
    else:
        rows = [row]
    for one in rows:
        said = column(where, one, "completion")
        if isinstance(said, Mapping) or (
            said and isinstance(said, list) and isinstance(said[0], Mapping)
        ):
            one["completion"] = response(where, "completion", said)
        elif not isinstance(said, str):
            raise UserError(f"{where}: `completion` must be a string")
        if "index" in one and type(one["index"]) is not int:
            raise UserError(f"{where}: `index` must be a whole number, which sample of the prompt")
        yield one


def _last_answer(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation, such as a transcript, as its last answer and all that came before it."""
    messages = messages_of(where, "messages", row["messages"])
    answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
    if not answers or not answers[-1]:
        raise UserError(f"{where}: `messages` has no assistant turn that answers anything")
    before, said = messages[: answers[-1]], messages[answers[-1]]
    rest = {name: value for name, value in row.items() if name != "messages"}
    return {**rest, "prompt": prompt_to_json(before), "completion": said.content}
