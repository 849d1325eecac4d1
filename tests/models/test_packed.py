"""Each token once, in one row: the same hidden states and gradients as padded rows, for every architecture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import tiny
from families import gradients, model_of, rows_with_shared_beginnings
from heedful.fast import llama, packed
from heedful.fast.layers import checkpoint_layers
from heedful.fast.layout import Layout, lay_out
from heedful.fast.packed import can_pack, packed_hidden
from heedful.fast.process import rounded
from heedful.models.forward import hidden_states, token_logps

# What cannot be packed keeps its padded rows: recurrences, alibi.
KINDS = {
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3", "mistral", "gemma", "phi", "gpt_neox", "opt", "gpt2", "olmo2"),
        True,
    ),
    **dict.fromkeys(("mamba", "bloom"), False),
}


def logps(model: PreTrainedModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """The plain formula, on padded rows."""
    out = model(input_ids=tokens[:, :-1], use_cache=False).logits.log_softmax(-1)
    return out.gather(2, tokens[:, 1:, None]).squeeze(2) * mask


@pytest.mark.arithmetic
@pytest.mark.parametrize("kind", KINDS)
def test_packed_is_padded(kind):
    """Mutation caught: no index_add of what is shared (gradients), positions that go on, tokens of the row above."""
    model, (tokens, mask) = model_of(kind), rows_with_shared_beginnings()
    plain = logps(model, tokens, mask)
    want = gradients(model, plain)
    assert can_pack(model) is KINDS[kind]
    ours = token_logps(model, tokens, mask)
    got = gradients(model, ours)
    assert torch.allclose(ours, plain, atol=2e-5)
    assert want.keys() == got.keys()
    for name, grad in want.items():
        assert (got[name] - grad).norm() <= 2e-5 * grad.norm() + 1e-6, name


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_agree_to_a_millionth(kind):
    """In float64, so that what is left is a difference of method. Mutation caught: any token weighed otherwise."""
    model, (tokens, mask) = model_of(kind).double(), rows_with_shared_beginnings()
    want = gradients(model, logps(model, tokens, mask))
    got = gradients(model, token_logps(model, tokens, mask))
    assert can_pack(model)
    for name, grad in want.items():
        assert (got[name] - grad).norm() <= 1e-6 * grad.norm() + 1e-9, name


def test_each_token_once():
    """Hand-worked. Mutation caught: sharing across a difference, padding kept, a prefix shared with the wrong row."""
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 0], [1, 2, 5, 6], [7, 2, 5, 6]])
    needed = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]).bool()
    layout = lay_out(tokens, needed)
    assert layout.tokens.tolist() == [1, 2, 3, 4, 5, 6, 7, 2]
    assert layout.positions.tolist() == [0, 1, 2, 3, 2, 3, 0, 1]
    assert layout.read.tolist() == [3, 4, 5, 7]
    assert layout.index.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 2], [0, 3, 0, 0]]
    at = layout.blocks
    assert sum(rows * width for rows, width in at.sizes) == len(at.cells)
    assert (at.cells[at.home] == torch.arange(8)).all()
    at = layout.sequences
    assert (at.cells[layout.home] == torch.arange(8)).all() and at.shared == 5


def test_spare_tokens_change_nothing_but_the_numbers():
    """Mutation caught: a spare token that somebody attends to or reads; numbers of read tokens that are not rounded."""
    model, (tokens, mask) = model_of("llama").double(), rows_with_shared_beginnings()
    assert can_pack(model)
    found = []
    for spare in (False, True):
        at = lay_out(tokens[:, :-1], mask, spare=spare)
        states = packed_hidden(model, at)[at.index][mask]
        again = llama.hidden(model, at)[at.index][mask]
        assert torch.allclose(states, again, atol=2e-6)
        found.append((at, states.detach(), gradients(model, again)))
    (exact, states, grads), (roomy, same_states, same_grads) = found
    assert torch.allclose(states, same_states, atol=1e-12)
    for name, grad in grads.items():
        assert torch.allclose(same_grads[name], grad, atol=1e-12), name
    few, many = ((len(at.tokens), len(at.read)) for at in (exact, roomy))
    assert few < many == tuple(rounded(n, 8) for n in few)
    assert all(b <= 1.125 * a for a, b in zip(few, many, strict=True))


def test_a_shuffled_batch_shares_as_much():
    """Mutation caught: beginnings found only where rows happen to be neighbours."""
    tokens, mask = rows_with_shared_beginnings()
    order = torch.tensor([4, 0, 3, 2, 5, 1])
    straight, shuffled = lay_out(tokens[:, :-1], mask), lay_out(tokens[order, :-1], mask[order])
    assert len(straight.tokens) == len(shuffled.tokens) < 6 * 19 - 7 - 11 - 18


def test_only_what_something_needed_depends_on():
    """Mutation caught: hidden states of all columns, whatever the mask says."""
    tokens = torch.arange(1, 11)[None]
    needed = torch.zeros(1, 10, dtype=torch.bool)
    needed[0, 3] = True
    assert lay_out(tokens, needed).tokens.tolist() == [1, 2, 3, 4]
    assert len(lay_out(tokens, torch.zeros_like(needed)).tokens) == 1


def test_documents_in_a_row():
    """Mutation caught: attention across documents; tails that nothing needs."""
    model = tiny.causal_lm("qwen2")
    a, b, c = (torch.randint(4, 384, (n,)) for n in (5, 7, 3))
    row = torch.cat([a, b, a[:2], c])[None]
    positions = torch.cat([torch.arange(n) for n in (5, 7, 5)])[None]
    needed = torch.ones_like(row, dtype=torch.bool)
    needed[0, 15:] = False
    hidden = hidden_states(model, row, needed, positions)
    assert len(hidden.states) == 5 + 7 + 1
    for part, at in ((a, 0), (b, 5), (torch.cat([a[:2], c])[:3], 12)):
        alone = model.base_model(input_ids=part[None]).last_hidden_state[0]
        ours = hidden.states[hidden.index[0, at : at + len(part)]]
        assert torch.allclose(ours, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_a_sliding_window_holds(kind):
    """Mutation caught: full attention in layers that look back only so far."""
    other = {"use_sliding_window": True, "max_window_layers": 1} if kind == "qwen2" else {}
    model = model_of(kind, sliding_window=4, **other)
    tokens, mask = rows_with_shared_beginnings()
    ours = token_logps(model, tokens, mask)
    assert can_pack(model)
    assert torch.allclose(ours, logps(model, tokens, mask), atol=2e-5)
    model.config.sliding_window = None
    wide = model_of(kind, **other)
    assert not torch.allclose(ours, logps(wide, tokens, mask), atol=1e-2)


def test_layers_that_are_computed_again():
    """Mutation caught: a layout that is known only while the forward lasts, not in a checkpoint's second pass."""
    model, (tokens, mask) = model_of("gpt_neox"), rows_with_shared_beginnings()
    want = gradients(model, token_logps(model, tokens, mask))
    checkpoint_layers(model)
    got = gradients(model, token_logps(model, tokens, mask))
    for name, grad in want.items():
        assert (got[name] - grad).norm() <= 1e-6 * grad.norm(), name


