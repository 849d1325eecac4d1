"""The rules of assignment: overlap exact, nobody twice, leases, limits, gold, swaps, what is set aside."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import func, select

from databases import new_store
from heedful.errors import UserError
from heedful.store.database.db import Store, new_id
from heedful.store.project import projects
from heedful.store.rating import chance, queue, work
from heedful.store.tables import schema
from heedful.store.tables.asking import own_response
from workspace import (
    answer,
    claim,
    expire_lease,
    make_project,
    make_rater,
    make_task,
    make_tasks,
)


def states(store: Store) -> Counter:
    with store.read() as connection:
        return Counter(connection.execute(select(schema.task_slot.c.state)).scalars())


def row(store: Store, table, key: str):
    with store.read() as connection:
        return connection.execute(select(table).where(table.c.id == key)).one()


def test_every_slot_is_filled_once_and_nobody_sees_a_task_twice(store: Store):
    project = make_project(store)
    make_tasks(store, project, 5, overlap=2)
    raters = [make_rater(store) for _ in range(3)]
    for rater in raters:
        while given := claim(store, project, rater):
            answer(store, given, rater)
    assert states(store) == {"done": 10}
    with store.read() as connection:
        pairs = connection.execute(
            select(schema.assignment.c.task, schema.assignment.c.rater)
        ).all()
    assert len(pairs) == len(set(pairs)) == 10


def test_an_open_task_comes_back_until_it_is_answered(store: Store):
    """A reload must not lease another task."""
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 5)
    first = claim(store, project, rater)
    assert first and claim(store, project, rater) == first
    ahead = claim(store, project, rater, holding=[first])
    assert ahead not in (None, first)
    assert claim(store, project, rater, holding=[first, ahead]) not in (first, ahead)


def test_nobody_hoards_leases(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 10)
    held: list[str] = []
    for _ in range(10):
        given = claim(store, project, rater, holding=held)
        assert given
        if given not in held:
            held.append(given)
    assert len(held) == work.MAX_HELD


def test_a_lease_that_is_over_goes_to_somebody_else(store: Store):
    project, slow, quick = make_project(store), make_rater(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, slow)
    assert given and claim(store, project, quick) is None
    with store.write() as connection:
        expire_lease(connection, given)
    other = claim(store, project, quick)
    assert other
    assert answer(store, other, quick).disposition == "counted"
    assert answer(store, given, slow).disposition == "surplus"
    assert states(store) == {"done": 1}


def test_typing_past_the_lease_is_late_and_still_fills_a_free_slot(store: Store):
    """Nobody else has it: the work is not thrown away, and nobody is asked again."""
    project, rater, other = make_project(store), make_rater(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    with store.write() as connection:
        expire_lease(connection, given)
        work.expire(connection, project, 1e12)
    assert states(store) == {"open": 1}
    assert answer(store, given, rater).disposition == "late"
    assert states(store) == {"done": 1}
    assert claim(store, project, other) is None


def test_the_same_task_is_not_offered_again_after_its_lease(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    with store.write() as connection:
        expire_lease(connection, given)
    assert claim(store, project, rater) is None


def test_priority_asks_the_highest_score_first(store: Store):
    project, rater = make_project(store, order="priority"), make_rater(store)
    for i, value in enumerate((0.1, 0.9, 0.5)):
        make_task(store, project, question=f"{i}?", score=value)
    order = []
    while given := claim(store, project, rater):
        order.append(row(store, schema.task, row(store, schema.assignment, given).task).score)
        answer(store, given, rater)
    assert order == [0.9, 0.5, 0.1]


def test_some_are_drawn_by_chance_with_a_known_propensity(store: Store):
    """Where the highest score is asked first and a third by chance, each question comes next as often as its
    propensity says, and never one that the rater has had, or that shows what they wrote; each assignment keeps its own.
    Mutations caught: a question of several slots counted once, what the rater has had or wrote among those that are
    left, or taken off twice, the best one's share forgotten."""
    project = make_project(store, order="priority", order_by_chance=0.4)
    tasks = [make_task(store, project, question=f"{i}?", score=i, overlap=2) for i in range(5)]
    rater, rng = make_rater(store), random.Random(0)
    given = claim(store, project, rater, rng=rng)
    assert given
    answer(store, given, rater)
    had = row(store, schema.assignment, given).task
    own = next(task for task in tasks if task != had)
    with store.write() as connection:
        shown = [{"task": task, "rater": rater} for task in (had, own)]
        connection.execute(own_response.insert(), shown)
    counts: Counter[str] = Counter()
    told: dict[str, float] = {}
    with store.read() as connection:
        s = schema.task_slot.c
        left = select(s.task, s.slot).where(s.state == "open", s.task.not_in((had, own)))
        best = connection.execute(left.order_by(s.position, s.slot)).first()
        assert best
        how = projects.settings_of(connection, project)
        for _ in range(600):
            draw = chance.drawn(connection, project, rater, best, how, rng)
            assert draw.propensity is not None
            counts[draw.slot.task] += 1
            told[draw.slot.task] = draw.propensity
        kept = connection.execute(select(schema.question_drawn)).one()
    assert kept.assignment == given
    assert kept.propensity == pytest.approx(0.08 + 0.6 * (had == tasks[4]))
    assert set(counts) == set(tasks) - {had, own}
    assert sum(told.values()) == pytest.approx(1) and max(told, key=told.__getitem__) == best.task
    for task, propensity in told.items():
        assert propensity == pytest.approx(0.4 / 3 + 0.6 * (task == best.task))
        assert counts[task] / 600 == pytest.approx(propensity, abs=0.06)


