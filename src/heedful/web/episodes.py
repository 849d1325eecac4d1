"""Episodes on pages: each message in its own box, or an answer with the quotes that it cites beside it; clips of games.

What tools said, and the calls of them, are shown as they are, never as Markdown: that text is whatever a page of the
world or a model has written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import escape

from heedful.data.clips import is_clip
from heedful.data.shown import as_messages
from heedful.types import Message
from heedful.web.render import plain, to_html

CITATION = re.compile(r"\[(\d+)\]")
QUOTE = re.compile(r"\[(\d+)\] ")


def response_html(text: str, played: Mapping[str, Any] | None = None) -> str:
    """Safe HTML of a response. Of an episode as `data.episodes.played_of` tells it, by messages, with the rewards of
    its turns where they are told; of what an environment shows of one, the answer and its quotes."""
    if not played:
        return clip_html(text) if is_clip(text) else to_html(text)
    if not played["whole"] or (messages := as_messages(text)) is None:
        return _with_quotes(text) + _end(played)
    rewards = iter(played.get("rewards", ()))
    return "".join(_turn(m, rewards) for m in messages) + _end(played)


def clip_html(text: str) -> str:
    """A clip of a game as it came, for the page to draw (static/clip.js)."""
    return f'<div class="clip" data-clip="{escape(text)}"></div>'


def _turn(message: Message, rewards: Iterator[float]) -> str:
    """A message; the role in words is the page's, which knows the reader's language."""
    who, worth = message.role, ""
    if who == "assistant":
        body = to_html(message.content) if message.content.strip() else ""
        if (reward := next(rewards, None)) is not None:
            worth = f'<span class="worth">{reward:+g}</span>'
    else:
        body = plain(message.content) if who == "tool" else to_html(message.content)
    name = f" {plain_name(message.name)}" if message.name else ""
    calls = "".join(
        f'<div class="call">{plain(json.dumps(call["function"], ensure_ascii=False))}</div>'
        for call in message.tool_calls
    )
    return (
        f'<div class="said {who}"><span class="role" data-role="{who}">{who}</span>'
        f'<span class="named">{name}</span>{worth}{body}{calls}</div>'
    )


def plain_name(name: str) -> str:
    """A name that `data.shown` has read: letters, digits, dots, dashes."""
    return re.sub(r"[^\w.-]", "_", name)


def _with_quotes(text: str) -> str:
    """An answer, and beside it those of its last paragraphs that are quotes which it cites, as `browse` shows them."""
    paragraphs = text.split("\n\n")
    start = len(paragraphs)
    while start > 1 and QUOTE.match(paragraphs[start - 1]):
        start -= 1
    answer = "\n\n".join(paragraphs[:start])
    cited = set(CITATION.findall(answer))
    if start == len(paragraphs) or not {p[1 : p.index("]")] for p in paragraphs[start:]} <= cited:
        return to_html(text)
    quotes = "".join(f'<li class="quote">{plain(p)}</li>' for p in paragraphs[start:])
    return f'<div class="cited"><div>{to_html(answer)}</div><ul>{quotes}</ul></div>'


def _end(played: Mapping[str, Any]) -> str:
    """What it was worth and how it ended, where that is told."""
    if "reward" not in played:
        return ""
    cause = f" ({played['cause']})" if played.get("cause") in ("turns", "tokens", "time") else ""
    ended = "terminated" if played["ended"] == "terminated" else "truncated"
    return f'<p class="hint">reward {float(played["reward"]):g}, {ended}{cause}</p>'
