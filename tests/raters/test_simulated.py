"""Simulated raters: planted temperatures, biases and noise come back out of their judgments."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from itertools import permutations

import pytest

from heedful.errors import UserError
from heedful.raters.panel import judge_all
from heedful.raters.simulated import SimulatedRater, panel
from heedful.types import Prompt

N = 4000


def worth(prompt: Prompt, response: str) -> float:
    """The number a response begins with."""
    return float(response.split()[0])


def asked(rater: SimulatedRater, *responses: str, n: int = N):
    return [rater.judge(f"question {i}", responses) for i in range(n)]


def share_first_wins(comparisons) -> float:
    return sum(c.ranking[0] < c.ranking[1] for c in comparisons) / len(comparisons)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def within_4_se(share: float, p: float, n: int = N) -> bool:
    return abs(share - p) <= 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("temperature", [0.25, 0.5, 2.0])
def test_two_responses_are_judged_by_bradley_terry(temperature):
    rater = SimulatedRater(worth, "r", temperature=temperature)
    share = share_first_wins(asked(rater, "1.0", "0.5"))
    assert within_4_se(share, sigmoid(0.5 / temperature))


def test_three_responses_are_ranked_by_plackett_luce():
    scores = (1.0, 0.6, 0.1)
    rater = SimulatedRater(worth, "r", temperature=0.5)
    seen = Counter(c.ranking for c in asked(rater, *map(str, scores)))
    e = [math.exp(s / 0.5) for s in scores]
    for order in permutations(range(3)):
        p = e[order[0]] / sum(e) * e[order[1]] / (e[order[1]] + e[order[2]])
        ranking = tuple(order.index(k) + 1 for k in range(3))
        assert within_4_se(seen[ranking] / N, p), (order, p)


def test_length_bias_is_per_word():
    rater = SimulatedRater(worth, "r", temperature=1.0, length_bias=0.2)
    share = share_first_wins(asked(rater, "0 a b c d e", "0"))
    assert within_4_se(share, sigmoid(0.2 * 5))


def test_position_bias_is_of_the_place_shown_and_of_nothing_else():
    rater = SimulatedRater(worth, "r", temperature=1.0, position_bias=0.8)
    comparisons = asked(rater, "0 a", "0 b")
    shown_first_wins = sum(c.ranking[c.order_shown[0]] == 1 for c in comparisons) / N
    assert within_4_se(shown_first_wins, sigmoid(0.8))
    assert within_4_se(share_first_wins(comparisons), 0.5)  # labels stay with responses


def test_without_position_bias_the_place_says_nothing():
    comparisons = asked(SimulatedRater(worth, "r", temperature=0.5), "1", "0.5")
    shown_first = [c for c in comparisons if c.order_shown == (0, 1)]
    assert within_4_se(len(shown_first) / N, 0.5)
    assert within_4_se(share_first_wins(shown_first), sigmoid(1.0), len(shown_first))


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_noise_is_the_share_of_random_answers(noise):
    rater = SimulatedRater(
        worth, "r", temperature=0.01, noise=noise, length_bias=9.0, position_bias=9.0
    )
    assert within_4_se(share_first_wins(asked(rater, "1 a", "0 b")), 1 - noise / 2)


def test_a_troll_turns_its_own_ranking_round():
    responses = ("3", "1", "2", "1")
    honest = SimulatedRater(worth, "r", temperature=0.8)
    troll = SimulatedRater(worth, "r", temperature=0.8, troll=True)
    for i in range(50):
        a = honest.judge(str(i), responses).ranking
        b = troll.judge(str(i), responses).ranking
        assert [4 - rank for rank in a] == list(b)


def test_identical_texts_tie():
    for c in asked(SimulatedRater(worth, "r", position_bias=3.0), "1 a", "0 b", "1 a", n=100):
        assert c.ranking[0] == c.ranking[2] != c.ranking[1]
        assert sorted(set(c.ranking)) == [1, 2]
    assert SimulatedRater(worth, "r").judge("q", ("1", "1")).ranking == (1, 1)


def test_the_same_question_gets_the_same_answer_and_another_seed_another():
    a, b, c = (SimulatedRater(worth, "r", temperature=9.0, seed=s) for s in (0, 0, 1))
    assert asked(a, "1", "2", n=50) == asked(b, "1", "2", n=50)
    assert asked(a, "1", "2", n=50) != asked(c, "1", "2", n=50)


def test_a_judgment_is_complete_and_plausible():
    c = SimulatedRater(worth, "Ada", temperature=0.1).judge("q", ("1 x", "2 y", "0 z"))
    assert c.rater == "Ada"
    assert c.responses == ("1 x", "2 y", "0 z")
    assert sorted(c.ranking) == [1, 2, 3]
    assert c.order_shown is not None and sorted(c.order_shown) == [0, 1, 2]
    assert c.seconds is not None and 2 < c.seconds < 600
    assert c.created_at is None


def test_impossible_raters_are_refused():
    with pytest.raises(UserError, match="temperature"):
        SimulatedRater(worth, "r", temperature=0)
    with pytest.raises(UserError, match="noise"):
        SimulatedRater(worth, "r", noise=1.5)


def test_a_panel_takes_turns():
    people = panel(worth, 0)
    names = [rater.name for rater in people]
    assert len(set(names)) == len(names) == 8
    assert not any(rater.troll for rater in people)
    assert sum(rater.troll for rater in panel(worth, 0, troll=True)) == 1
    comparisons = asyncio.run(judge_all(people, [(f"q{i}", ("1", "2")) for i in range(20)]))
    assert [c.rater for c in comparisons] == [names[i % 8] for i in range(20)]
    assert comparisons == asyncio.run(
        judge_all(panel(worth, 0), [(f"q{i}", ("1", "2")) for i in range(20)])
    )


def test_the_panel_mostly_prefers_the_better_answer():
    comparisons = asyncio.run(
        judge_all(panel(worth, 0), [(f"q{i}", ("1.0", "-1.0")) for i in range(800)])
    )
    assert share_first_wins(comparisons) > 0.9
