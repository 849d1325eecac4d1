"""Whether a recorded history of requests could have happened one after the other (Herlihy & Wing 1990).

Each client writes down when it sent a request, when the answer came, and what it said. A history is linearizable if
some order of the requests, which leaves each within its time, gives all of them the answers that they got. Searched as
by Wing & Gong (1993), one key at a time: requests that share no slot and no assignment do not see each other
(locality, Herlihy & Wing, theorem 1), so that histories of thousands are many small ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ANSWERED = ("counted", "late")


@dataclass(frozen=True)
class Operation:
    """A request about an assignment. `result` None: the answer never came, and it may have had its effect or not."""

    name: str  # lease, submit, read
    assignment: str
    start: float
    end: float = math.inf
    key: str = ""  # idempotency key of a submission
    said: Any = None  # the answer given, or read
    result: Mapping[str, Any] | None = None


Model = Callable[
    [Any, Operation], Hashable | None
]  # the state after it; None: it could not say this here


def linearizable(history: Iterable[Operation], model: Model, state: Hashable) -> bool:
    """Whether some order explains every answer."""
    operations = sorted(history, key=lambda o: o.start)
    dead: set[tuple[frozenset[int], Hashable]] = set()

    def explain(left: frozenset[int], now: Hashable) -> bool:
        answered = [i for i in left if operations[i].result is not None]
        if not answered:
            return True
        if (left, now) in dead:
            return False
        first_end = min(operations[i].end for i in answered)
        for i in sorted(left):
            if operations[i].start <= first_end:
                after = model(now, operations[i])
                if after is not None and explain(left - {i}, after):
                    return True
        dead.add((left, now))
        return False

    return explain(frozenset(range(len(operations))), state)


def answers(state: tuple, operation: Operation) -> tuple | None:
    """An assignment: each key once, revisions in order, the last one read. State: (key, judgment, revision, said) …"""
    result = operation.result
    if operation.name == "lease":
        return state
    if operation.name == "read":
        revision, said = state[-1][2:] if state else (0, None)
        fits = result is None or (result["revision"], repr(result["answer"])) == (revision, said or "None")  # fmt: skip
        return state if fits else None
    for key, judgment, revision, _ in state:
        if key == operation.key:
            fits = result is None or (result["judgment"], result["revision"]) == (judgment, revision)  # fmt: skip
            return state if fits else None
    revision = len(state) + 1
    if result is not None and result["revision"] != revision:
        return None
    judgment = result["judgment"] if result else None
    return (*state, (operation.key, judgment, revision, repr(operation.said)))


def slot(state: tuple, operation: Operation) -> tuple | None:
    """A slot of a task: leased to one at a time, freed by a skip, filled by an answer. State: who holds or has filled
    it, what became of each assignment, and the keys that have had their effect."""
    holder, parts, keys = state[0], dict(state[1]), state[2]
    who, part = operation.assignment, dict(state[1]).get(operation.assignment)
    if operation.name == "read" or operation.key in keys:
        return state
    if operation.name == "lease":
        if part is None and holder is not None:
            return None
        holder, parts[who] = (who, "active") if part is None else (holder, part)
        return holder, tuple(sorted(parts.items())), keys
    if part is None:
        return None
    if "skip" in operation.said:
        holder, parts[who] = (None, "skipped") if part == "active" else (holder, part)
        return holder, tuple(sorted(parts.items())), keys | {operation.key}
    if part == "active" or (part == "skipped" and holder is None):
        holder, part = who, "answered"
    elif part == "skipped":
        part = "surplus"
    told = operation.result and operation.result["disposition"] in ANSWERED
    if told is not None and told != (part == "answered"):
        return None
    parts[who] = part
    return holder, tuple(sorted(parts.items())), keys | {operation.key}


def unexplained(history: Iterable[Operation], slots: Mapping[str, str]) -> list[str]:
    """The assignments, and the slots, whose histories no order explains. `slots` are those of assignments."""
    by_assignment: dict[str, list[Operation]] = defaultdict(list)
    by_slot: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_assignment[operation.assignment].append(operation)
        by_slot[slots[operation.assignment]].append(operation)
    wrong = [f"assignment {k}" for k, h in by_assignment.items() if not linearizable(h, answers, ())]  # fmt: skip
    empty = (None, (), frozenset())
    return wrong + [f"slot {k}" for k, h in by_slot.items() if not linearizable(h, slot, empty)]
