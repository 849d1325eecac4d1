"""Import of existing judgments from files, as judgments of judges named after the raters in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, select

from heedful import exact
from heedful.errors import UserError
from heedful.store.database.bulk import MOST_KEYS, batches
from heedful.store.database.db import Store
from heedful.store.intake import answered
from heedful.store.intake.ingest import UNKNOWN_ORIGIN, Origin, Tick, add_all
from heedful.store.kinds import KINDS
from heedful.store.membership import people
from heedful.store.project import content, screens
from heedful.store.project.projects import settings_of
from heedful.store.rating import trials
from heedful.store.tables.schema import completion
from heedful.types import Comparison, Prompt, without_gaps

_Text = tuple[str, str, str | None]  # of a response: its prompt's id, itself, whose it is
ANONYMOUS = "imported"  # who judged, where a file does not say


@dataclass(frozen=True)
class Vote:
    """A single response that somebody labelled good or bad."""

    prompt: Prompt
    completion: str
    good: bool
    rater: str | None = None


class _Answer(NamedTuple):  # a frozen dataclass of so many fields takes longer to make than to keep
    """A row of a file: a number for each response, its rank or its thumb; None where it has none."""

    prompt: Prompt
    texts: tuple[str, ...]
    values: tuple[int | None, ...]
    rater: str
    kind: str
    overlap: int  # how many rows of the file are about these responses
    repetition: int  # how many of them by this rater came before
    model: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    strength: float | None = None
    order: tuple[int, ...] | None = None
    active_ms: int | None = None
    client_at: float | None = None
    explanation: str | None = None

    def body(self, values: Sequence[int | None]) -> dict[str, Any]:
        """The answer as a page would send it, of the values in the order shown."""
        if self.kind == "thumbs":
            return {"thumbs": list(values)}
        extra = {} if self.strength is None else {"strength": self.strength}
        if self.kind == "rank":
            return {"ranks": list(values), **extra}
        if values[0] == values[1]:
            return {"tie": True}
        return {"better": 0 if values[0] == 1 else 1, **extra}


def comparisons(
    store: Store,
    project: str,
    items: Sequence[Comparison],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    gold: bool = False,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Import comparisons as judgments of judges with their raters' names; `gold`: as gold questions instead.

    A second equal comparison by one rater becomes a judgment in a later round.
    """
    for item in items:
        refuse_long("a comparison", item)
    pairs = [(c.prompt, frozenset(c.responses)) for c in items]
    overlaps = Counter(pairs)
    repetitions: Counter[Any] = Counter()
    answers, kinds = [], dict[int, tuple[str, dict[str, Any]]]()
    asked = (
        store.in_read(lambda connection: settings_of(connection, project)).questions if gold else ()
    )
    for c, pair in zip(items, pairs, strict=True):
        rater, number, before = c.rater or ANONYMOUS, len(c.responses), 0
        if overlaps[pair] > 1:
            before = repetitions[rater, pair]
            repetitions[rater, pair] += 1
        # What is known is asked as everything else is; of others' answers only the order is there.
        if number not in kinds:
            kinds[number] = screens.comparing(asked, number)
        kind, options = kinds[number]
        answers.append(
            _Answer(
                c.prompt,
                c.responses,
                _ranks(c.ranking),
                rater,
                kind,
                overlaps[pair],
                before,
                c.policy_version,
                options,
                c.strength,
                c.order_shown,
                None if c.seconds is None else round(c.seconds * 1000),
                time_of("a comparison", c.created_at),
                c.explanation,
            )
        )
    return _import(store, project, answers, origin, tick, gold=gold)


