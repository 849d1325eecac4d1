"""Texts measured without people: against worked numbers and identities."""

from __future__ import annotations

import math

import pytest

from heedful.errors import UserError
from heedful.evals import texts


def test_distinct():
    """Mutation caught: shares per text averaged (1.0 here), characters for words."""
    assert texts.distinct(["a b", "a b c"], 1) == 3 / 5
    assert texts.distinct(["a b", "a b c"], 2) == 2 / 3
    assert math.isnan(texts.distinct(["a", ""], 2))


def test_overlap_takes_the_better_reference():
    """Mutation caught: the first reference only, recall for F1, references and texts exchanged."""
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    found = texts.overlap(["the cat sat", "x"], [["a dog", "the cat sat on the mat"], ["x"]])
    assert found["rouge1"] == pytest.approx((2 * (1 * 3 / 6) / (1 + 3 / 6) + 1) / 2)
    assert found["rouge2"] == pytest.approx((2 * (1 * 2 / 5) / (1 + 2 / 5) + 0) / 2)
    same = "the cat sat on the mat today"
    assert texts.overlap([same], [["no", same]])["bleu"] == pytest.approx(100)
    # 2 words of 6 are missing: all precisions are 1, the brevity penalty is exp(1 − 7/5).
    short = texts.overlap(["the cat sat on the"], [[same]])
    assert short["bleu"] == pytest.approx(100 * math.exp(1 - 7 / 5))


def test_self_bleu():
    """Mutation caught: each text compared with itself too (100 for all)."""
    pytest.importorskip("sacrebleu")
    one, other = "the cat sat on the mat", "nobody ever reads whole manuals twice"
    assert texts.variety([one, one])["self_bleu"] == pytest.approx(100)
    assert (texts.variety([one, other])["self_bleu"] or 0) < 10
    assert texts.variety([one])["self_bleu"] is None


def test_missing_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(
        UserError, match=r"sacrebleu is not installed: pip install .heedful\[texts\]"
    ):
        texts.variety(["a", "b"])


def test_length_controlled():
    """Two lengths, one win rate each: at equal length logits are halfway between, whatever the mix.

    Mutation caught: the plain mean, differences read with the wrong sign or not standardised.
    """

    def told(long: tuple[int, int], short: tuple[int, int], by: float = 40.0) -> float:
        won = [float(k < w) for w, n in (long, short) for k in range(n)]
        lengths = [by] * long[1] + [-by] * short[1]
        return texts.length_controlled(won, lengths, draws=1)[0]

    assert told((720, 900), (20, 100)) == pytest.approx(
        0.5, abs=1e-3
    )  # length alone wins; mean 0.74
    even = [float(k % 4 < 3) for k in range(400)]
    assert texts.length_controlled(even, [5.0] * 400, draws=1)[0] == pytest.approx(0.75, abs=1e-6)
    assert told((300, 400), (300, 400)) == pytest.approx(0.75, abs=1e-3)
    assert told((720, 900), (20, 100), by=-40.0) == pytest.approx(0.5, abs=1e-3)
    logits = (math.log(3) + math.log(0.6 / 0.4)) / 2
    assert told((300, 400), (240, 400)) == pytest.approx(1 / (1 + math.exp(-logits)), abs=1e-3)
    rate, (low, high) = texts.length_controlled([1.0] * 50, [float(k) for k in range(50)])
    assert rate > 0.99 and low <= rate <= high + 1e-9