def test_another_attention_chosen_later_is_noticed():
    """Mutation caught: a model that no longer asks for a layout, and reads all sequences as one."""
    model, (tokens, mask) = model_of("llama"), rows_with_shared_beginnings()
    plain = logps(model, tokens, mask)
    assert can_pack(model)
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        assert torch.allclose(token_logps(model, tokens, mask), plain, atol=2e-5)
        assert model.config._attn_implementation != "eager" or not can_pack(model)


def test_layers_of_another_kind_are_refused_by_name():
    """Mutation caught: convolutions that mix so little that a trial does not see them."""
    model = model_of("lfm2", layer_types=["full_attention", "conv"], conv_L_cache=3)
    tokens, mask = rows_with_shared_beginnings()
    assert not can_pack(model)
    assert torch.allclose(token_logps(model, tokens, mask), logps(model, tokens, mask), atol=2e-5)


def nowhere(tokens: Tensor, needed: Tensor, **how) -> Layout:
    right = lay_out(tokens, needed, **how)
    return replace(right, positions=torch.zeros_like(right.positions))


def test_a_model_that_says_no_keeps_its_rows(monkeypatch):
    """Mutation caught: a layout handed to a model that misreads it."""
    model, (tokens, mask) = model_of("llama"), rows_with_shared_beginnings()
    plain = logps(model, tokens, mask)
    monkeypatch.setattr(packed, "lay_out", nowhere)
    assert not can_pack(model)
    monkeypatch.undo()
    assert model.config._attn_implementation == "sdpa"
    assert torch.allclose(token_logps(model, tokens, mask), plain, atol=1e-5)
