"""What a model's suggestion does to raters: how often they say what it suggests where they see it, and where not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from heedful.raters.agreement import Difference, Share, difference, share
from heedful.store.lead import quality
from heedful.store.project import suggestions
from heedful.store.project.gold import Key, Known
from heedful.store.tables.schema import judgment, rater, suggestion, suggestion_shown


@dataclass(frozen=True)
class Effect:
    """A share of the answers where the suggestion was shown, where it was hidden, and how much more the first is."""

    shown: Share
    hidden: Share
    difference: Difference | None  # None where one of them is empty


@dataclass(frozen=True)
class Drawn:
    """An answer to a question about which a model had suggested something."""

    rater: str
    shown: bool
    suggested: Mapping[str, int | None]  # ranks by completion
    said: quality.Answer
    right: bool | None = None  # of a gold question: whether all that is known of it was said
    wrong: bool = False  # the suggestion, where the answer is known

    @property
    def follows(self) -> bool:
        """Both call the same best: one response, or the same ones in a tie."""
        return best(self.suggested) == best(self.said.ranks)


def effect(values: Iterable[tuple[bool, bool]]) -> Effect:
    """Of (shown, whether it is so) for each answer.

    Whether a suggestion is shown is drawn for each answer by itself, so the answers of one rater need not be taken
    together: for these raters the difference is that of two independent shares.
    """
    counts = {True: [0, 0], False: [0, 0]}
    for shown, true in values:
        counts[shown][0] += true
        counts[shown][1] += 1
    with_it, without = share(*counts[True]), share(*counts[False])
    return Effect(with_it, without, difference(with_it, without))


def report(connection: Connection, project: str) -> dict[str, Any]:
    """{sources: `suggestions.sources`, effects: [{source, agrees, gold_right, misled, seconds, raters}], newest}.

    Of each source what people did with it: `agrees` with it (gold questions apart), `gold_right` of the gold questions,
    `misled`: right on gold questions about which it is wrong, each an `Effect`; median `seconds` {shown, hidden}; and
    `raters`, [{rater, …}] with `agrees` of each. Of the newest answers, `newest` at most.
    """
    by_source: dict[str, list[Drawn]] = defaultdict(list)
    for source, drawn in _drawn(connection, project):
        by_source[source].append(drawn)
    effects = [_of_source(source, of) for source, of in sorted(by_source.items())]
    there = suggestions.sources(connection, project)
    return {"sources": there, "effects": effects, "newest": quality.NEWEST}


def _of_source(source: str, answers: list[Drawn]) -> dict[str, Any]:
    gold = [(d, bool(d.right)) for d in answers if d.said.gold]
    regular = [d for d in answers if d.said.regular]
    of_rater: dict[str, list[Drawn]] = defaultdict(list)
    for d in regular:
        of_rater[d.rater].append(d)
    return {
        "source": source,
        "agrees": asdict(effect((d.shown, d.follows) for d in regular)),
        "gold_right": asdict(effect((d.shown, right) for d, right in gold)),
        "misled": asdict(effect((d.shown, right) for d, right in gold if d.wrong)),
        "seconds": seconds((d.shown, d.said) for d in regular),
        "raters": [
            {"rater": name, **asdict(effect((d.shown, d.follows) for d in of))}
            for name, of in sorted(of_rater.items())
        ],
    }


def _drawn(connection: Connection, project: str) -> Iterable[tuple[str, Drawn]]:
    """(who suggested, the answer) of the newest answers of people, the comparison of a screen alone."""
    s, shown, j = suggestion.c, suggestion_shown.c, judgment.c
    query = select(j.id, shown.shown, s.source, s.ranks, rater.c.pseudonym)
    query = query.join(suggestion_shown, shown.assignment == j.assignment)
    query = query.join(suggestion, s.id == shown.suggestion).join(rater, rater.c.id == j.rater)
    rows, keys, right = newest(connection, query.where(shown.project == project))
    for row, answer in rows:
        if answer.prefers and answer.compares and answer.ranks:
            ranks = dict(zip(answer.completions, row.ranks, strict=True))
            known = keys.get(answer.task, {}).get(answer.question, Known()).ranks
            wrong = bool(known) and best(ranks) != best(known)
            drawn = Drawn(row.pseudonym, row.shown, ranks, answer, right.get(row.id), wrong)
            yield row.source, drawn


def newest(
    connection: Connection, query: Select
) -> tuple[list[tuple[Row, quality.Answer]], dict[str, Key], dict[str, bool]]:
    """Of a query of judgments and their raters the newest answers of people, each with its comparison or else its first
    question; the keys of gold questions among them, by task; and by judgment whether it is right."""
    query = query.where(rater.c.role != "judge", *quality.valid())
    latest = query.order_by(judgment.c.created_at.desc()).limit(quality.NEWEST)
    rows = connection.execute(latest).all()
    loaded = quality.load(connection, [row.id for row in rows])
    answers = quality.by_judgment(loaded)
    return [(row, answers[row.id]) for row in rows], *quality.known(connection, loaded)


def seconds(answers: Iterable[tuple[bool, quality.Answer]]) -> dict[str, float | None]:
    """{shown, hidden}: the median of (shown, the answer) each."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    for shown, said in answers:
        if said.seconds is not None:
            taken[shown].append(said.seconds)
    return {
        name: median(taken[shown]) if taken[shown] else None
        for name, shown in (("shown", True), ("hidden", False))
    }


def best(ranks: Mapping[str, int | None]) -> set[str]:
    """Those of the first rank."""
    given = [rank for rank in ranks.values() if rank is not None]
    return {c for c, rank in ranks.items() if rank == min(given)} if given else set()