def test_random_order_differs_between_raters(store: Store):
    """All raters in one order would leave the end of the list to nobody."""
    project = make_project(store)
    make_tasks(store, project, 12, overlap=6)
    firsts, rng = set(), random.Random(0)
    for _ in range(6):
        given = claim(store, project, make_rater(store), rng=rng)
        assert given
        firsts.add(row(store, schema.assignment, given).task)
    assert len(firsts) > 1


def test_responses_are_shown_in_both_orders(store: Store):
    project = make_project(store)
    make_tasks(store, project, 40)
    rater, orders, rng = make_rater(store), Counter(), random.Random(0)
    while given := claim(store, project, rater, rng=rng):
        orders[tuple(row(store, schema.assignment, given).order_shown)] += 1
        answer(store, given, rater)
    assert set(orders) == {(0, 1), (1, 0)} and min(orders.values()) > 5


@pytest.mark.parametrize("limit", ["daily_limit", "total_limit"])
def test_limits_hold_also_for_two_tabs(store: Store, limit: str):
    project, rater = make_project(store, **{limit: 3}), make_rater(store)
    make_tasks(store, project, 10)
    held: list[str] = []
    while (given := claim(store, project, rater, holding=held)) and given not in held:
        held.append(given)
    for given in held:
        answer(store, given, rater)
    assert len(held) == 3
    with store.write() as connection:
        assert work.claim(connection, project, rater).reason == limit.replace("_", " ")


def test_a_raters_own_limit_goes_before_the_projects(store: Store):
    project, rater = make_project(store, daily_limit=5), make_rater(store, daily_limit=1)
    make_tasks(store, project, 3)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater)
    assert claim(store, project, rater) is None


