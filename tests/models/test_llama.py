"""The Llama family's layers with the backward pass written out: `transformers`' numbers, and when they are run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from families import gradients, model_of, rows_with_shared_beginnings
from heedful.fast import llama
from heedful.fast.compiled import compile_layers
from heedful.fast.layers import checkpoint_layers
from heedful.fast.layout import lay_out
from heedful.fast.packed import can_pack, packed_hidden
from heedful.models.adapters import add_lora
from heedful.models.forward import hidden_states, token_logps
from heedful.models.freeze import freeze_bottom
from heedful.models.load import load_policy

ROPE = {
    "yarn": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
}
KINDS = {
    "llama": {},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "llama, every head its own keys": {"num_key_value_heads": 4},
    "llama, one head of keys": {"num_key_value_heads": 1},
    "llama, yarn": {"rope_parameters": {"rope_theta": 1e4, **ROPE["yarn"]}},
    "llama, dynamic": {"rope_parameters": {"rope_theta": 1e4, **ROPE["dynamic"]}},
    "qwen2": {},
    "qwen3": {},
    "qwen3 with biases": {"attention_bias": True},
    "mistral": {"sliding_window": 20},
}


def layout():
    tokens, mask = rows_with_shared_beginnings()
    return lay_out(tokens[:, :-1], mask)


def both(model: PreTrainedModel) -> tuple[Tensor, dict, Tensor, dict]:
    """Hidden states and gradients by `transformers` and by us."""
    at = layout()
    assert can_pack(model) and llama.learns(model, at)
    found = []
    for run in (packed_hidden, llama.hidden):
        out = run(model, at)
        found += [out.detach(), gradients(model, out)]
    return tuple(found)


def near(ours: dict, theirs: dict, gap: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).norm() <= gap * grad.norm() + 1e-9, name


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_transformers(kind):
    """In float64 (whose norms `transformers` rounds to float32), with weights that are no ones and biases no zeros.

    Mutation caught: ε outside the root, the mean of the norm's gradient left out, gate and up exchanged, biases not
    put beside each other, a key turned the other way, head norms after the rotation.
    """
    model = model_of(kind.split()[0].strip(","), **KINDS[kind]).double()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.rand(len(p), generator=torch.Generator().manual_seed(len(p))))
    theirs, their_grads, ours, our_grads = both(model)
    assert torch.allclose(ours, theirs, atol=1e-5)
    near(our_grads, their_grads, 1e-5)


def test_bfloat16_is_no_farther_from_float32_than_transformers():
    """Mutation caught: norms or sums in bfloat16."""
    exact = model_of("qwen2").bfloat16()
    theirs, their_grads, ours, our_grads = both(exact)
    right, right_grads, *_ = both(copy.deepcopy(exact).float())
    assert ours.dtype == torch.bfloat16
    assert (ours - right).norm() <= 1.1 * (theirs - right).norm()
    gaps = [
        [float((g[name] - grad).norm() / grad.norm()) for name, grad in right_grads.items()]
        for g in (our_grads, their_grads)
    ]
    assert sum(gaps[0]) <= 1.1 * sum(gaps[1])


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "down_proj")])
def test_adapters_are_called(tmp_path, targets):
    """Mutation caught: the base's weights read past an adapter; gradients that do not reach it."""
    model_of("qwen2").save_pretrained(tmp_path)
    model = load_policy(str(tmp_path))
    add_lora(model, rank=2, alpha=4, targets=targets, seed=0)
    model.double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    theirs, their_grads, ours, our_grads = both(model)
    assert any("lora_A" in name for name in our_grads)
    assert torch.allclose(ours, theirs, atol=1e-5)
    near(our_grads, their_grads, 1e-5)


def test_frozen_layers_get_no_gradient():
    """Mutation caught: gradients of what is frozen, or none of what stands below it."""
    model = model_of("llama")
    freeze_bottom(model, 1)
    *_, grads = both(model)
    assert not any(name.startswith("model.layers.0.") for name in grads)
    assert any(name.startswith("model.layers.1.mlp") for name in grads)