@lru_cache
def _ranks(ranking: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """1, 2, … without gaps; None, where there are more than two, for those in no order. Of two, one is the other's."""
    unranked = 2 if len(ranking) == 2 else None
    return tuple(unranked if r is None else r for r in without_gaps(ranking))


def votes(
    store: Store,
    project: str,
    items: Sequence[Vote],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Thumbs up and down of single responses, as judgments of judges."""
    overlaps = Counter((v.prompt, v.completion) for v in items)
    repetitions: Counter[Any] = Counter()
    answers = []
    for v in items:
        response, rater = (v.prompt, v.completion), v.rater or ANONYMOUS
        value = (1 if v.good else -1,)
        about = (overlaps[response], repetitions[rater, response])
        answers.append(_Answer(v.prompt, (v.completion,), value, rater, "thumbs", *about))
        repetitions[rater, response] += 1
    return _import(store, project, answers, origin, tick)


def _import(
    store: Store,
    project: str,
    answers: Sequence[_Answer],
    origin: Origin,
    tick: Tick | None,
    *,
    gold: bool = False,
) -> dict[str, int]:
    judges: dict[str, str] = {}
    for part in batches([] if gold else list(dict.fromkeys(a.rater for a in answers))):
        judges |= store.in_write(lambda connection, part=part: _judges(connection, part))

    def add(connection: Connection, batch: Sequence[_Answer]) -> None:
        told = content.add_new_prompts(connection, project, [(a.prompt, origin) for a in batch])
        prompts, new = [key for key, _ in told], {key for key, is_new in told if is_new}
        ids = responses(connection, prompts, batch, new)
        values = [
            dict(zip(keys, a.values, strict=True)) for keys, a in zip(ids, batch, strict=True)
        ]
        if gold:
            asks = [
                replace(
                    _ask(prompt, keys, a),
                    gold={"ranks": {c: rank for c, rank in ranks.items() if rank is not None}},
                )
                for prompt, keys, a, ranks in zip(prompts, ids, batch, values, strict=True)
            ]
            why = zip(content.add_tasks(connection, project, asks), batch, strict=True)
            trials.explain(connection, [(k, a.explanation) for (k, _), a in why if a.explanation])
            return
        rows = zip(prompts, ids, batch, values, strict=True)
        given = [
            answered.Given(
                _ask(prompt, keys, a),
                a.repetition,
                judges[a.rater],
                said,
                a.body,
                a.order,
                a.active_ms,
                a.client_at,
            )
            for prompt, keys, a, said in rows
        ]
        answered.add(connection, project, given, new_prompts=new)

    return add_all(store, project, answers, add, tick)


def _judges(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """In a transaction of its own: what a batch that is rolled back has made should not be remembered."""
    return {name: people.ensure_judge(connection, name) for name in names}


def _ask(prompt: str, completions: Sequence[str], answer: _Answer) -> content.Ask:
    return content.Ask(
        answer.kind, prompt, completions, answer.options, answer.overlap, strategy="import"
    )


class Written(Protocol):
    """Some responses to a prompt, and whose they are."""

    @property
    def texts(self) -> tuple[str, ...]: ...

    @property
    def model(self) -> str | None: ...


def responses(
    connection: Connection,
    prompts: Sequence[str],
    answers: Sequence[Written],
    new_prompts: Collection[str],
) -> list[list[str]]:
    """The ids of stored responses with these texts, whoever wrote them, or of new ones."""
    c, there = completion.c, dict[_Text, str]()
    for part in batches([p for p in dict.fromkeys(prompts) if p not in new_prompts], MOST_KEYS):
        query = select(c.id, c.prompt, c.text, c.model).where(c.prompt.in_(part)).order_by(c.id)
        for row in connection.execute(query):
            there.setdefault((row.prompt, row.text, None), row.id)
            there.setdefault((row.prompt, row.text, row.model), row.id)
    wanted = [(p, text, a.model) for p, a in zip(prompts, answers, strict=True) for text in a.texts]
    new: dict[_Text, _Text] = {}
    for key in wanted:
        if key not in there and key not in new:
            new[key] = key
            new.setdefault((*key[:2], None), key)  # of nobody in particular: of whoever came first
    made = list(dict.fromkeys(new.values()))
    origins = {model: {"model": model} for _, _, model in made}
    rows = [(p, t, origins[model]) for p, t, model in made]
    added = content.add_completions(connection, rows, new_prompts=new_prompts)
    ids = dict(zip(made, added, strict=True))
    all_ids = iter([there.get(key) or ids[new[key]] for key in wanted])
    return [list(islice(all_ids, len(a.texts))) for a in answers]


def refuse_long(where: str, item: Comparison) -> None:
    """`UserError` where a comparison has more responses than a question can show."""
    most = KINDS["rank"].responses[1]
    if len(item.responses) > most:
        raise UserError(f"{where} has {len(item.responses)} responses; {most} are the most")


def time_of(where: str, text: str | None) -> float | None:
    """Seconds since 1970 of a date in a file; `UserError` for what is none."""
    try:
        date = datetime.fromisoformat(text) if text else None
    except ValueError:
        what = "`created_at` must be a date such as 2024-05-01T10:00:00Z"
        raise UserError(f"{where}: {what}, not {exact.shown(text)}") from None
    if date is None:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