def test_a_paused_rater_gets_nothing(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    with store.write() as connection:
        connection.execute(schema.rater.update().values(status="paused"))
        assert work.claim(connection, project, rater) == work.Claim(None, "paused")


def test_gold_is_mixed_in_for_everybody_once(store: Store):
    project = make_project(store, gold_rate=0.5)
    make_tasks(store, project, 30, overlap=2)
    gold = make_task(store, project, question="gold?", gold={"ranks": {}})
    for rater in (make_rater(store), make_rater(store)):
        tasks, rng = [], random.Random(0)
        while given := claim(store, project, rater, rng=rng):
            tasks.append(row(store, schema.assignment, given).task)
            answer(store, given, rater)
        assert tasks.count(gold) == 1 and len(tasks) == 31


def test_gold_alone_is_not_asked(store: Store):
    """When everything else is done, a question more would give itself away, and so would a repetition.

    Mutation caught: either drawn before it is known whether there is anything else."""
    project, rater = make_project(store, gold_rate=1.0, swap_rate=1.0), make_rater(store)
    gold = make_task(store, project, gold={"ranks": {}})
    assert claim(store, project, rater) is None
    make_task(store, project, question="another?")
    given = claim(store, project, rater)
    asked = select(schema.assignment.c.task).where(schema.assignment.c.id == given)
    with store.read() as connection:
        assert connection.execute(asked).scalar_one() == gold
    while given:  # the gold question, the other one, and enough to be asked again
        answer(store, given, rater)
        given = claim(store, project, rater)
    make_tasks(store, project, work.SWAP_AFTER + 1)
    with store.write() as connection:
        connection.execute(schema.project.update().values(settings={"swap_rate": 0.0}))
    while given := claim(store, project, rater):
        answer(store, given, rater)
    with store.write() as connection:
        connection.execute(schema.project.update().values(settings={"swap_rate": 1.0}))
    assert claim(store, project, rater) is None


def test_a_swap_shows_the_same_pair_the_other_way_round(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 15)
    for _ in range(work.SWAP_AFTER + 1):
        given = claim(store, project, rater)
        assert given
        answer(store, given, rater)
    with store.write() as connection:
        connection.execute(
            schema.project.update().values(settings={"swap_rate": 1.0, "gold_rate": 0.0})
        )
    given = claim(store, project, rater)
    assert given
    swapped = row(store, schema.assignment, given)
    asked = row(store, schema.task, swapped.task)
    assert asked.swap_of is not None
    with store.read() as connection:
        first = connection.execute(
            select(schema.assignment.c.order_shown).where(schema.assignment.c.task == asked.swap_of)
        ).scalar_one()
    assert swapped.order_shown == first[::-1]
    assert answer(store, given, rater).disposition == "counted"
    # Only one of the answers was old enough, and it has been asked again: no third time.
    following = claim(store, project, rater)
    assert following
    assert (
        row(store, schema.task, row(store, schema.assignment, following).task).swap_of
        != asked.swap_of
    )


def looked_at(store: Store, project: str, rater: str) -> tuple[str | None, int]:
    """What `next` gives, and how much of the database it looks at for it: SQLite's steps, PostgreSQL's rows."""
    with store.write() as connection:
        if store.dialect == "sqlite":
            steps = 0

            def step() -> None:
                nonlocal steps
                steps += 1

            raw = connection.connection.driver_connection
            assert raw
            raw.set_progress_handler(step, 1)
            given = work.claim(connection, project, rater).assignment
            raw.set_progress_handler(None, 1)
            return given, steps
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # as with many rows
        read = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        before = connection.exec_driver_sql(read).scalar_one()
        given = work.claim(connection, project, rater).assignment
        return given, int(connection.exec_driver_sql(read).scalar_one() - before)


def have_had_all(store: Store, project: str, rater: str) -> None:
    """As if the rater had let go every task of the project, gold and not."""
    a = schema.assignment.c
    with store.write() as connection:
        had = select(a.task).where(a.rater == rater)
        for task in list(connection.execute(select(schema.task.c.id)).scalars()):
            if task not in set(connection.execute(had).scalars()):
                values = {
                    "id": new_id(),
                    "task": task,
                    "slot": 9,
                    "project": project,
                    "rater": rater,
                }
                values |= {"order_shown": [0, 1], "state": "expired"}
                values |= {"leased_at": 0.0, "leased_until": 0.0}
                connection.execute(schema.assignment.insert().values(**values))


@pytest.mark.long
@pytest.mark.parametrize("order", ["random", "priority"])
def test_who_has_had_everything_holds_nobody_up(store: Store, order: str, monkeypatch):
    """`next` under the write lock: all open slots were looked at each time, of tasks that the rater had had."""
    monkeypatch.setattr(queue, "MARGIN", 0.0)
    project = make_project(store, order=order, gold_rate=1.0, swap_rate=1.0)
    rater = make_rater(store)
    first: list[int] = []
    later: list[int] = []
    for n in (10, 60):
        make_tasks(store, project, n, overlap=3)
        for i in range(n):
            make_task(store, project, question=f"gold {i}?", gold={"ranks": {}})
        have_had_all(store, project, rater)
        for numbers in (first, later):
            given, number = looked_at(store, project, rater)
            assert given is None
            numbers.append(number)
    assert first[1] > first[0] + 50, "the measure is blind"
    assert later[1] < later[0] + 10, (first, later)
    # What is new, or comes back, is found all the same.
    new, back = (make_task(store, project, question=q) for q in ("new?", "back?"))
    other = make_rater(store)
    with store.write() as connection:
        held = work.assign(connection, back, other)
    given = claim(store, project, rater)
    assert given and row(store, schema.assignment, given).task == new
    answer(store, given, rater)
    assert claim(store, project, rater) is None
    with store.write() as connection:
        expire_lease(connection, held)
    given = claim(store, project, rater)
    assert given and row(store, schema.assignment, given).task == back


def test_who_is_ahead_of_the_others_holds_nobody_up(store: Store, monkeypatch):
    """By priority, the slots that the rater had filled, and that wait for others, were looked at each time.

    Mutations caught: no position kept; a position beyond which what is added, or comes back, is not seen."""
    monkeypatch.setattr(queue, "RECENT", 0.0)
    project = make_project(store, order="priority")
    rater, other = make_rater(store), make_rater(store)
    tasks = [
        make_task(store, project, question=f"{i}?", overlap=2, score=float(-i)) for i in range(40)
    ]
    numbers = []
    for i in range(30):
        given, number = looked_at(store, project, rater)
        assert given and row(store, schema.assignment, given).task == tasks[i]
        answer(store, given, rater)
        numbers.append(number)
    if store.dialect == "sqlite":  # PostgreSQL takes other ways through so few rows
        assert max(numbers[20:]) < max(numbers[5:10]) + 10, numbers
    # Something better, something that comes back, and then on from where it was.
    with store.write() as connection:
        held = work.assign(connection, tasks[35], other)
    better = make_task(store, project, question="better?", score=10.0)
    worse = make_task(store, project, question="worse?", score=-1000.0)
    with store.write() as connection:
        expire_lease(connection, held)
    for task in (better, *tasks[30:36]):
        given = claim(store, project, rater)
        assert given and row(store, schema.assignment, given).task == task
        answer(store, given, rater)
    # More than are looked at one by one.
    monkeypatch.setattr(queue, "MANY", 3)
    best = [make_task(store, project, question=f"best {i}?", score=100.0 - i) for i in range(5)]
    for task in (*best, *tasks[36:], worse):
        given = claim(store, project, rater)
        assert given and row(store, schema.assignment, given).task == task
        answer(store, given, rater)
    assert claim(store, project, rater) is None


def test_a_skipped_task_goes_to_others_until_it_is_set_aside(store: Store):
    project = make_project(store, skips_until_parked=2)
    task = make_task(store, project)
    for _ in range(2):
        rater = make_rater(store)
        given = claim(store, project, rater)
        assert given
        answer(store, given, rater, {"skip": "too hard"})
    assert states(store) == {"parked": 1}
    assert claim(store, project, make_rater(store)) is None
    with store.write() as connection:
        assert work.unpark(connection, task) == 1
    assert claim(store, project, make_rater(store))


def test_a_flag_sets_aside_at_once_and_close_ends_it(store: Store):
    project, rater = make_project(store), make_rater(store)
    task = make_task(store, project, overlap=2)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater, {"flag": "shows an address"})
    assert states(store) == {"parked": 2}
    with store.write() as connection:
        work.unpark(connection, task, close=True)
    assert states(store) == {"closed": 2}
    assert claim(store, project, make_rater(store)) is None


