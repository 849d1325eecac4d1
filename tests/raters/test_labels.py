"""Dawid–Skene and MACE against enumeration of all truths, and against planted raters."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heedful.cli import main
from heedful.data.files import write_rows
from heedful.errors import UserError
from heedful.raters import labels as L
from heedful.raters.labels import Fitted, Labels, Model, fit, labels_of

TINY = [
    ("x", "a", 1), ("x", "b", 1), ("x", "c", 0), ("y", "a", 0), ("y", "b", 2), ("y", "c", 0),
    ("z", "a", 2), ("z", "b", 2), ("z", "c", 2), ("g", "a", 1), ("g", "c", 0),
]  # fmt: skip


def tiny(gold: dict[str, float]) -> Labels:
    items, raters, values = zip(*TINY, strict=True)
    return labels_of(items, raters, values, gold)  # pyright: ignore


def enumerated(labels: Labels, shares: Tensor, says: Tensor) -> tuple[Tensor, Tensor]:
    """log P(labels), and P(truth) of each item, by the sum over every combination of truths: nothing is factored."""
    classes = len(shares)
    total, truth = torch.zeros(()).double(), torch.zeros(len(labels.items), classes).double()
    for world in product(range(classes), repeat=len(labels.items)):
        if any(g >= 0 and g != c for g, c in zip(labels.gold.tolist(), world, strict=True)):
            continue
        p = torch.stack([shares[c] for c in world]).prod()
        for i, r, said in zip(labels.item, labels.rater, labels.label, strict=True):
            p = p * says[r, world[int(i)], said]
        total = total + p
        for i, c in enumerate(world):
            truth[i, c] += p.detach()
    return total.log(), truth / total.detach()


def mace_says(knows: Tensor, spam: Tensor) -> Tensor:
    eye = torch.eye(spam.shape[1]).double()
    return knows[:, None, None] * eye + (1 - knows)[:, None, None] * spam[:, None, :]


@pytest.mark.parametrize("gold", [{}, {"g": 1}])
@pytest.mark.parametrize("model", ["dawid_skene", "mace"])
def test_em_ends_at_a_maximum_of_the_exact_posterior(
    model: Model, gold: dict[str, float], monkeypatch
):
    """Each step climbs; truths are those of enumeration; and at the end the gradient of the enumerated log posterior,
    in coordinates that keep probabilities in their simplex, is 0. Mutations caught: π transposed, a prior that is not
    in the step, who knew by luck taken for knowing, gold that is inferred all the same, shares that are not
    learned."""
    monkeypatch.setattr(L, "ENOUGH", 1e-14)
    monkeypatch.setattr(L, "STEPS", 20_000)
    labels = tiny(gold)
    fitted = fit(labels, model)
    assert all(b >= a - 1e-9 for a, b in zip(fitted.climbed, fitted.climbed[1:], strict=False))
    _, truth = enumerated(labels, fitted.shares, fitted.says)
    torch.testing.assert_close(fitted.truth, truth, rtol=0, atol=1e-9)
    classes = len(labels.classes)
    raw = [fitted.shares.log()]
    if model == "dawid_skene":
        raw.append(fitted.says.log())
        weight = torch.full((classes, classes), L.WRONG / (classes - 1)).double()
        weight.fill_diagonal_(L.RIGHT)
    else:
        # Off the diagonal P(says l | c) is (1 − θ)·ξ[l], of any c ≠ l.
        spam = torch.stack([fitted.says[:, (c + 1) % classes, c] for c in range(classes)], 1)
        knows = 1 - spam.sum(1)
        raw += [torch.logit(knows), spam.log()]
        weight = torch.zeros(())

    def posterior(*raw: Tensor) -> Tensor:
        shares = raw[0].softmax(0)
        prior = L.EVEN / classes * shares.log().sum()
        if model == "dawid_skene":
            says = raw[1].softmax(2)
            prior = prior + (weight * says.log()).sum()
        else:
            knows, spam = raw[1].sigmoid(), raw[2].softmax(1)
            says = mace_says(knows, spam)
            prior = prior + (L.KNOWS * knows.log() + L.GUESSES * (1 - knows).log()).sum()
            prior = prior + L.EVEN / classes * spam.log().sum()
        return enumerated(labels, shares, says)[0] + prior

    assert float(posterior(*raw)) == pytest.approx(fitted.climbed[-1])
    for gradient in torch.autograd.functional.jacobian(posterior, tuple(raw)):
        assert float(gradient.abs().max()) < 2e-4


def planted(seed: int, each: int = 60) -> list[tuple[str, str, int]]:
    """Whether 200 responses keep a rule, by ten good raters (.9), a guesser and one who always says yes."""
    rng = random.Random(seed)
    truth = [int(rng.random() < 0.3) for _ in range(200)]
    rows = []
    for name in [*(f"good{i}" for i in range(10)), "guesses", "always"]:
        for item in rng.sample(range(200), each):
            right = rng.random() < 0.9
            said = truth[item] if right else 1 - truth[item]
            said = {"guesses": rng.randrange(2), "always": 1}.get(name, said)
            rows.append((str(item), name, said))
    return [*rows, *((str(i), "truth", t) for i, t in enumerate(truth))]


@pytest.mark.parametrize("model", ["dawid_skene", "mace"])
def test_planted_raters_come_back(model: Model):
    """Guessers and who always says the same weigh nothing though four in ten of their labels are right; truths are
    better than the majority's. Mutation caught: the share of right labels for the weight."""
    rows = planted(0)
    answers = {item: said for item, name, said in rows if name == "truth"}
    rows = [row for row in rows if row[1] != "truth"]
    items, raters, values = zip(*rows, strict=True)
    labels = labels_of(items, raters, values, {})
    fitted: Fitted = fit(labels, model)
    weight = dict(zip(labels.people, fitted.weights.tolist(), strict=True))
    assert max(weight["guesses"], weight["always"]) < 0.3
    assert all(0.6 < weight[f"good{i}"] < 0.95 for i in range(10))
    truth = torch.tensor([answers[str(item)] for item in labels.items])
    majority = (L._majority(labels)[:, 1] > 0.5) == truth
    found = (fitted.truth[:, 1] > 0.5) == truth
    assert found.float().mean() > majority.float().mean() and found.float().mean() > 0.93


