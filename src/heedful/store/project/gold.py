"""What the answer to a gold question is known to be, to as many of its questions as are known, and who says that.

Kinds whose answers can be compared (ranks, scores on axes, verdicts by rule) can have a known answer; a text cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

from heedful.errors import UserError, did_you_mean
from heedful.store import kinds
from heedful.store.kinds import SCREEN, UNANSWERED, Question
from heedful.store.project import screens
from heedful.store.project.screens import ScreenQuestion

PARTIAL = {
    "axes": ("scores", "name"),
    "rules": ("rules", "code"),
}  # option: field of an answer, name
ROUNDING = 1e-9


class Said(Protocol):
    """What is said to one question, by completion and, of scores and rules, by axis or rule."""

    @property
    def ranks(self) -> Mapping[str, int]: ...

    @property
    def scores(self) -> Mapping[tuple[str, str], float]: ...

    @property
    def rules(self) -> Mapping[tuple[str, str], Any]: ...


@dataclass(frozen=True)
class Known:
    """What is known of one question's answer; scores are right within so much of these. A rule of which None is known
    does not apply."""

    ranks: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rules: Mapping[tuple[str, str], bool | None] = field(default_factory=dict)
    within: float = 0.0


Key = Mapping[str, Known]  # by a screen's question; "" where a task asks one alone


def right(said: Mapping[str, Said], key: Key) -> bool:
    """Whether all that is known was said; `said` by question, as the key."""
    return all(agrees(said.get(name, Known()), known) for name, known in key.items())


def agrees(said: Said, known: Known) -> bool:
    """Whether an answer to one question says what is known of it: the same order of every two responses, scores within
    `within`, the same verdicts."""
    near = known.within + ROUNDING
    scored = (abs(said.scores.get(at, float("inf")) - v) <= near for at, v in known.scores.items())
    ruled = (said.rules.get(at) == verdict for at, verdict in known.rules.items())
    return ordered(said.ranks, known.ranks) and all(scored) and all(ruled)


def ordered(ranks: Mapping[str, int], known: Mapping[str, int]) -> bool:
    """Whether ranks order every two responses as those that are known; what is unranked is not right."""
    if not ranks.keys() >= known.keys():
        return False
    return all(
        _sign(ranks[a] - ranks[b]) == _sign(known[a] - known[b]) for a in known for b in known
    )


def _sign(x: int) -> int:
    return (x > 0) - (x < 0)


# ── as it is kept ────────────────────────────────────────────────────────────────────────────────


def key_of(
    kind: str,
    options: Mapping[str, Any],
    completions: Sequence[str],
    answer: Any,
    within: float = 0.0,
) -> dict[str, Any]:
    """What `content.Ask.gold` takes, from an answer as a page would send it with the completions in this order. Of a
    screen questions may be left out, of a question axes and rules: nothing is known of them then."""
    asked = screens.questions_of(kind, screens.check_options(kind, dict(options)))
    said = answer if kind == SCREEN else {asked[0].name: answer}
    if not isinstance(said, dict) or not said:
        raise UserError("the known answer must be an object, as raters would give it")
    names = [q.name for q in asked]
    for name in said:
        if name not in names:
            raise UserError(f"there is no question '{name}' here{did_you_mean(str(name), names)}")
    known = {q.name: _kept(q, completions, said[q.name], within) for q in asked if q.name in said}
    return {"questions": known if kind == SCREEN else {"": known[asked[0].name]}}


def read(kind: str, options: Mapping[str, Any], kept: Mapping[str, Any]) -> Key:
    """The key of a task out of its row; one of comparisons has ranks alone, of the question that is the comparison."""
    if "questions" not in kept:
        return {screens.compared_by(kind, options) or "": Known(kept["ranks"])}
    return {
        name: Known(
            of["ranks"],
            {(c, axis): value for c, axis, value in of["scores"]},
            {(c, rule): verdict for c, rule, verdict in of["rules"]},
            of["within"],
        )
        for name, of in kept["questions"].items()
    }


def _kept(
    asked: ScreenQuestion, completions: Sequence[str], said: Any, within: float
) -> dict[str, Any]:
    measure = kinds.measure_of(asked.kind)
    if measure is None:
        raise UserError(f"what a question of the kind {asked.kind} is answered cannot be known")
    if not isinstance(said, dict):
        raise UserError(f"{asked.name}: an answer must be an object")
    options = _narrowed(asked.options, said)
    parsed = kinds.parse(asked.kind, Question(options, completions, list), said)
    if parsed.outcome in UNANSWERED:
        raise UserError(f"{asked.name}: a skip or a flag is no known answer")
    verdicts = {(c, rule): verdict for c, rule, verdict in parsed.rules}
    rules = [r["code"] for r in options.get("rules", ())] or sorted({r for _, r in verdicts})
    at = product(completions, rules if measure.of == "rules" else ())
    return {
        "ranks": dict(parsed.ranks),
        "scores": [list(score) for score in parsed.scores],
        "rules": [[c, rule, verdicts.get((c, rule))] for c, rule in at],
        "within": float(within) if measure.level == "interval" else 0.0,
    }


def _narrowed(options: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those axes or rules alone of which something is said."""
    narrowed = dict(options)
    for option, (name, key) in PARTIAL.items():
        if option in narrowed and isinstance(said.get(name), dict):
            there = [one for one in narrowed[option] if one[key] in said[name]]
            narrowed[option] = there or narrowed[option]
    return narrowed
