"""What a model's critiques do to raters: answers where they could be asked for, beside those where they could not.

Being able to ask is drawn by chance, asking is not: who asks may be in doubt, or careful. So what is compared is what
was offered with what was withheld, whoever asked (intention to treat), and beside it how often raters did ask.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, exists, select

from heedful.raters.agreement import share
from heedful.raters.suggested import best, effect, newest, seconds
from heedful.store.lead import quality
from heedful.store.project import suggestions
from heedful.store.tables.schema import judgment, rater
from heedful.store.tables.suggestions import critique_asked, critique_offered, model_critique


@dataclass(frozen=True)
class Offered:
    """An answer to a question of whose responses a model had written critiques."""

    rater: str
    offered: bool
    asked: bool  # for one at least, before the answer
    said: quality.Answer
    right: bool | None = None  # of a gold question: whether all that is known of it was said


def report(connection: Connection, project: str) -> dict[str, Any]:
    """{sources: `suggestions.sources`, effects: [{source, asked, agrees, gold_right, seconds, raters}], newest}.

    Of each source the share of the answers for which critiques were offered and `asked` for; an `Effect` of offering
    them on how often an answer `agrees` with most of the other people's (gold questions apart) and on gold questions
    (`gold_right`); median `seconds` {shown, hidden}; and `raters`, [{rater, asked, gold_right}]. Of the newest answers,
    `newest` at most.
    """
    by_source: dict[str, list[Offered]] = defaultdict(list)
    for source, one in _offered(connection, project):
        by_source[source].append(one)
    there = suggestions.sources(connection, project, model_critique)
    effects = [_of_source(connection, name, of) for name, of in sorted(by_source.items())]
    return {"sources": there, "effects": effects, "newest": quality.NEWEST}


def _of_source(connection: Connection, source: str, answers: list[Offered]) -> dict[str, Any]:
    regular = [o for o in answers if o.said.regular]
    correct = [(o, bool(o.right)) for o in answers if o.said.gold]
    return {
        "source": source,
        "asked": _asked(answers),
        "agrees": asdict(effect(_agreeing(connection, regular))),
        "gold_right": asdict(effect((o.offered, true) for o, true in correct)),
        "seconds": seconds((o.offered, o.said) for o in regular),
        "raters": [
            {
                "rater": name,
                "asked": _asked([o for o in answers if o.rater == name]),
                "gold_right": asdict(effect((o.offered, t) for o, t in correct if o.rater == name)),
            }
            for name in sorted({o.rater for o in answers})
        ],
    }


def _asked(answers: Sequence[Offered]) -> dict[str, Any]:
    offered = [o for o in answers if o.offered]
    return asdict(share(sum(o.asked for o in offered), len(offered)))


def _agreeing(connection: Connection, answers: Sequence[Offered]) -> Iterable[tuple[bool, bool]]:
    """(offered, whether it calls best what most of the other people do) where the others have a favourite."""
    answers = [o for o in answers if o.said.prefers and o.said.compares and o.said.ranks]
    tasks = {o.said.task for o in answers}
    others: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)  # by task and judgment
    for said in quality.load(connection, quality.of_tasks(connection, tasks)):
        if said.person and said.prefers and said.compares and said.ranks and not said.review:
            others[said.task][said.judgment] = frozenset(best(said.ranks))
    for o in answers:
        votes = Counter(b for key, b in others[o.said.task].items() if key != o.said.judgment)
        favourites = _most(votes)
        if len(favourites) == 1:
            yield o.offered, frozenset(best(o.said.ranks)) in favourites


def _most(votes: Mapping[frozenset[str], int]) -> list[frozenset[str]]:
    return [one for one, n in votes.items() if n == max(votes.values())]


def _offered(connection: Connection, project: str) -> Iterable[tuple[str, Offered]]:
    """(whose critiques, the answer) of the newest answers of people, of a screen its comparison or its first."""
    o, a, j = critique_offered.c, critique_asked.c, judgment.c
    asked = exists().where(a.assignment == j.assignment, a.created_at <= j.created_at)
    query = select(j.id, o.offered, o.source, rater.c.pseudonym, asked.label("asked"))
    query = query.join(critique_offered, o.assignment == j.assignment)
    query = query.join(rater, rater.c.id == j.rater)
    rows, _, right = newest(connection, query.where(o.project == project))
    for row, answer in rows:
        told = Offered(row.pseudonym, row.offered, bool(row.asked), answer, right.get(row.id))
        yield row.source, told