def test_a_review_stands_beside_the_overlap(store: Store):
    project, rater, lead = make_project(store), make_rater(store), make_rater(store, "lead")
    task = make_task(store, project)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater)
    with store.write() as connection:
        review = work.assign(connection, task, lead)
        assert work.assign(connection, task, lead) == review
    assert answer(store, review, lead).disposition == "counted"
    with store.write() as connection, pytest.raises(UserError, match="already"):
        work.assign(connection, task, rater)


def test_the_same_question_in_the_same_round_is_one_task(store: Store):
    project = make_project(store)
    assert make_task(store, project) == make_task(store, project)
    assert make_task(store, project) != make_task(store, project, round=1)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.completion)).scalar() == 2


def test_a_prompt_stays_in_its_split(store: Store):
    """Training and evaluation never share a prompt, whichever project or round brings it."""
    first, second = make_project(store), make_project(store, "another")
    for project in (first, second):
        make_tasks(store, project, 60)
    with store.read() as connection:
        rows = connection.execute(select(schema.prompt.c.sha256, schema.prompt.c.split)).all()
    assert len(rows) == 120 and len(set(rows)) == 60
    assert {split for _, split in rows} == {"train", "held_out"}


@pytest.mark.parametrize(
    "kind, responses, options, sentence",
    [
        ("dance", ("a", "b"), {}, "unknown kind of task 'dance'"),
        ("pair", ("a",), {}, "2 different responses"),
        ("rules", ("a",), {"options": {"rules": []}}, "need rules"),
        ("pair", ("a", "b"), {"overlap": 0}, "overlap must be at least 1"),
        ("pair", ("a", "b"), {"options": {"axes": []}}, "no option 'axes'"),
        (
            "rate",
            ("a",),
            {"options": {"axes": [{"name": "x", "low": 2, "high": 1}]}},
            "low must be",
        ),
    ],
)
def test_a_task_that_cannot_be_asked(store: Store, kind, responses, options, sentence):
    project = make_project(store)
    with pytest.raises(UserError, match=sentence):
        make_task(store, project, kind, responses, **options)