def test_layers_computed_again_keep_only_their_inputs():
    """The same gradients, and far fewer numbers kept. Mutation caught: a checkpoint that is passed by, or that keeps
    what attention has saved."""
    model = model_of("llama")
    at = layout()
    plain = llama.hidden(model, at)
    want = gradients(model, plain)
    sizes: dict[bool, int] = {}
    for again in (False, True):
        if again:
            checkpoint_layers(model)
        kept = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: (kept.append(x.numel()), x)[1], lambda x: x
        )
        with hooks:
            out = llama.hidden(model, at)
        sizes[again] = sum(kept)
    assert llama.learns(model, at)
    assert torch.equal(out, plain)
    near(gradients(model, out), want, 1e-6)
    assert sizes[True] < sizes[False] / 4


class Mine(torch.nn.Module):
    """Somebody's own in place of a part of the model."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return torch.tanh(self.part(x))


@pytest.mark.parametrize("place", ["mlp", "mlp.up_proj", "input_layernorm", "self_attn.k_proj"])
@pytest.mark.parametrize("how", ["module", "hook", "forward", "gate"])
def test_what_somebody_has_changed_is_called(place, how):
    """Mutation caught: hooks that are no longer called, modules of somebody's own that are passed by, other gates."""
    model, at = model_of("llama"), layout()
    assert can_pack(model)
    before = llama.hidden(model, at)
    layer = model.model.layers[1]
    part = layer.get_submodule(place)
    if how == "module":
        layer.set_submodule(place, Mine(part))
    elif how == "hook":
        part.register_forward_hook(lambda module, given, out: torch.tanh(out))
    elif how == "forward":
        part.forward = lambda x, forward=part.forward: torch.tanh(forward(x))
    else:
        layer.mlp.config.hidden_act = "gelu"
        layer.mlp.act_fn = torch.nn.GELU()
    assert llama.learns(model, at)
    ours, theirs = llama.hidden(model, at), packed_hidden(model, at)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, before, atol=1e-3)


@pytest.mark.parametrize("place", ["model", "model.layers.1", "model.layers.0.self_attn"])
def test_what_is_not_called_must_be_as_it_was(place):
    """Mutation caught: `knows` without the question whether somebody listens, or has replaced it."""
    model = model_of("llama")
    handle = model.get_submodule(place).register_forward_hook(lambda m, i, out: out)
    assert not llama.knows(model)
    handle.remove()
    assert llama.knows(model)
    part = model.get_submodule(place)
    part.forward = lambda *given, forward=part.forward, **named: forward(*given, **named)
    assert not llama.knows(model)
    model = model_of("llama")
    kind = type(model.model.layers[0].self_attn)
    model.model.layers[0].self_attn = type("Other", (kind,), {})(model.config, 0)
    assert not llama.knows(model)
    assert not llama.knows(model_of("gpt2"))


def test_other_ways_stay_with_transformers():
    """Compiled layers, a window shorter than a row, another family. Mutation caught: --compile that does nothing."""
    assert not llama.learns(model_of("mistral", sliding_window=8), layout())
    assert not llama.learns(model_of("gemma"), layout())
    model = model_of("llama")
    compile_layers(model, "eager")
    assert not llama.learns(model, layout())


def test_it_is_what_log_probs_are_made_of(monkeypatch):
    """Mutation caught: a path that nobody takes."""
    model, (tokens, mask) = model_of("llama"), rows_with_shared_beginnings()
    asked = []
    real = llama.hidden
    monkeypatch.setattr(llama, "hidden", lambda *a: (asked.append(1), real(*a))[1])
    token_logps(model, tokens, mask)
    hidden_states(model, tokens, tokens > 0)
    assert len(asked) == 2


def test_what_nobody_reads_ends_at_the_last_attention(monkeypatch):
    """Mutation caught: hidden states of prompts computed to the end and thrown away."""
    model, seen = model_of("llama"), []
    tokens = torch.arange(40).view(2, 20)
    needed = torch.zeros_like(tokens, dtype=torch.bool)
    needed[0, 12:] = needed[1, 19] = True
    at, gated = lay_out(tokens, needed), llama._gated
    monkeypatch.setattr(llama, "_gated", lambda joint: (seen.append(len(joint)), gated(joint))[1])
    with torch.no_grad():
        out = llama.hidden(model, at)
    assert seen == [40, 9] and len(out) == 9
    padded = model.base_model(input_ids=tokens).last_hidden_state
    assert torch.allclose(out[at.index][needed], padded[needed], atol=1e-5)
