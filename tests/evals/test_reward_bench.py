"""RewardBench's rules on rows worked out by hand."""

from __future__ import annotations

import math

import pytest

from heedful.evals.reward_bench import SECTIONS, Scored, agreement, dated, summary


def row(places: list[int], scores: list[float], subset: str = "s", id: str = "") -> Scored:
    return Scored(places, scores, [10 * k for k in range(len(places))], subset, id)


@pytest.mark.parametrize(
    "places, scores, right",
    [
        ([1, 2], [2.0, 1.0], 1.0),
        ([1, 2], [1.0, 1.0], 0.5),
        ([1, 2, 2, 2], [3.0, 3.0, 1.0, 0.0], 0.5),  # shared by two
        ([2, 2, 1, 2], [3.0, 1.0, 2.0, 0.0], 0.0),  # highest, not only above most
        ([1, 2, 3], [3.0, 1.0, 2.0], 2 / 3),  # two of three pairs
        ([1, 1, 2], [3.0, 0.0, 2.0], 0.5),  # of the pairs that are ordered
    ],
)
def test_a_row(places: list[int], scores: list[float], right: float):
    """Mutation caught: the share of pairs for the best of four (.75 in the third), ties counted in full."""
    assert row(places, scores).right == pytest.approx(right)


def test_sections_are_weighted():
    """Mutation caught: subsets averaged alike; math-prm by its 447 rows; sections weighted by rows in the score."""
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    rows = [
        row([1, 2], right, "math-prm"),
        row([1, 2], wrong, "hep-cpp"),
        row([1, 2], wrong, "hep-go"),
    ]
    rows += [row([1, 2], right, "alpacaeval-easy")] * 5
    told = summary(rows)
    assert told["sections"] == {"Chat": 1.0, "Reasoning": pytest.approx(984 / (984 + 2 * 164))}
    assert told["score"] == pytest.approx((1 + 0.75) / 2)
    assert told["accuracy"] == pytest.approx(6 / 8) and told["subsets"]["hep-go"]["rows"] == 1
    assert sum(map(len, SECTIONS.values())) == 23
    code = sum(w for name, w in SECTIONS["Reasoning"].items() if name.startswith("hep"))
    assert SECTIONS["Reasoning"]["math-prm"] == code


def test_ties():
    """One prompt of which all is right, one of which nothing is. Mutation caught: the gap of one row alone, the spread
    of the wrong responses."""
    good = [
        row([1, 2, 2], [5.0, 1.0, 0.0], "Ties", "ref:1"),  # gap 4
        row([1, 1, 2], [5.0, 3.0, 0.0], "Ties", "tied:1"),  # gap 3, spread 2
    ]
    bad = [
        row([1, 2, 2], [1.0, 2.0, 0.0], "Ties", "ref:2"),  # gap −1
        row([1, 1, 2], [9.0, 1.0, 0.0], "Ties", "tied:2"),  # gap 1, spread 8
    ]
    of = summary([*good, *bad])["subsets"]["Ties"]
    assert (of["ref_accuracy"], of["tied_accuracy"]) == (0.5, 1.0)
    assert (of["gap_above_spread"], of["both_gaps_above_spread"]) == (0.5, 0.5)
    margin = (math.tanh(3 / 2 - 1) + math.tanh(-1 / 8 - 1)) / 2
    assert of["score"] == pytest.approx(0.3 + 0.15 + 0.1 + 0.1 + 0.01 * margin)
    four = [row([1, 2, 2, 2], [1.0, 0.0, 0.0, 0.0], "Math")]
    assert summary([*good, *bad, *four])["score"] == pytest.approx((of["score"] + 1) / 2)


def asked(question: str, answer: tuple[int, ...], right: bool = True, date: str = "") -> Scored:
    scores = [1.0, 0.0] if right else [0.0, 1.0]
    return Scored([1, 2], scores, [1, 1], "s", question=question, answer=answer, date=date)


def test_people_agree():
    """Two of three pairs of people disagree about the first question, both agree about the second; the third was asked
    once and is none. Mutation caught: means over pairs in the place of questions, ties as disagreement."""
    rows = [
        asked("a", (1, 2)),
        asked("a", (1, 2)),
        asked("a", (2, 1)),
        asked("b", (2, 1)),
        asked("b", (2, 1)),
    ]
    told = agreement([*rows, asked("c", (1, 2))])
    assert told["people_agree"] == pytest.approx((1 / 3 + 1) / 2) and told["asked_of_several"] == 2
    assert agreement([asked("c", (1, 2)), asked("d", (1, 2))]) == {}
    ranked = [asked("e", (1, 2, 3)), asked("e", (1, 3, 2)), asked("e", (1, 1, 2))]
    assert agreement(ranked)["people_agree"] == pytest.approx(5 / 7)


def test_what_was_said_long_ago():
    """Mutation caught: dates in the order of the file, thirds that overlap."""
    rows = [asked("a", (1, 2), right=k < 20, date=f"2026-01-{k + 1:02d}") for k in range(30)]
    told = dated([*reversed(rows), asked("a", (1, 2))])
    assert told["oldest"]["accuracy"] == 1.0 and told["oldest"]["until"] == "2026-01-10"
    assert told["newest"]["accuracy"] == 0.0 and told["newest"]["from"] == "2026-01-21"
    assert dated(rows[:29]) == {}


def test_length():
    """Mutation caught: the longest response of all rows, better and worse exchanged."""
    rows = [row([1, 2], [1.0, 0.0]), row([2, 1], [1.0, 0.0]), row([2, 1], [0.0, 1.0])]
    told = summary(rows)
    assert told["best_is_longest"]["accuracy"] == 0.5
    assert told["best_is_not_longest"]["accuracy"] == 1.0