class Assignments(RuleBasedStateMachine):
    """Any sequence of claims, answers, skips, expiries and corrections keeps the books right."""

    tasks = Bundle("tasks")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = new_store(Path(self.folder.name) / "heedful.db")
        self.project = make_project(self.store, skips_until_parked=2)
        self.raters = [make_rater(self.store) for _ in range(3)]
        self.given: list[tuple[str, str]] = []
        self.made = 0

    @rule(overlap=st.integers(1, 3))
    def task(self, overlap: int) -> None:
        self.made += 1
        make_task(self.store, self.project, question=f"{self.made}?", overlap=overlap)

    @rule(who=st.integers(0, 2), ahead=st.booleans())
    def claims(self, who: int, ahead: bool) -> None:
        rater = self.raters[who]
        holding = [g for g, r in self.given if r == rater] if ahead else []
        if (found := claim(self.store, self.project, rater, holding=holding)) and (
            found,
            rater,
        ) not in self.given:
            self.given.append((found, rater))

    @rule(
        pick=st.integers(0, 99), said=st.sampled_from([{"value": 1}, {"tie": True}, {"skip": ""}])
    )
    def answers(self, pick: int, said: dict) -> None:
        if self.given:
            try:
                answer(self.store, *self.given[pick % len(self.given)], said)
            except UserError as error:
                assert "be skipped or flagged" in str(error)

    @rule(pick=st.integers(0, 99))
    def time_passes(self, pick: int) -> None:
        if self.given:
            with self.store.write() as connection:
                expire_lease(connection, self.given[pick % len(self.given)][0])

    @invariant()
    def books_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        a, s, j, t = schema.assignment, schema.task_slot, schema.judgment, schema.task
        with self.store.read() as connection:
            run = connection.execute
            filled = Counter(run(select(s.c.task).where(s.c.state == "done")).scalars())
            overlaps = {r.id: r.overlap for r in run(select(t.c.id, t.c.overlap))}
            assert all(n <= overlaps[task] for task, n in filled.items())
            pairs = run(select(a.c.task, a.c.rater)).all()
            assert len(pairs) == len(set(pairs))
            active = run(select(a.c.task, a.c.slot).where(a.c.state == "active")).all()
            leased = run(select(s.c.task, s.c.slot).where(s.c.state == "leased")).all()
            assert sorted(active) == sorted(leased)
            # Every slot that is done names the first answer of its assignment, which counts or came late.
            done = run(select(j).join(s, s.c.judgment == j.c.id)).all()
            assert len(done) == sum(filled.values())
            assert all(d.disposition in ("counted", "late") and d.outcome != "skip" for d in done)
            first = {d.assignment: d.revision for d in done}
            for row in run(select(j.c.assignment, j.c.outcome, j.c.revision)):
                if row.revision < first.get(row.assignment, 0):
                    assert row.outcome == "skip"

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestAssignments = Assignments.TestCase
TestAssignments.pytestmark = [pytest.mark.long]
TestAssignments.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
