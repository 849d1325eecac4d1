"""Sums of named parts, ensembles, running scales: by hand."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from dataclasses import replace

import pytest

from heedful.errors import UserError
from heedful.rewards import Group, Part, Parts, Scores
from heedful.rewards.parts import Moments


def says(*values):
    """A reward whose k-th response is worth values[k], whatever it is."""

    async def reward(group):
        return values[: len(group.responses)]

    return reward


def by_length(factor: float):
    async def reward(group):
        return [factor * len(r) for r in group.responses]

    return reward


def group(*responses: str, prompt: str = "Why?") -> Group:
    return Group(prompt, responses, [True] * len(responses), {})


def scored(parts: Parts, *groups: Group) -> Scores:
    return asyncio.run(parts.score(groups))


def test_a_weighted_sum_with_every_part_by_its_name():
    """Mutation caught: weights applied twice or to the logged parts, groups out of order, sample std."""
    parts = Parts(
        [Part(name="a", members=(by_length(1),), weight=2), Part(name="b", members=(says(1, 3),), weight=-0.5)]
    )  # fmt: skip
    found = scored(parts, group("x", "xxx"), group("xx", prompt="Who?"))
    assert found.total == [2 * 1 - 0.5, 2 * 3 - 1.5, 2 * 2 - 0.5]
    assert found.parts == {"a": [1, 3, 2], "b": [1, 3, 1]}
    assert found.metrics == {
        "reward/a": 2.0,
        "reward/a/std": pytest.approx(math.sqrt(2 / 3)),
        "reward/b": pytest.approx(5 / 3),
        "reward/b/std": pytest.approx(math.sqrt(8 / 9)),
    }


MEMBERS = (
    says(1.0, -2.0),
    says(3.0, -2.0),
    says(2.0, 4.0),
)  # per response: (1, 3, 2) and (−2, −2, 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2.0, 0.0]),
        ({"by": "min"}, [1.0, -2.0]),
        ({"k": 0.5}, [2 - 0.5 * math.sqrt(2 / 3), 0 - 0.5 * math.sqrt(8)]),
    ],
)
def test_ensembles_by_hand(options, expected):
    """Mutation caught: combined over responses in place of members, σ² for σ, the disagreement of the wrong axis."""
    found = scored(Parts([Part(name="rm", members=MEMBERS, **options)]), group("x", "y"))
    assert found.total == pytest.approx(expected)
    disagreement = (math.sqrt(2 / 3) + math.sqrt(8)) / 2
    assert found.metrics["reward/rm/disagreement"] == pytest.approx(disagreement)


def test_members_that_agree_do_not_disagree():
    found = scored(Parts([Part(name="rm", members=(says(1.0), says(1.0)), k=9)]), group("x"))
    assert found.total == [1.0] and found.metrics["reward/rm/disagreement"] == 0.0


def test_members_that_watch_are_told_one_by_one():
    """Of a mean; where their spread is charged (k), it is no error besides. Mutation caught: the mean of the last
    member for each, members of a reward that is alone, of one that is optimised."""
    watch = Part(name="w", members=(says(1, 3), says(5, 5)), watched=True)
    both = [Part(name="r", members=(by_length(1.0),)), watch]
    metrics = scored(Parts(both), group("a", "b")).metrics
    assert (metrics["watch/w"], metrics["watch/w/1"], metrics["watch/w/2"]) == (3.5, 2, 5)
    for other in (replace(watch, k=1.0), replace(watch, members=watch.members[:1])):
        told = scored(Parts([both[0], other]), group("a", "b")).metrics
        assert "watch/w" in told and "watch/w/1" not in told


def test_running_moments_are_those_of_all_values():
    """In batches of any size, with a mean far from 0. Mutation caught: mean of stds, n − 1, no delta²."""
    draw = random.Random(0)
    batches = [[draw.gauss(1000 + i, 0.5) for _ in range(draw.randint(1, 9))] for i in range(40)]
    moments = Moments()
    for batch in batches:
        moments.update(batch)
        moments.update([])
    everything = [v for batch in batches for v in batch]
    assert moments.count == len(everything)
    assert moments.mean == pytest.approx(statistics.fmean(everything), rel=1e-12)
    assert moments.scale == pytest.approx(statistics.pstdev(everything), rel=1e-9)


def test_normalised_parts_keep_their_sign_and_zero():
    """The second batch is divided by the spread of both. Mutation caught: a shift, this batch's spread alone, the
    scale of before the batch, one update a group."""
    parts = Parts([Part(name="n", members=(by_length(1),), weight=3)], normalise=True)
    first = scored(parts, group("x" * 10), group("x" * 30))
    assert first.total == pytest.approx([3.0, 9.0])  # σ of (10, 30) is 10
    second = scored(parts, group("", "x" * 60))
    spread = statistics.pstdev([10, 30, 0, 60])
    assert second.total == pytest.approx([0.0, 3 * 60 / spread])
    assert second.metrics["reward/n/scale"] == pytest.approx(spread)
    assert second.metrics["reward/n"] == 30.0  # as it was


def test_a_constant_part_stays_as_it_is():
    """Mutation caught: division by a spread of 0."""
    parts = Parts([Part(name="n", members=(says(5.0, 5.0),))], normalise=True)
    assert scored(parts, group("x", "y")).total == [5.0, 5.0]


def test_a_checkpoint_of_the_scales_goes_on_where_it_was():
    """Mutation caught: normalisers that start again on resume; JSON keeps every digit."""
    import json

    def fresh() -> Parts:
        return Parts([Part(name="n", members=(by_length(0.1),))], normalise=True)

    whole, first = fresh(), fresh()
    for parts in (whole, first):
        scored(parts, group("a", "bbb"))
    second = fresh()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert scored(second, group("cc", "d" * 9)).total == scored(whole, group("cc", "d" * 9)).total
    with pytest.raises(UserError, match="the reward parts n, this run has other"):
        Parts([Part(name="other", members=(says(1),))]).load_state_dict(first.state_dict())


@pytest.mark.parametrize("bad", [math.nan, math.inf, "1.0", [1.0, 2.0]])
def test_what_is_no_finite_number_names_part_and_response(bad):
    parts = Parts([Part(name="ok", members=(says(1.0),)), Part(name="rm", members=(says(bad),))])
    with pytest.raises(
        UserError, match=r"the reward 'rm' of 'well' \(prompt 'Why\?'\) is .*finite"
    ):
        scored(parts, group("well"))


def test_a_part_that_abstains_is_left_out_of_sum_means_and_scale():
    """None for a response, or of a member: by hand. Mutation caught: None as 0, in a mean, a spread or a running
    scale; a sum of nothing as 0."""
    parts = Parts(
        [
            Part(name="a", members=(says(2.0, None, None),), weight=10),
            Part(name="e", members=(says(1.0, 3.0, None), says(None, 5.0, None)), k=1),
        ],
        normalise=True,
    )
    scores = scored(parts, group("x", "y", "z"))
    assert scores.parts == {"a": [2.0, None, None], "e": [1.0, 4.0 - 1.0, None]}
    assert scores.total == [10 * 2.0 + 1.0, 3.0, None] and scores.unscored == 1
    assert scores.metrics == {
        "reward/a": 2.0,
        "reward/a/std": 0.0,
        "reward/a/scale": 1.0,
        "reward/a/abstained": pytest.approx(2 / 3),
        "reward/e": 2.0,
        "reward/e/std": 1.0,
        "reward/e/scale": 1.0,
        "reward/e/disagreement": 0.5,
        "reward/e/abstained": pytest.approx(1 / 3),
        "reward/unscored": pytest.approx(1 / 3),
    }
    assert parts.moments["a"].count == 1
    assert scored(Parts([]), group("x")).total == [0.0]


def test_what_a_reward_logs_reaches_metrics_and_columns():
    """Means over calls, columns at the place of their responses. Mutation caught: columns of one group at another's."""

    async def reward(group):
        group.log_metric("mine", len(group.responses))
        if len(group.responses) > 1:
            group.log_extra("column", [r + "!" for r in group.responses])
        return [0.0] * len(group.responses)

    scores = scored(Parts([Part(name="r", members=(reward,))]), group("x"), group("y", "z"))
    assert scores.metrics["mine"] == 1.5 and scores.extra == {"column": [None, "y!", "z!"]}


@pytest.mark.parametrize(
    ("said", "words"), [([1.0], "1 numbers for 2 responses"), (0.5, "a list of numbers, not 0.5")]
)
def test_the_wrong_number_of_numbers(said, words):
    async def reward(group):
        return said

    with pytest.raises(UserError, match=words):
        scored(Parts([Part(name="rm", members=(reward,))]), group("x", "y"))


def test_an_error_keeps_its_kind_and_says_where():
    """Mutation caught: an exception that becomes 0.0, or another exception."""

    error = KeyError("asleep")  # one for all groups, as of a model that scores them together

    async def broken(group):
        raise error

    with pytest.raises(KeyError, match="asleep") as caught:
        scored(Parts([Part(name="judge", members=(broken,))]), group("x"), group("y"))
    assert caught.value.__notes__ == ["in the reward 'judge', at the prompt 'Why?'"]


def test_a_single_reward_is_a_sum_of_one():
    assert scored(Parts.of(says(2.0)), group("x")).total == [2.0]
    parts = Parts.of(says(2.0))
    assert Parts.of(parts) is parts


def test_names_differ():
    with pytest.raises(ValueError, match="differ"):
        Parts([Part(name="a", members=()), Part(name="a", members=())])
