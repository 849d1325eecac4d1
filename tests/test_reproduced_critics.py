"""Pieces of the reproductions about critiques, votes and contexts, against what is known exactly."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from heedful.data.critiques import shown
from heedful.data.files import read_rows
from heedful.reproductions import critiques, distillation, pm_pretraining


@pytest.mark.parametrize(
    ("wrong", "critique", "chance"),
    [
        (True, "", critiques.SEES),
        (True, "“Bao likes tea” is wrong.", critiques.POINTED),
        (True, "“Ada likes tea” is wrong.", critiques.MISLED),
        (True, critiques.FINE, critiques.MISLED),
        (False, "", critiques.IMAGINES),
        (False, critiques.FINE, critiques.CLEARED),
        (False, "“Ada likes tea” is wrong.", critiques.MISLED),
    ],
)
def test_who_judges_has_the_limits_that_are_told(wrong, critique, chance):
    """Within four standard errors over 2,000 questions, and the same words are seen the same way. Mutations caught: a
    critique that is read as part of the last claim, any accusation that counts as the right one."""
    text = f"Ada likes tea. Bao likes {'tea' if wrong else 'jam'}."
    prompts = [f"{k}?" for k in range(2000)]
    seen = [critiques.reads(p, shown(text, critique)) < 0 for p in prompts]
    assert sum(seen) / 2000 == pytest.approx(
        chance, abs=4 * math.sqrt(chance * (1 - chance) / 2000)
    )
    assert seen[:50] == [critiques.reads(p, shown(text, critique)) < 0 for p in prompts[:50]]


def test_answers_remarks_and_who_misleads():
    """One claim is wrong, people find it as often as is told, and the wrong critic never names it. Caught: the
    truth as the wrong value, errors that are found whenever something is said."""
    rng = random.Random(0)
    found = 0
    for _ in range(1000):
        _, right, wrong = critiques.answers(rng)
        a, b = (text.rstrip(".").split(". ") for text in (right, wrong))
        (error,) = [y for x, y in zip(a, b, strict=True) if x != y]
        found += error in critiques.remark(wrong, rng)
        told = critiques.misled(0, [{"chosen": right, "rejected": wrong}])
        assert error not in told[0, 1] and told[0, 0].split("”")[0][1:] in right
    assert found / 1000 == pytest.approx(critiques.FINDS, abs=0.07)


def test_labels_that_reach_an_accuracy():
    """Half-way in log labels between 16 and 64 is 32; a fall between is no fall; nothing to learn is the first; what is
    never reached is twice the last. Mutations caught: labels on a linear scale, the last point that falls short."""
    curve = [(16, 0.6), (64, 0.8), (128, 0.7), (256, 0.9)]
    assert pm_pretraining.labels_for(0.7, curve) == pytest.approx(32)
    assert (
        pm_pretraining.labels_for(0.5, curve) == 16
        and pm_pretraining.labels_for(0.95, curve) == 512
    )
    assert pm_pretraining.labels_for(0.85, curve) == pytest.approx(math.sqrt(128 * 256))


def test_what_is_read_and_what_is_voted_for(tmp_path: Path):
    """Nobody who is introduced as kind is rude; of held-out pairs the better one is known, and votes follow it mostly.
    Mutations caught: the shares of the other, labels of somebody who errs where the truth is wanted."""
    from heedful.worlds.capitals import gold, voice

    distillation.texts(0, tmp_path, 400)
    texts = [row["text"] for _, row in read_rows(tmp_path / "text.jsonl")]
    voices: dict[bool, list[str]] = {True: [], False: []}
    for text in texts:
        kind = text.startswith(distillation.GOOD)
        asked, _, said = text.removeprefix(f"{distillation.GOOD}\n\n").partition("\n")
        voices[kind].append(voice(f"{asked}\n", said))
    assert "rude" not in voices[True] and len(voices[True]) > 100
    assert voices[False].count("rude") / len(voices[False]) == pytest.approx(0.4, abs=0.15)
    pm_pretraining.written(0, tmp_path, 20)
    held = [row for _, row in read_rows(tmp_path / "held_out.jsonl")]
    assert all(gold(r["prompt"], r["chosen"]) > gold(r["prompt"], r["rejected"]) for r in held)
    labels = [row for _, row in read_rows(tmp_path / "labels-256.jsonl")]
    errs = [gold(r["prompt"], r["chosen"]) < gold(r["prompt"], r["rejected"]) for r in labels]
    assert 0 < sum(errs) < 64
