"""Every loss on judgments keeps the contract of its kind, and each has its hand-worked value."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from heedful import registry
from heedful.configs.preference import METHODS, Config
from heedful.errors import UserError
from heedful.losses import preference as L
from heedful.training.objective import READS, find_objective
from heedful.types import LabelledLogps, PairLogps, RankedLogps

ALL = {name: entry.load() for name, entry in registry.entries("loss").items()}
KIND = {name: find_objective(name).reads for name in ALL}
PAIRS = sorted(name for name in ALL if KIND[name] == "PairLogps")
FREE = {"simpo", "orpo", "cpo", "slic", "cpl", "preferred_ft", "unlikelihood"}
MEANS = {"ipo", "simpo", "orpo"}
DOCS = Path(__file__).parents[2] / "docs" / "methods"


def numbers(*shape, low=-40.0, high=-0.5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=g)


def made(kind: str, b: int = 5, seed: int = 0, spread=(-40.0, -0.5)):
    """Something that a loss of this kind reads."""
    a, c, d, e = (numbers(b, low=spread[0], high=spread[1], seed=seed + i) for i in range(4))
    lengths = torch.arange(2, 2 + b)
    if kind == "PairLogps":
        return PairLogps(a, c, d, e, lengths, lengths.flip(0))
    if kind == "LabelledLogps":
        return LabelledLogps(a, d, lengths, torch.arange(b) % 2 == 0)
    table = numbers(b, 4, seed=seed, low=spread[0], high=spread[1])
    other = numbers(b, 4, seed=seed + 1, low=spread[0], high=spread[1])
    rank = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 0], [1, 1, 2, 2], [3, 2, 2, 1], [1, 2, 0, 0]])
    return RankedLogps(table, other, torch.ones(b, 4, dtype=torch.long), rank[:b])


def call(name, x, p=None, beta=0.3):
    """A loss by its own signature."""
    whole = {k: torch.full((len(rows(x)),), 0.4) for k in find_objective(name).whole_batch}
    if KIND[name] == "PairLogps":
        return ALL[name](x, torch.full((len(rows(x)),), 0.8) if p is None else p, beta)
    return ALL[name](x, beta, **whole)


def rows(x):
    return getattr(x, fields(x)[0].name)


def changed(x, change):
    return replace(x, **{f.name: change(f.name, getattr(x, f.name)) for f in fields(x)})


def test_the_modules_are_the_registry():
    """Mutation caught: helpers taken for losses, a module that is not looked at."""
    assert set(PAIRS) == {
        "dpo", "robust", "ipo", "simpo", "orpo", "cpo", "slic", "rso", "apo_zero", "apo_down", "exo",
        "cpl", "preferred_ft", "unlikelihood",
    }  # fmt: skip
    assert set(ALL) - set(PAIRS) == {"kto", "bco", "apo_zero_unpaired", "plackett_luce_dpo"}
    assert {n for n in ALL if getattr(ALL[n], "reference_free", False)} == FREE
    assert {n for n in ALL if getattr(ALL[n], "length_normalised", False)} == MEANS


@pytest.mark.parametrize("name", ALL)
def test_shape_and_order_of_rows(name):
    """One number a row; rows know nothing of each other. Mutation caught: a mean or a softmax over the batch."""
    x = made(KIND[name])
    values, turned = call(name, x), call(name, changed(x, lambda _, v: v.flip(0)))
    assert values.shape == (5,)
    assert torch.allclose(values.flip(0), turned, atol=1e-6)
    assert torch.allclose(call(name, changed(x, lambda _, v: v[:2])), values[:2], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spread", [(-1e4, -1e3), (-1e-7, 0.0), (-1e4, 0.0)])
def test_extremes_stay_finite(name, spread):
    """Log-probs of thousands and of nothing. Mutation caught: log(sigmoid(x)), log(1 − exp(x)), exp of a margin."""
    x = made(KIND[name], spread=spread)
    policy = [f for f in ("chosen", "rejected", "logp") if hasattr(x, f)]
    x = replace(x, **{f: getattr(x, f).requires_grad_(True) for f in policy})
    values = call(name, x)
    assert values.isfinite().all()
    for grad in torch.autograd.grad(values.sum(), [getattr(x, f) for f in policy]):
        assert grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_who_reads_the_reference_and_the_lengths(name):
    """The marks tell the truth, for nothing is computed where they say so."""
    x = made(KIND[name])
    moved = changed(x, lambda n, v: 1.1 * v if "ref" in n else v)
    assert torch.equal(call(name, x), call(name, moved)) == (name in FREE)
    longer = changed(x, lambda n, v: v + 3 if "lengths" in n else v)
    uses = MEANS | {"cpo"}  # CPO's likelihood term alone is a mean
    assert torch.equal(call(name, x), call(name, longer)) == (name not in uses)


@pytest.mark.parametrize("name", PAIRS)
def test_p_is_the_chance_of_this_order(name):
    """ℓ(w, l; p) = ℓ(l, w; 1 − p), and a tie is the mean of both orders where ℓ is an expectation over them."""
    x = made("PairLogps")
    other = PairLogps(
        x.rejected, x.chosen, x.ref_rejected, x.ref_chosen, x.rejected_lengths, x.chosen_lengths
    )
    p, one = torch.tensor([1.0, 0.9, 0.5, 0.2, 0.0]), torch.ones(5)
    assert torch.allclose(call(name, x, p), call(name, other, 1 - p), rtol=1e-4, atol=1e-5)
    if name != "exo":
        mean = 0.5 * (call(name, x, one) + call(name, other, one))
        assert torch.allclose(call(name, x, 0.5 * one), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dpo", math.log(2)),
        ("robust", math.log(2)),
        ("ipo", 1 / (4 * 0.3**2)),
        ("rso", 1.0),
        ("exo", math.log(0.5) - 0.5 * (math.log(0.999) + math.log(0.001))),
        ("apo_zero", 1.0),
        ("apo_down", 1.0),
        ("apo_zero_unpaired", 0.5),
    ],
)
def test_at_step_0(name, value):
    """Policy and reference agree. Mutation caught: a reference that is left out."""
    x = made(KIND[name])
    pairs = {"chosen": "ref_chosen", "rejected": "ref_rejected", "logp": "ref_logp"}
    start = changed(x, lambda n, v: getattr(x, pairs.get(n, n)))
    assert torch.allclose(call(name, start, torch.ones(5)), torch.full((5,), value), rtol=1e-5)


def test_thumbs_and_rankings_at_step_0():
    """KTO ½ of each weight and BCO ln 2, where z₀ and δ are 0; a ranking of K costs log K!."""
    x = made("LabelledLogps")
    x, zero = replace(x, logp=x.ref_logp), torch.zeros(5)
    kto = ALL["kto"](x, 0.3, kl=zero, desirable_weight=2.0, undesirable_weight=4.0)
    assert kto.tolist() == pytest.approx([1.0, 2.0, 1.0, 2.0, 1.0])
    assert ALL["bco"](x, 0.3, delta=zero).tolist() == pytest.approx([math.log(2)] * 5)
    ranked = made("RankedLogps")
    value = ALL["plackett_luce_dpo"](replace(ranked, logp=ranked.ref_logp), 0.3)
    assert value[[0, 1, 4]].tolist() == pytest.approx([math.log(24), math.log(6), math.log(2)])


def one_pair(chosen, rejected, lengths=(2, 4)) -> PairLogps:
    a, b = torch.tensor([chosen]), torch.tensor([rejected])
    return PairLogps(a, b, 0 * a, 0 * b, *(torch.tensor([n]) for n in lengths))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        # Sums −2 and −6, lengths 2 and 4, so means −1 and −1.5; β = ½.
        ("simpo", {"gamma": 0.1}, softplus(0.1 - 0.5 * 0.5)),
        ("cpo", {"alpha": 0.5}, softplus(-0.5 * 4) + 0.5 * 1.0),
        ("slic", {"delta": 3.0}, 3.0 - 0.5 * 4),
        ("rso", {}, 0.0),  # the margin is 2, more than enough
        ("cpl", {"bias": 0.5}, softplus(-0.5 * (-2 + 3))),
        ("ipo", {}, (0.5 - 1.0) ** 2),
        ("robust", {"epsilon": 0.25}, (0.75 * softplus(-2) - 0.25 * softplus(2)) / 0.5),
        ("apo_zero", {}, 1 - 1 / (1 + math.e) + 1 / (1 + math.exp(3))),
        ("apo_down", {}, 1 / (1 + math.e) + 1 / (1 + math.exp(2))),
    ],
)
def test_hand_worked(name, options, value):
    found = ALL[name](one_pair(-2.0, -6.0), torch.ones(1), 0.5, **options)
    assert found.item() == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_orpo_hand_worked():
    """P = 0.8 and 0.2 per token: odds 4 and ¼, so −log 0.8 + λ·log(1 + 1/16). Mutation caught: P from sums."""
    x = one_pair(2 * math.log(0.8), 4 * math.log(0.2))
    assert ALL["orpo"](x, torch.ones(1), 0.1, lam=0.5).item() == pytest.approx(
        -math.log(0.8) + 0.5 * math.log(1 + 1 / 16), rel=1e-5
    )


def test_apo_down_lowers_both_and_the_rejected_more():
    """At the start: no force on y_w (its two terms cancel), y_l goes down; once r_w > 0 it is pulled back."""
    for start, signs in (((0.0, 0.0), (0, 1)), ((1.0, -3.0), (1, 1))):
        x = one_pair(*start)
        x.chosen.requires_grad_(True), x.rejected.requires_grad_(True)
        grads = torch.autograd.grad(
            ALL["apo_down"](x, torch.ones(1), 1.0).sum(), [x.chosen, x.rejected]
        )
        assert [int(g.sign()) for g in grads] == list(signs)


def test_log1mexp():
    """log(1 − e^x) where the naive form is 0 or −inf, against float64. Mutation caught: one branch for all x."""
    x = torch.tensor([-1e-5, -1e-3, -0.5, -0.7, -10.0, -50.0])
    exact = [math.log1p(-math.exp(v)) if v < -1 else math.log(-math.expm1(v)) for v in x.tolist()]
    assert torch.allclose(L.log1mexp(x), torch.tensor(exact), rtol=1e-5, atol=0)
    assert L.log1mexp(torch.zeros(1)).isfinite().all()


# ── names, options, documents ────────────────────────────────────────────────────────────────────


def test_every_loss_is_a_method_and_has_a_page():
    page = {"apo_zero": "apo", "apo_down": "apo", "apo_zero_unpaired": "apo", "robust": "dpo"}
    for name in ALL:
        text = (DOCS / f"{page.get(name, name)}.md").read_text(encoding="utf-8")
        assert f"`{name}`" in text and "../results.md" in text
    assert set(METHODS) == {*ALL, "cdpo"}
    for name, method in METHODS.items():
        config = Config(model="m", data="d", out=Path("o"), **method.sets)
        options = config.loss_options
        assert find_objective(config.loss, options, config.beta).reads in READS, name


def test_a_sum_of_losses():
    """Weights and options arrive where they belong. Mutation caught: the last loss only, one weight for all."""
    x, p = made("PairLogps"), torch.full((5,), 0.8)
    batch = type("B", (), {"p": p.repeat_interleave(2)})
    found = find_objective("dpo + 0.2*preferred_ft+2*simpo", ["gamma=0.5"], 0.3)(x, batch)
    wanted = L.dpo(x, p, 0.3) + 0.2 * L.preferred_ft(x, p, 0.3) + 2 * L.simpo(x, p, 0.3, gamma=0.5)
    assert torch.allclose(found, wanted)
    assert find_objective("simpo+0.1*preferred_ft").needs_reference is False
    assert find_objective("simpo+dpo").needs_reference is True


MINE = """
import torch
from heedful.types import LabelledLogps, PairLogps

