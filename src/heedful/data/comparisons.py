"""Rows → comparisons and labelled responses: rankings, TRL's preference and unpaired forms, HH-RLHF's transcripts
with an implicit prompt, battles of Chatbot Arena."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any, TypeVar

from heedful import exact
from heedful.data.columns import (
    as_chat,
    column,
    messages_of,
    name_in,
    prompt_from,
    prompt_to_json,
    response,
    with_template,
)
from heedful.data.forms import WIDE, standard
from heedful.data.forms import WINNERS as WINNER_COLUMNS
from heedful.data.published import published
from heedful.data.reading import Source, named
from heedful.data.transcripts import joined, merged, split, transcript
from heedful.errors import UserError, did_you_mean
from heedful.types import Comparison, Demonstration, LabelledResponse, Prompt, places

Answered = TypeVar("Answered", Comparison, LabelledResponse, Demonstration)
log = logging.getLogger("heedful")
COMPARED = (
    "a comparison is no answer to imitate: `train dpo`, `train reward` and their kin learn from it, and `train "
    "preferred_ft` to write what was preferred"
)
MOST_SECONDS = 1e9  # of one answer: thirty years
WINNERS = {"model_a": (1, 2), "model_b": (2, 1)}  # of the arena; all else is a tie


def unpaired_of(where: str, row: Mapping[str, Any]) -> list[LabelledResponse]:
    """One from prompt, completion and label. Of a comparison the best are liked, the worst not, the others left out."""
    names = {} if "label" in row else {"kto_tag": "label"}  # LLaMA-Factory's name
    row = standard({names.get(n, n): value for n, value in row.items()})
    if "messages" in row and "prompt" not in row and "label" in row:  # as LLaMA-Factory has it
        messages = row["messages"] if isinstance(row["messages"], list) else []
        row = {**row, "prompt": messages[:-1], "completion": messages[-1:]}
    if "chosen" not in row and ("label" in row or "completion" in row):
        label = label_of(where, row)
        completion = column(where, row, "completion")
        prompt = as_chat(prompt_from(where, "prompt", column(where, row, "prompt")), completion)
        text = response(where, "completion", completion)
        who, weight = name_in(where, row, "rater"), weight_in(row)
        return [LabelledResponse(with_template(where, row, prompt), text, label, who, weight)]
    c = comparison_of(where, row)
    best, worst = min(c.places), max(c.places)
    return [
        LabelledResponse(c.prompt, text, place == best, c.rater, c.weight)
        for text, place in zip(c.responses, c.places, strict=True)
        if best < worst and place in (best, worst)
    ]


def is_compared(row: Mapping[str, Any]) -> bool:
    """Whether a row in heedful's columns says what is better than what."""
    return {"chosen", "rejected"} <= row.keys() or {"responses", "ranking"} <= row.keys()


def label_of(where: str, row: Mapping[str, Any]) -> bool:
    """Whether a response was liked: true or false, 1 or 0, in CSV as words."""
    label = column(where, row, "label")
    word = label.strip().lower() if isinstance(label, str) else label
    for value, words in ((True, ("true", "1", "1.0")), (False, ("false", "0", "0.0"))):
        if word in words or (type(word) in (bool, int, float) and word == value):
            return value
    raise UserError(f"{where}: `label` must be true (liked) or false, not {label!r}")


def comparison_of(where: str, row: Mapping[str, Any]) -> Comparison:
    """A row with chosen and rejected, or with responses and ranking, in whichever tool's columns."""
    row = published(dict(row))
    if {"conversation_a", "conversation_b"} <= row.keys():
        return _battle(where, row)
    given, row = row, standard(row)
    pair = {"chosen", "rejected"} <= row.keys()
    if "responses" in row and not pair:
        if "prompt" in row and "ranking" not in row:
            raise UserError(f"{where}: {_unranked(given)}")
        found = _ranking(where, row)
    elif {"completion", "label"} <= row.keys() and not pair:
        raise UserError(
            f"{where}: a single `completion` with a `label` compares nothing; train on it with kto or bco"
        )
    elif not pair and "ranking" not in row and {"completion", "messages"} & row.keys():
        raise UserError(
            f"{where}: a demonstration does not say what is better than what, and `train sft` learns from it; found "
            f"{', '.join(row)}; --columns chosen=… says which column it is"
        )
    else:
        found = _pair(where, row)
    prompt = with_template(where, row, found.prompt)
    return found if prompt is found.prompt else replace(found, prompt=prompt)