def test_the_command(tmp_path: Path, capsys):
    """Thumbs and rules of one file, each an axis; weights that training takes; with gold, who is against the majority
    can be right. Mutations caught: axes mixed up, rows of nobody counted, a rater's gold not read."""
    rows = [
        {"prompt": f"q{item}", "completion": "a", "axis": axis, "value": said if axis == "kind" else 1 - said,
         "rater": name}
        for item, name, said in planted(1, 40) if name != "truth" for axis in ("kind", "true")
    ]  # fmt: skip
    write_rows(tmp_path / "labels.jsonl", [*rows, {**rows[0], "rater": None}])
    out = tmp_path / "raters.json"
    words = ["raters", str(tmp_path / "labels.jsonl"), "--labels", "dawid_skene", "--out", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "kind" in told and "true" in told and "guesses" in told
    found = json.loads(out.read_text())
    assert found["weights"]["good0"] > 0.5 > 0.3 > found["weights"]["always"]
    kind, true = (found["axes"][axis] for axis in ("kind", "true"))
    assert kind["shares"] == pytest.approx(true["shares"][::-1], abs=1e-6)
    # Everybody but one says the reverse of what is known.
    known = [{"prompt": f"q{item}", "completion": "a", "axis": "kind", "value": 1 - said}
             for item, name, said in planted(1, 40) if name == "truth"]  # fmt: skip
    write_rows(tmp_path / "gold.jsonl", known)
    assert main([*words, "--gold", str(tmp_path / "gold.jsonl")]) == 0
    reverse = json.loads(out.read_text())["axes"]["kind"]["raters"]
    assert next(r for r in reverse if r["rater"] == "good0")["weight"] == 0
    write_rows(tmp_path / "same.jsonl", [row | {"value": 1} for row in rows[:4]])
    assert main(["raters", str(tmp_path / "same.jsonl"), "--labels", "mace"]) == 2
    assert "everybody always says the same" in capsys.readouterr().err
    with pytest.raises(UserError, match="always says the same"):
        labels_of(["a"], ["b"], [1.0], {})