def plain(x, p, beta, *, slope=2.0):
    return slope * beta * (x.rejected - x.chosen)

def liked(x: LabelledLogps, beta, *, kl):
    return x.logp - kl

def averaged(x: PairLogps, p, beta):
    return (x.rejected - x.chosen).mean()

def two(x, beta):
    return x.chosen

def greedy(x, p, beta, *, secret):
    return x.chosen
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mylosses.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_users_own_loss(mine):
    objective = find_objective("mylosses:plain", ["slope=3"], 0.5)
    batch = type("B", (), {"p": torch.ones(10)})
    x = made("PairLogps")
    assert torch.allclose(objective(x, batch), 1.5 * (x.rejected - x.chosen))
    assert objective.needs_reference
    assert find_objective("mylosses:liked").reads == "LabelledLogps"
    assert find_objective("mylosses:liked").whole_batch == {"kl"}


@pytest.mark.parametrize(
    ("loss", "options", "words"),
    [
        ("dop", (), "'dop' is unknown (did you mean 'dpo'?)"),
        ("margins", (), "'margins' is unknown"),
        ("dpo+", (), "'' is unknown"),
        ("x*dpo", (), "'x' is no number; write 0.2*dpo"),
        ("inf*dpo", (), "must be finite"),
        ("dpo+kto", (), "dpo reads PairLogps, kto reads LabelledLogps"),
        ("dpo", ("gamma=1",), "gamma: dpo takes no options"),
        ("simpo", ("gama=1",), "simpo takes gamma (did you mean 'gamma'?)"),
        ("kto", ("kl=1",), "kto takes desirable_weight, undesirable_weight"),
        ("simpo", ("gamma",), "expected name=number"),
        ("simpo", ("gamma=much",), "expected name=number"),
        ("simpo", ("gamma=nan",), "expected name=number"),
        ("robust", ("epsilon=0.5",), "robust needs epsilon 0 or more, below 0.5"),
        ("exo", ("epsilon=0",), "exo needs epsilon above 0, at most 0.5"),
        ("cpl", ("bias=2",), "cpl needs bias above 0, at most 1"),
        ("mylosses:averaged", (), "expected the shape [2], got []"),
        ("mylosses:two", (), "called with (x, p, beta)"),
        ("mylosses:greedy", (), "give its parameter secret a default"),
        ("mylosses:nothing", (), "has no function nothing"),
    ],
)
def test_what_a_user_gets_wrong(mine, loss, options, words):
    """Before any model is loaded, in one sentence."""
    with pytest.raises(UserError) as error:
        find_objective(loss, options)
    assert words in str(error.value)


def test_beta_must_be_positive():
    with pytest.raises(UserError, match="--beta must be above 0"):
        find_objective("dpo", (), 0.0)
