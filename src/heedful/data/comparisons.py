"""Rows → comparisons and labelled responses: rankings, TRL's preference and unpaired forms, HH-RLHF's transcripts
with an implicit prompt."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heedful.data.columns import (
    as_chat,
    column,
    messages_of,
    prompt_from,
    prompt_to_json,
    response,
)
from heedful.data.tables import read_table
from heedful.errors import UserError
from heedful.types import Comparison, LabelledResponse, Message, Prompt

TURN = re.compile(r"\n\n(Human|Assistant):")
log = logging.getLogger("heedful")
T = TypeVar("T")


def read_comparisons(source: str | Path, *, skip_bad: bool = False) -> list[Comparison]:
    """Comparisons in heedful's ranking form or TRL's preference form, the prompt explicit or implicit (HH-RLHF).

    Unusable rows (equal or empty responses) are errors, or left out and counted with `skip_bad`.
    """
    return _kept(source, comparison_of, skip_bad)


def read_unpaired(source: str | Path, *, skip_bad: bool = False) -> list[LabelledResponse]:
    """Responses that were liked or not, from TRL's unpaired form or split from any form of comparison."""
    rows = [v for of_row in _kept(source, unpaired_of, skip_bad) for v in of_row]
    if not rows:
        raise UserError(
            f"{source}: every comparison is a tie, so no response was liked or disliked"
        )
    return rows


def unpaired_of(where: str, row: dict[str, Any]) -> list[LabelledResponse]:
    """One from prompt, completion and label. Of a comparison the best are liked, the worst not, the others left out."""
    if "label" in row or "completion" in row:
        label = column(where, row, "label")
        if type(label) is not bool and label not in (0, 1):
            raise UserError(f"{where}: `label` must be true (liked) or false, not {label!r}")
        completion = column(where, row, "completion")
        prompt = as_chat(prompt_from(where, "prompt", column(where, row, "prompt")), completion)
        return [LabelledResponse(prompt, response(where, "completion", completion), bool(label))]
    c = comparison_of(where, row)
    best, worst = min(c.ranking), max(c.ranking)
    return [
        LabelledResponse(c.prompt, text, rank == best)
        for text, rank in zip(c.responses, c.ranking, strict=True)
        if best < worst and rank in (best, worst)
    ]


def comparison_of(where: str, row: dict[str, Any]) -> Comparison:
    """A row with responses and ranking, or with chosen and rejected."""
    if "responses" in row:
        return _ranking(where, row)
    if {"completion", "label"} <= row.keys() and "chosen" not in row:
        raise UserError(
            f"{where}: a single `completion` with a `label` compares nothing; train on it with kto or bco"
        )
    chosen, rejected = column(where, row, "chosen", "responses"), column(where, row, "rejected")
    if "prompt" in row:
        prompt = prompt_from(where, "prompt", row["prompt"])
        if all(isinstance(c, list) and len(c) > 1 for c in (chosen, rejected)):
            # Whole conversations that repeat the prompt; a text prompt is a copy of one of their turns.
            shared, chosen, rejected = _split_messages(where, chosen, rejected)
            if shared != prompt and not isinstance(prompt, str):
                raise UserError(f"{where}: `chosen` does not begin with the turns of `prompt`")
            prompt = shared
        elif not isinstance(rejected, str):
            prompt = as_chat(prompt, chosen)
    elif isinstance(chosen, str) and isinstance(rejected, str):
        prompt, chosen, rejected = _split_text(where, chosen, rejected)
    else:
        prompt, chosen, rejected = _split_messages(where, chosen, rejected)
    responses = (response(where, "chosen", chosen), response(where, "rejected", rejected))
    if responses[0] == responses[1]:
        raise UserError(f"{where}: `chosen` and `rejected` are the same, so nothing was compared")
    return Comparison(prompt, responses, (1, 2), **extras(where, row, 2))


def _ranking(where: str, row: dict[str, Any]) -> Comparison:
    prompt = prompt_from(where, "prompt", column(where, row, "prompt"))
    responses, ranking = row["responses"], column(where, row, "ranking")
    if not isinstance(responses, Sequence) or isinstance(responses, str) or len(responses) < 2:
        raise UserError(f"{where}: `responses` must be a list of at least two")
    texts = tuple(response(where, "responses", r) for r in responses)
    whole = isinstance(ranking, Sequence) and all(type(r) is int and r >= 1 for r in ranking)
    if not whole or len(ranking) != len(texts):
        raise UserError(
            f"{where}: `ranking` must hold one whole number from 1 (best) for each of the "
            f"{len(texts)} responses"
        )
    if len(set(texts)) < len(texts):
        raise UserError(f"{where}: `responses` holds the same response twice")
    return Comparison(prompt, texts, tuple(ranking), **extras(where, row, len(texts)))


