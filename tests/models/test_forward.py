"""Log-probs and scores: padding, pad ids, batch mates and chunking change nothing."""

import pytest
import torch

import tiny
from heedful.models import forward
from heedful.models import sampling as rules
from heedful.models.forward import token_logps
from heedful.models.sampling import choose, derive_seed, log_policy, uniforms
from heedful.models.scores import sequence_scores, token_values
from heedful.types import Sampling


@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_token_logps_equal_the_plain_formula(arch):
    model = tiny.causal_lm(arch)
    tokens = torch.randint(4, 384, (3, 9))
    mask = torch.rand(3, 8) < 0.6
    plain = torch.log_softmax(model(tokens).logits[:, :-1], -1)
    plain = plain.gather(2, tokens[:, 1:, None]).squeeze(2)
    assert torch.allclose(token_logps(model, tokens, mask), plain * mask, atol=1e-5)


@pytest.mark.arithmetic
@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
@pytest.mark.parametrize("pad", [0, 3, 77])
def test_padding_changes_no_logp_no_score_no_gradient(arch, pad):
    """Mutation caught: attending to padding, reading `[:, -1]`, or finding the end by the pad id (77 is a word)."""
    model = tiny.causal_lm(arch)
    tokens = torch.randint(4, 384, (1, 7))
    padded = torch.cat([tokens, torch.full((1, 5), pad)], dim=1)
    mates = torch.cat([padded, torch.randint(4, 384, (2, 12))])
    mask = torch.ones(1, 6, dtype=torch.bool)
    wide = torch.zeros(3, 11, dtype=torch.bool)
    wide[0, :6] = True

    def gradients(value):
        model.zero_grad()
        value.sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    alone, among = token_logps(model, tokens, mask), token_logps(model, mates, wide)
    assert torch.allclose(alone[0], among[0, :6], atol=1e-5)
    for a, b in zip(gradients(alone), gradients(among), strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()) + 1e-6)


