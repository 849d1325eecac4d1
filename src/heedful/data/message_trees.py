"""OpenAssistant's message trees, a row for each message → a row for each question that has a reply.

A message has `message_id`, `parent_id` (none: the first of its tree), `message_tree_id`, `role` (prompter, assistant)
and `text`; where people have ranked a question's replies, these have a `rank`, 0 for the best. The messages of a tree
stand together, in whatever order. What was `deleted` is left out, and with it what answers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from heedful.data.files import Broken, Row
from heedful.errors import UserError

TREE = "message_tree_id"  # of a message and of the rows that are made of them
MESSAGE = {"message_id", "parent_id", TREE, "role", "text"}
ROLES = {"prompter": "user", "assistant": "assistant"}


def questions(rows: Iterable[Row]) -> Iterator[Row]:
    """Of each question its conversation as `prompt`, its best reply as `completion`, and, where two or more replies
    have a rank, `responses` and `ranking`. Rows that are no such messages are given on as they are."""
    for tree, group in groupby(rows, key=lambda row: _tree(row[1])):
        if tree is None:
            yield from group
            continue
        messages = [(where, row) for where, row in group if not row.get("deleted")]
        try:
            yield from list(_asked(messages))
        except UserError as error:
            yield messages[0][0], Broken(error)


def _tree(row: Mapping[str, Any]) -> str | None:
    return str(row[TREE]) if row.keys() >= MESSAGE else None


def _asked(messages: Sequence[Row]) -> Iterator[Row]:
    by_id = {row["message_id"]: row for _, row in messages}
    replies: dict[Any, list[Mapping[str, Any]]] = {}
    for where, row in messages:
        if row["role"] not in ROLES or not isinstance(row["text"], str):
            raise UserError(
                f"{where}: a message needs a `text`, and the `role` prompter or assistant"
            )
        if row["role"] == "assistant":
            replies.setdefault(row["parent_id"], []).append(row)
    for where, row in messages:
        thread = _thread(row, by_id)
        if row["role"] != "prompter" or thread is None or row["message_id"] not in replies:
            continue
        said = replies[row["message_id"]]
        ranks = {id(r): r["rank"] for r in said if isinstance(r.get("rank"), int | float)}
        ranked = sorted((r for r in said if id(r) in ranks), key=lambda r: ranks[id(r)])
        made = {TREE: row[TREE], "prompt": thread, "completion": (ranked or said)[0]["text"]}
        if len(ranked) > 1:
            made["responses"] = [r["text"] for r in ranked]
            made["ranking"] = [int(ranks[id(r)]) + 1 for r in ranked]
        yield where, made


def _thread(
    row: Mapping[str, Any], by_id: Mapping[Any, Mapping[str, Any]]
) -> list[dict[str, str]] | None:
    """The conversation up to a message; None where one before it is missing."""
    turns: list[dict[str, str]] = []
    current: Mapping[str, Any] | None = row
    while current is not None and len(turns) < len(by_id):
        turns.append({"role": ROLES[current["role"]], "content": current["text"]})
        if not current["parent_id"]:
            return turns[::-1]
        current = by_id.get(current["parent_id"])
    return None
