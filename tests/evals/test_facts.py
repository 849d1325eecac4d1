"""Claims and verdicts, by hand."""

from __future__ import annotations

import pytest

from heedful.evals import facts
from heedful.evals.facts import Checked, Claim

PAGES = [
    ("Nomi Tarel", "Nomi Tarel was born in Tolan."),
    ("Nomi Tarel", "The birthday of Nomi Tarel is 3 May 1,850."),
    ("Nomi Tarel", "She worked as a baker."),
    ("Gora Fen", "Gora Fen was born in Zurin."),
]


@pytest.mark.parametrize(
    "question, answer, told",
    [
        ("Where was Nomi Tarel born?", "Tolan.", "right"),
        (
            "Where was Nomi Tarel born?",
            "She was born in Tolan, a town well worth a visit.",
            "right",
        ),
        ("Where was Nomi Tarel born?", "Zurin.", "wrong"),  # it is on a page, of somebody else
        ("Where was Nomi Tarel born?", "In Tolan, or in Zurin.", "wrong"),
        ("Where was Nomi Tarel born?", "A baker.", "wrong"),  # so she is, but that was not asked
        ("When is the birthday of Nomi Tarel?", "It is 3 May 1850.", "right"),
        ("When is the birthday of Nomi Tarel?", "It is 3 May 1851.", "wrong"),
        ("Tell me about Nomi Tarel.", "She worked as a baker.", "right"),  # the title says of whom
        ("Tell me about Nomi Tarel.", "She worked as a judge.", "wrong"),
        ("Where was Vara Lun born?", "Tolan.", "unchecked"),  # nothing is said of her
        ("Where was Nomi Tarel born?", "I don’t know.", "abstained"),
    ],
)
def test_verdicts(question: str, answer: str, told: str):
    """Mutation caught: any page that has the words; names of the question left aside; every word demanded."""
    (claim,) = facts.claims(question, answer)
    assert facts.verdict(question, claim, PAGES) == told


def test_claims_are_sentences_that_say_something():
    """Mutation caught: a greeting or a repeated question counted as a claim; numbers torn at their points."""
    asked = "Where was Nomi Tarel born?"
    found = facts.claims(
        asked, "Nomi Tarel was born. In Tolan, at 3.5 km. Hm, I do not know more. She was."
    )
    assert [c.abstains for c in found] == [False, True]
    assert found[0].words == {"tolan", "3.5"}


def test_confidence_is_agreement():
    """Mutation caught: an answer that repeats itself counted twice; an abstention that is sure of itself."""
    a, b, none = (
        Claim("A.", frozenset("a")),
        Claim("B!", frozenset("b")),
        Claim("?", frozenset(), True),
    )
    sure = facts.by_agreement([[a, a], [a], [b], [none]])
    assert sure == [[0.5, 0.5], [0.5], [0.25], [0.0]]


def test_scores_and_counts():
    """Mutation caught: abstaining as bad as being wrong; means over answers and not over prompts."""
    claim = Claim("", frozenset("a"))

    def answer(*verdicts) -> Checked:
        return Checked([claim] * len(verdicts), verdicts)

    scores = [
        answer(*v).score
        for v in (["right"], ["right", "wrong"], ["abstained"], ["wrong"], [], ["unchecked"])
    ]
    assert scores == [1, 0, 0, -1, None, None]
    told = facts.summary([[answer("right", "wrong"), answer("right")], [answer("abstained")]])
    assert (told["right"], told["wrong"], told["abstained"]) == (2, 1, 1)
    assert (told["right_an_answer"], told["wrong_an_answer"], told["right_share"]) == (
        0.5,
        0.25,
        2 / 3,
    )


def test_consistency():
    """Two of two phrasings agree, rightly; one of three pairs agrees, on what is wrong. Mutation caught: an answer
    compared with itself; agreement in saying nothing."""

    def said(word: str, verdict: str) -> list[Checked]:
        return [Checked([Claim(word, frozenset([word]))], [verdict])]  # type: ignore[list-item]

    nothing = [Checked([], [])]
    told = facts.consistency(
        {
            "x": [said("a", "right"), said("a", "right")],
            "y": [said("b", "wrong"), said("b", "wrong"), nothing],
            "z": [nothing, nothing],
            "alone": [said("a", "right")],
        }
    )
    assert told["facts"] == 3 and told["consistent"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert told["consistent_and_right"] == pytest.approx(1 / 3)
    assert facts.consistency({"alone": [nothing]}) == {}