def extras(where: str, row: dict[str, Any], count: int) -> dict[str, Any]:
    """Who compared, how strongly and when, where the row says so."""
    names = ("strength", "rater", "order_shown", "seconds", "policy_version", "created_at")
    extras = {n: row[n] for n in names if row.get(n) is not None}
    for name, most in (("strength", 1.0), ("seconds", float("inf"))):
        value = extras.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            limits = "from 0 to 1" if most == 1 else "of 0 or more"
            raise UserError(f"{where}: `{name}` must be a number {limits}, not {value!r}")
    if "order_shown" in extras:
        order = extras["order_shown"]
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(map(str, range(count))):
            raise UserError(f"{where}: `order_shown` must list the responses 0 to {count - 1} once")
        extras["order_shown"] = tuple(map(int, order))
    return extras


def _split_text(where: str, chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """Implicit prompts: the turns that two transcripts share, or the common beginning of plain texts."""
    ours, theirs = _transcript(chosen), _transcript(rejected)
    if ours and theirs:
        shared = 0
        while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
            shared += 1
        # Up to the last common user's turn; what follows, several turns if need be, is the response.
        while shared and ours[shared - 1].role != "user":
            shared -= 1
        if shared == 0:
            raise UserError(f"{where}: `chosen` and `rejected` share no opening turn of the human")
        for rest in (ours[shared:], theirs[shared:]):
            if rest and rest[0].role != "assistant":
                raise UserError(f"{where}: `chosen` and `rejected` differ in a turn of the human")
        return _merged(ours[:shared]), _joined(ours[shared:]), _joined(theirs[shared:])
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


def _transcript(text: str) -> tuple[Message, ...]:
    """The turns of an HH-RLHF transcript, whatever space is around it; none if the text is no transcript."""
    text = "\n\n" + text.strip()
    if not TURN.match(text):
        return ()
    parts = TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(roles[who], said.strip()) for who, said in pairs)


def _merged(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Turns in succession by one speaker (HH-RLHF has some) as one: many chat templates refuse them otherwise."""
    merged: list[Message] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            turn = Message(turn.role, f"{merged.pop().content}\n\n{turn.content}".strip())
        merged.append(turn)
    return tuple(merged)


def _joined(turns: Sequence[Message]) -> str:
    """A response is mostly one assistant turn; a longer remainder keeps its speakers, as HH-RLHF writes them."""
    names = {"user": "Human", "assistant": "Assistant"}
    first, *rest = _merged(turns) or (Message("assistant", ""),)
    return first.content + "".join(f"\n\n{names[m.role]}: {m.content}" for m in rest)


def _split_messages(where: str, chosen: Any, rejected: Any) -> tuple[Prompt, Any, Any]:
    ours = messages_of(where, "chosen", chosen)
    theirs = messages_of(where, "rejected", rejected)
    last = {ours[-1].role, theirs[-1].role}
    if len(ours) < 2 or ours[:-1] != theirs[:-1] or last != {"assistant"}:
        raise UserError(
            f"{where}: without a column `prompt`, `chosen` and `rejected` must be the same "
            "conversation up to a last assistant message"
        )
    return (
        prompt_from(where, "chosen", prompt_to_json(ours[:-1])),
        ours[-1].content,
        theirs[-1].content,
    )


def _kept(source: str | Path, parse: Callable[[str, dict[str, Any]], T], skip_bad: bool) -> list[T]:
    items, skipped, reason = [], 0, ""
    for where, row in read_table(source):
        try:
            items.append(parse(where, row))
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{error} (skip_bad leaves such rows out)") from error
            skipped, reason = skipped + 1, reason or str(error)
    if skipped:
        log.warning("%s: skipped %d invalid rows, the first: %s", source, skipped, reason)
    if not items:
        raise UserError(f"{source}: all {skipped} rows are unusable; the first: {reason}")
    return items