def prompt_of_pair(where: str, row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row with `chosen` and `rejected`, whatever is to be said of these."""
    return with_template(where, row, _sides(where, row)[0])


def _pair(where: str, row: Mapping[str, Any]) -> Comparison:
    prompt, chosen, rejected = _sides(where, row)
    responses = (response(where, "chosen", chosen), response(where, "rejected", rejected))
    if responses[0] == responses[1]:
        raise UserError(f"{where}: `chosen` and `rejected` are the same, so nothing was compared")
    return Comparison(prompt, responses, (1, 2), **extras(where, row, 2))


def _sides(where: str, row: Mapping[str, Any]) -> tuple[Prompt, Any, Any]:
    """The prompt of a pair, and both responses as the row has them."""
    chosen: Any = column(where, row, "chosen", "responses")
    rejected: Any = column(where, row, "rejected")
    texts = isinstance(chosen, str) and isinstance(rejected, str)
    if not texts:
        chosen, rejected = ([c] if isinstance(c, Mapping) else c for c in (chosen, rejected))
    if "prompt" in row and not (texts and _holds_transcripts(row["prompt"], chosen, rejected)):
        prompt = prompt_from(where, "prompt", row["prompt"])
        if all(isinstance(c, list) and len(c) > 1 for c in (chosen, rejected)):
            # Whole conversations that repeat the prompt; a text prompt is a copy of one of their turns.
            shared, chosen, rejected = _split_messages(where, chosen, rejected)
            if not _same_turns(prompt, shared):
                raise UserError(f"{where}: `chosen` does not begin with the turns of `prompt`")
            prompt = shared
        elif not isinstance(rejected, str):
            prompt = as_chat(prompt, chosen)
    elif texts:
        prompt, chosen, rejected = _split_text(where, chosen, rejected)
    else:
        prompt, chosen, rejected = _split_messages(where, chosen, rejected)
    return prompt, chosen, rejected


def _same_turns(prompt: Prompt, turns: Prompt) -> bool:
    """Whether turns are those of a prompt; one that is text holds one of them, or is in one."""
    if not isinstance(prompt, str):
        return turns == prompt
    words = prompt.strip()
    texts = [m.content.strip() for m in turns if not isinstance(m, str)]
    return any(words in text or (text and text in words) for text in texts)


def _holds_transcripts(prompt: Any, chosen: str, rejected: str) -> bool:
    """Whether both sides are whole transcripts that begin with the prompt."""
    beginning = prompt.strip() if isinstance(prompt, str) else ""
    if not beginning:
        return False
    return all(c.strip().startswith(beginning) and transcript(c) for c in (chosen, rejected))


def _battle(where: str, row: Mapping[str, Any]) -> Comparison:
    """Two conversations side by side; the prompt is what they share."""
    ours, theirs = (
        messages_of(where, name, row[name]) for name in ("conversation_a", "conversation_b")
    )
    shared = split(ours, theirs)
    if not shared:
        raise UserError(f"{where}: the two conversations share no opening turn of the user")
    if {m.role for m in (*ours, *theirs)} - {"system", "user", "assistant"}:
        raise UserError(f"{where}: battles with tools cannot be read")
    texts = tuple(response(where, "conversation_a", joined(c[shared:])) for c in (ours, theirs))
    if texts[0] == texts[1]:
        raise UserError(f"{where}: both conversations are the same, so nothing was compared")
    return Comparison(
        ours[:shared],
        texts,
        WINNERS.get(str(column(where, row, "winner")), (1, 1)),
        rater=name_in(where, row, "judge"),
        order_shown=(0, 1),
    )


def prompts_once(
    source: Source, items: Iterable[Answered], again: Callable[[], Iterable[Answered]]
) -> Iterator[Answered]:
    """The items of a source, each prompt once: where every response of a file of texts begins with its prompt, that is
    cut off, and told.

    A row alone may begin so by chance; a whole file does not: where the first does, `again` reads them all before.
    """
    stream = iter(items)
    first = next(stream, None)
    if first is None:
        return
    if not (_repeats(first) and all(map(_repeats, again()))):
        yield first
        yield from stream
        return
    log.warning("%s: every response repeats its prompt, which is cut off there", named(source))
    for item in chain([first], stream):
        yield _cut(item, len(str(item.prompt)))


def tell_repeats(source: Source, samples: Sequence[tuple[Any, str]]) -> None:
    """A warning where every completion begins with its prompt, as pipelines of `transformers` return them. A model may
    have written that, so it stays."""
    if samples and all(isinstance(p, str) and _begins(p, text) for p, text in samples):
        log.warning(
            "%s: every completion repeats its prompt; cut it off if the model did not write it again",
            named(source),
        )


def _repeats(item: Comparison | LabelledResponse | Demonstration) -> bool:
    prompt = item.prompt
    return (
        isinstance(prompt, str)
        and bool(prompt.strip())
        and all(_begins(prompt, text) for text in _texts(item))
    )


def _texts(item: Comparison | LabelledResponse | Demonstration) -> tuple[str, ...]:
    if isinstance(item, Comparison):
        return item.responses
    return (item.response if isinstance(item, LabelledResponse) else item.completion,)


def _begins(prompt: str, text: str) -> bool:
    rest = text[len(prompt) :]
    return (
        text.startswith(prompt)
        and bool(rest.strip())
        and (rest[0].isspace() or prompt[-1].isspace())
    )


def _cut(item: Any, length: int) -> Any:
    if isinstance(item, Comparison):
        return replace(item, responses=tuple(r[length:] for r in item.responses))
    if isinstance(item, LabelledResponse):
        return replace(item, response=item.response[length:])
    return replace(item, completion=item.completion[length:])


def _ranking(where: str, row: Mapping[str, Any]) -> Comparison:
    prompt = prompt_from(where, "prompt", column(where, row, "prompt"))
    responses, ranking = row["responses"], column(where, row, "ranking")
    if not isinstance(responses, Sequence) or isinstance(responses, str) or len(responses) < 2:
        raise UserError(f"{where}: `responses` must be a list of at least two")
    texts = tuple(response(where, "responses", r) for r in responses)
    whole = isinstance(ranking, Sequence) and all(
        r is None or (type(r) is int and r >= 1) for r in ranking
    )
    if not whole or len(ranking) != len(texts) or all(r is None for r in ranking):
        raise UserError(
            f"{where}: `ranking` must hold one whole number from 1 (best) for each of the "
            f"{len(texts)} responses, or null for those that are worse than these and in no order"
        )
    if len(set(texts)) < len(texts):
        raise UserError(f"{where}: `responses` holds the same response twice")
    # One alone that has no rank is the last: there is nothing that it could be in no order with.
    ranks = places(ranking) if [*ranking].count(None) == 1 else ranking
    return Comparison(prompt, texts, tuple(ranks), **extras(where, row, len(texts)))


def _unranked(row: Mapping[str, Any]) -> str:
    """What is said of responses without a ranking, in the file's own columns."""
    names = [n for n in row if n == "responses" or WIDE.fullmatch(n)]
    responses = ", ".join(f"`{n}`" for n in names)
    if winner := next((n for n in WINNER_COLUMNS if n in row), None):
        return f"`{winner}` is {row[winner]!r}, which names none of {responses}, nor a tie"
    return (
        f"nothing ranks {responses}: a `ranking` or a `winner` is expected{did_you_mean('ranking', row)}, found "
        f"{', '.join(row)}; responses that nobody has compared are samples: `heedful import samples` brings them "
        "before people"
    )


def extras(where: str, row: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Who compared, how strongly and when, where the row says so."""
    names = ("strength", "rater", "order_shown", "seconds", "policy_version", "created_at")
    extras = {n: row[n] for n in names if row.get(n) is not None}
    for name, most in (("strength", 1.0), ("seconds", MOST_SECONDS)):
        if name in extras and (problem := exact.number(extras[name], 0, most)):
            exact.refuse(f"{where}: `{name}`", problem, extras[name])
    if (weight := weight_in(row)) is not None:
        extras["weight"] = weight
    if isinstance(why := row.get("explanation"), str) and why.strip():
        extras["explanation"] = why
    for name in ("rater", "policy_version"):
        if name in extras:
            extras[name] = name_in(where, row, name)
    if "created_at" in extras:
        extras["created_at"] = _date(where, extras["created_at"])
    if "order_shown" in extras:
        order = extras["order_shown"]
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(map(str, range(count))):
            raise UserError(f"{where}: `order_shown` must list the responses 0 to {count - 1} once")
        extras["order_shown"] = tuple(map(int, order))
    return extras


def weight_in(row: Mapping[str, Any]) -> float | None:
    """How much a row counts. Many files have a column of this name for something else: what is no weight is none."""
    value: Any = row.get("weight")
    return None if exact.number(value, 0) else float(value)


def _date(where: str, value: Any) -> str:
    """A date as text: as it was, or of a Parquet file's dates, or of seconds since 1970."""
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    try:
        exact.refuse("", exact.number(value), value)
        return datetime.fromtimestamp(value, UTC).isoformat()
    except (UserError, ValueError, OverflowError, OSError):
        what = "must be a date such as 2024-05-01T10:00:00Z, or seconds since 1970"
        raise UserError(f"{where}: `created_at` {what}, not {exact.shown(value)}") from None


def _split_text(where: str, chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """Implicit prompts: the turns that two transcripts share, or the common beginning of plain texts."""
    ours, theirs = transcript(chosen), transcript(rejected)
    if ours and theirs:
        shared = split(ours, theirs)
        if shared == 0:
            raise UserError(f"{where}: `chosen` and `rejected` share no opening turn of the human")
        for rest in (ours[shared:], theirs[shared:]):
            if rest and rest[0].role != "assistant":
                raise UserError(f"{where}: `chosen` and `rejected` differ in a turn of the human")
        return merged(ours[:shared]), joined(ours[shared:]), joined(theirs[shared:])
    end = 0
    while end < min(len(chosen), len(rejected)) and chosen[end] == rejected[end]:
        end += 1
    # Cut at a word's beginning, so that no word is torn between prompt and response.
    while end and not chosen[end - 1 : end].isspace():
        end -= 1
    end = max(0, end - 1) if end else 0
    if not chosen[:end].strip():
        raise UserError(
            f"{where}: there is no column `prompt`, and `chosen` and `rejected` share no beginning "
            "that could serve as one"
        )
    return chosen[:end], chosen[end:], rejected[end:]


def _split_messages(where: str, chosen: Any, rejected: Any) -> tuple[Prompt, Any, Any]:
    ours = messages_of(where, "chosen", chosen)
    theirs = messages_of(where, "rejected", rejected)
    last = {ours[-1].role, theirs[-1].role}
    if len(ours) < 2 or ours[:-1] != theirs[:-1] or last != {"assistant"}:
        raise UserError(
            f"{where}: without a column `prompt`, `chosen` and `rejected` must be the same "
            "conversation up to a last assistant message"
        )
    if ours[-1].tool_calls or theirs[-1].tool_calls:
        raise UserError(
            f"{where}: `chosen` or `rejected` ends with a call of a tool, not with text"
        )
    return (
        prompt_from(where, "chosen", prompt_to_json(ours[:-1])),
        ours[-1].content,
        theirs[-1].content,
    )