def test_scores_sit_at_the_last_real_token(tmp_path):
    """As the saved model does it in plain transformers, for every padding."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForSequenceClassification(config).eval()
    tokens = torch.randint(1, 50, (3, 8))
    lengths = torch.tensor([8, 5, 2])
    tokens[1, 5:], tokens[2, 2:] = 0, 0
    ours = sequence_scores(model, tokens, lengths)
    assert torch.allclose(ours, model(tokens).logits.squeeze(1), atol=1e-6)
    assert torch.allclose(
        ours, token_values(model, tokens, lengths)[range(3), lengths - 1], atol=1e-6
    )
    tokens[1, 5:] = 49  # any pad id, once transformers is not asked to guess
    assert torch.allclose(ours, sequence_scores(model, tokens, lengths), atol=1e-6)


def test_packed_documents_do_not_see_each_other():
    """Mutation caught: position ids that do not restart, or attention across documents."""
    model = tiny.causal_lm("llama")
    a, b = torch.randint(4, 384, (1, 6)), torch.randint(4, 384, (1, 5))
    row = torch.cat([a, b], dim=1)
    positions = torch.cat([torch.arange(6), torch.arange(5)])[None]
    mask = torch.ones(1, 10, dtype=torch.bool)
    mask[0, 5] = False  # nothing predicts the first token of b
    packed = token_logps(model, row, mask, position_ids=positions)
    alone = [token_logps(model, x, torch.ones(1, x.shape[1] - 1, dtype=torch.bool)) for x in (a, b)]
    assert torch.allclose(packed[0, :5], alone[0][0], atol=1e-5)
    assert torch.allclose(packed[0, 6:], alone[1][0], atol=1e-5)
    leaky = token_logps(model, row, mask)
    assert not torch.allclose(leaky[0, 6:], alone[1][0], atol=1e-3)


def test_chunking_changes_neither_values_nor_gradients(monkeypatch):
    model, tokens = tiny.causal_lm("qwen2"), torch.randint(4, 384, (4, 12))
    mask = torch.rand(4, 11) < 0.7
    whole = token_logps(model, tokens, mask)
    whole.sum().backward()
    want = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    monkeypatch.setattr(forward, "CHUNK", 384 * 3)
    pieces = token_logps(model, tokens, mask)
    pieces.sum().backward()
    assert torch.allclose(whole, pieces, atol=1e-6)
    got = [p.grad for p in model.parameters() if p.grad is not None]
    for a, b in zip(want, got, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(a.abs().max()) + 1e-7)


def test_log_policy_masks():
    """Hand-worked: p = .5 .3 .15 .05. top-p .6 keeps two tokens, top-k 1 keeps one, T=½ squares."""
    p = torch.tensor([[0.3, 0.05, 0.5, 0.15]])
    assert torch.allclose(
        log_policy(p.log(), Sampling(top_p=0.6)).exp(), torch.tensor([[0.375, 0, 0.625, 0]])
    )
    assert torch.allclose(
        log_policy(p.log(), Sampling(top_k=1)).exp(), torch.tensor([[0.0, 0, 1, 0]])
    )
    square = p.square() / p.square().sum()
    assert torch.allclose(log_policy(p.log(), Sampling(temperature=0.5)).exp(), square)
    kept = log_policy(p.log(), Sampling(top_k=1), keep=torch.tensor([1]))
    assert torch.isfinite(kept[0, 1])


def draw(mass, u):
    """The definition: the first index whose distribution function exceeds u, by a search over the whole vocabulary."""
    cdf = mass.cumsum(-1)
    return torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True).squeeze(1)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_what_has_no_mass_is_never_chosen(scale):
    """The least and the largest uniform number, where first and last tokens and blocks have no mass.

    Mutation caught: either bound of what is looked for inside a block left out.
    """
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 200, generator=g) * scale
    for gone in (slice(0, 70), slice(190, None), slice(100, 130)):
        logits[:, gone] = float("-inf")
    first, last = torch.zeros(400), torch.full((400,), 1 - 2**-53, dtype=torch.double)
    for u in (first.double(), torch.full_like(last, 2**-53), last):
        ids, logps = choose(logits, Sampling(), u)
        assert torch.isfinite(logits.gather(1, ids[:, None])).all() and torch.isfinite(logps).all()


SHAPES = [
    Sampling(0), Sampling(), Sampling(0.5), Sampling(1.3, 0.8), Sampling(1, 1, 5), Sampling(0.9, 0.9, 20)
]  # fmt: skip


@pytest.mark.arithmetic
@pytest.mark.parametrize("sampling", SHAPES, ids=str)
@pytest.mark.parametrize("vocab", [16, 64, 200, 1000])
def test_choose_is_log_policy_and_draw(sampling, vocab):
    """Blocks, also a last one that is not full: the same tokens and log-probs as the definition.

    Mutation caught: a block off by one, what is left of u measured from the block's wrong end, temperature
    applied twice.
    """
    g = torch.Generator().manual_seed(vocab)
    logits = torch.randn(500, vocab, generator=g) * 3
    u = torch.rand(500, generator=g, dtype=torch.double)
    u[:2] = torch.tensor([0.0, 1 - 2**-53], dtype=torch.double)
    logp = log_policy(logits, sampling)
    want = logits.argmax(-1) if sampling.temperature == 0 else draw(logp.double().exp(), u)
    ids, logps = choose(logits, sampling, u)
    assert (ids != want).sum() <= 1  # where u falls on a boundary, to the last bits
    assert torch.allclose(logps, logp.gather(1, ids[:, None]).squeeze(1), atol=1e-5)
    assert torch.isfinite(logps).all()


def test_choose_draws_each_token_as_often_as_it_should():
    """A grid of 2^17 uniforms: every token's share is its probability to 2·2^-17, however rare it is."""
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(3)) * 4
    n, at_once = 1 << 17, 1 << 12
    u = (torch.arange(n, dtype=torch.double) + 0.5) / n
    counts = sum(
        torch.bincount(choose(logits.expand(at_once, -1), Sampling(), part)[0], minlength=300)
        for part in u.split(at_once)
    )
    p = logits[0].double().softmax(0)
    assert ((counts / n - p).abs() <= 2 / n + 1e-6 * p).all()


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
@pytest.mark.parametrize("ties", [False, True])
def test_a_nucleus_among_likely_tokens_is_that_of_the_sorted_vocabulary(
    top_p, scale, ties, monkeypatch
):
    """Token by token, with ties (which a stable sort gives to the lower id) inside, at, and across the edge.

    Mutation caught: ties in topk's order, rows not settled left as they are, mass taken among the likely.
    """
    logits = torch.randn(40, 300, generator=torch.Generator().manual_seed(4)) * scale
    logits = logits.round() if ties else logits
    values, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    probs = values.double().softmax(-1)
    before = probs.cumsum(-1) - probs
    want = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, before < top_p)
    monkeypatch.setattr(rules, "_LIKELY", 32)
    got = rules._nucleus(logits, top_p)
    sure = torch.zeros_like(want).scatter(1, order, (before - top_p).abs() > 1e-6)
    assert torch.equal(got & sure, want & sure)


def test_uniforms_are_uniform_and_uncorrelated():
    seeds = torch.tensor([derive_seed(7, i) for i in range(4000)])
    u = uniforms(seeds, torch.zeros(4000, dtype=torch.long))
    v = uniforms(seeds, torch.ones(4000, dtype=torch.long))
    assert 0 <= u.min() < u.max() < 1
    for x in (u, v):
        counts = torch.histc(x, 20, 0, 1)
        assert ((counts - 200).square() / 200).sum() < 60  # χ² with 19 degrees, p ≈ 4e-6
    assert torch.corrcoef(torch.stack([u, v]))[0, 1].abs() < 0.08
