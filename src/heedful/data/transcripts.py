"""HH-RLHF's transcripts, conversations written as one text: `\\n\\nHuman: …\\n\\nAssistant: …`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from heedful.types import Message

TURN = re.compile(r"\n\n(Human|Assistant):")


def transcript(text: str) -> tuple[Message, ...]:
    """The turns of a transcript, whatever space is around it; none if the text is no transcript."""
    text = "\n\n" + text.strip()
    if not TURN.match(text):
        return ()
    parts = TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(roles[who], said.strip()) for who, said in pairs)


def conversation(prompt: str) -> tuple[Message, ...]:
    """The turns of a prompt that is a transcript, as they are in pairs; none if it is another text.

    The name of who is to answer, at its end, is no turn.
    """
    if not prompt.lstrip().startswith("Human:") or "\n\nAssistant:" not in prompt:
        return ()
    turns = merged(transcript(prompt))
    return turns[:-1] if turns[-1] == Message("assistant", "") else turns


def merged(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Turns in succession by one speaker (HH-RLHF has some) as one: many chat templates refuse them otherwise."""
    merged: list[Message] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            turn = Message(turn.role, f"{merged.pop().content}\n\n{turn.content}".strip())
        merged.append(turn)
    return tuple(merged)


def joined(turns: Sequence[Message]) -> str:
    """A response is mostly one assistant turn; a longer remainder keeps its speakers, as HH-RLHF writes them."""
    names = {"user": "Human", "assistant": "Assistant"}
    first, *rest = merged(turns) or (Message("assistant", ""),)
    return first.content + "".join(f"\n\n{names.get(m.role, m.role)}: {m.content}" for m in rest)


def split(ours: Sequence[Message], theirs: Sequence[Message]) -> int:
    """How many turns two conversations share, up to the last common one of the user.

    What follows, several turns if need be, is the response.
    """
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    while shared and ours[shared - 1].role != "user":
        shared -= 1
    return shared
