"""Attempts to break a rule: the replies of a conversation as responses, with what was said of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from heedful.store.exports.export import opening
from heedful.store.project import content
from heedful.store.tables.schema import offer, prompt, turn
from heedful.types.messages import Message, message_from_json

SOURCE = "probe"  # of prompts


def verdicts(
    connection: Connection, assignment_id: str, about: Row, kept: Sequence[bool | None]
) -> list[dict[str, Any]]:
    """Rows of `rule_flag`, whose places are those of turns; none where somebody was unsure. Each reply is kept as a
    response to all that was said before it, so that others can be asked about it, too."""
    asked = connection.execute(select(prompt).where(prompt.c.id == about.prompt)).one()
    messages = [message_from_json(m) for m in opening(asked.content)]
    origin = {name: asked._mapping[name] for name in ("licence", "language")}
    o = offer.c
    said = select(o.said, o.candidates, turn.c.chosen).join(turn, turn.c.offer == o.id)
    said = said.where(o.assignment == assignment_id).order_by(o.place)
    rule = about.options["rules"][0]["code"]
    rows = []
    for place, (row, verdict) in enumerate(zip(connection.execute(said), kept, strict=True)):
        messages.append(Message("user", row.said))
        before = content.add_prompt(
            connection, about.project, tuple(messages), source=SOURCE, **origin
        )
        reply = row.candidates[row.chosen]
        response = content.add_completion(connection, before, reply["text"], **_origin(reply))
        messages.append(Message("assistant", reply["text"]))
        if verdict is not None:
            rows.append({"place": place, "completion": response, "rule": rule, "verdict": verdict})
    return rows


def _origin(reply: dict[str, Any]) -> dict[str, Any]:
    """Of a candidate of `offer`, as `content.add_completion` wants it."""
    names = {"token_ids": "tokens"} | {
        name: name for name in ("model", "logprobs", "sampling", "seed", "finish_reason", "engine")
    }
    return {name: reply.get(key) for name, key in names.items()}
