"""Replies of the playground that may be judged.

They stay in the server's memory until they have a thumb, so that what is judged is what the model said, with the tokens
and log-probs that it was sampled with. Those without one are forgotten: nobody asked for them to be kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from heedful.errors import UserError
from heedful.store.database.db import new_id

MOST = 500  # replies; the oldest are forgotten


@dataclass
class Reply:
    """What a model said to somebody, and the assignment of its judgment once there is one."""

    project: str
    rater: str
    messages: list[dict[str, str]]
    text: str
    origin: dict[str, Any]
    lease: str | None = None


@dataclass
class Replies:
    """The newest replies of a server, by their ids."""

    _all: OrderedDict[str, Reply] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, reply: Reply) -> str:
        key = new_id()
        with self._lock:
            self._all[key] = reply
            while len(self._all) > MOST:
                self._all.popitem(last=False)
        return key

    def of(self, key: str, project: str, rater: str) -> Reply:
        """UserError where there is no such reply of theirs."""
        reply = self._all.get(key)
        if reply is None or (reply.project, reply.rater) != (project, rater):
            raise UserError("this reply is not here any more; let the model say it again")
        return reply
