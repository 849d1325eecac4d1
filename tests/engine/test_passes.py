"""The fast passes against the plain ones: the same states and tokens, and out of the way where they do not fit."""

import asyncio

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import rounding
import tiny
from attending import needs_kernels
from heedful.engine import local as engines
from heedful.engine.local import LocalEngine
from heedful.engine.passes import Plain, passes
from heedful.engine.slots import SlotCache
from heedful.fast import kernels
from heedful.fast.passes import Direct
from heedful.fast.prepared import Prepared, prepares
from heedful.models.backend import FEW, SHORT
from heedful.types import Sampling

SIZES = dict(
    vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
    bos_token_id=None, eos_token_id=3, pad_token_id=0,
)  # fmt: skip


def family(name: str):
    if name in tiny.ARCHITECTURES:
        return tiny.causal_lm(name)
    torch.manual_seed(0)
    if name == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16))
    elif name == "llama with biases":
        config = LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, rms_norm_eps=0.3)
        config.rope_parameters |= {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3}
        model = LlamaForCausalLM(config)
    else:
        model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None))
    with torch.no_grad():
        for p in model.parameters():  # norms too: those of queries and keys must not be alike
            p.mul_(4.0) if p.ndim > 1 else p.add_(torch.randn_like(p) * 0.3)
    return model.eval()


@torch.inference_mode()
def states(model, kind, prompts, steps=4):
    """Logits after the prompts and after each of some forced tokens; slots are taken, left and moved."""
    cache = SlotCache(model.config.num_hidden_layers)
    cache.reserve(len(prompts) + 3, 64)
    does = Plain(model, cache) if kind is Plain else Direct(model, cache, kind)
    source = torch.tensor([0, 0, *range(1, len(prompts)), len(prompts) - 1])
    out = [does.prefill(prompts, source, 0)[source]]
    lengths = torch.tensor([len(prompts[i]) for i in source])
    g = torch.Generator().manual_seed(1)
    for step in range(steps):
        if step == 2:  # rows 1 and 3 leave, the last two take their places
            n = len(lengths)
            cache.move(torch.tensor([n - 2, n - 1]), torch.tensor([1, 3]), int(lengths.max()))
            lengths[[1, 3]] = lengths[[n - 2, n - 1]]
            lengths = lengths[: n - 2]
        tokens = torch.randint(4, 384, (len(lengths),), generator=g)
        out.append(does.decode(tokens, lengths))
        lengths = lengths + 1
    return out


@pytest.fixture(
    params=[pytest.param(True, marks=needs_kernels), False], ids=["kernels", "no kernels"]
)
def compiled(request, monkeypatch):
    """With and without a C compiler."""
    if not request.param:
        monkeypatch.setattr(kernels, "available", lambda: False)
    return request.param


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["llama", "llama with biases", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("much", [True, False])
def test_direct_passes_give_the_plain_logits(name, much, compiled):
    """Mutation caught: rotary halves swapped, a group's queries with another's keys, places or masks off by
    one, a packed prompt that sees its neighbour, q_norm left out, the last prompt token's row wrong; a head's
    norm or a bias not permuted as its weights are, ε of a norm left out, the table of turns too short."""
    model, prompts = family(name), tiny.prompts(7)
    direct = passes(model, SlotCache(2), *((FEW, SHORT) if much else ()))
    decoder = Prepared if much and compiled else None
    assert isinstance(direct, Direct) and direct.make is decoder
    ours, theirs = states(model, decoder, prompts), states(model, Plain, prompts)
    for a, b in zip(ours, theirs, strict=True):
        assert rounding.close(a, b)


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_bfloat16_weights_are_prepared_more_exactly_than_they_are_run(name):
    """Against the same weights run in float32. Mutation caught: states between the products kept in bfloat16."""
    model, prompts = family(name).bfloat16(), tiny.prompts(7)
    same = family(name)
    same.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    exact = torch.cat(states(same, Plain, prompts))

    def error(stack):
        return float(
            (torch.cat(states(model, stack, prompts)).float() - exact).pow(2).mean().sqrt()
        )

    assert error(Prepared) < 0.9 * error(Plain)


def test_an_engine_of_bfloat16_weights_goes_from_much_to_little():
    """Its slots are float32 under prepared weights and bfloat16 under the modules.

    Mutation caught: slots that keep the type of the first queue.
    """
    model = tiny.causal_lm("qwen2").bfloat16()
    engine, prompts = LocalEngine(model), tiny.prompts()
    long = greedy(engine, prompts, 20)
    short = greedy(engine, prompts[:1], 12)
    assert greedy(engine, prompts, 20) == long
    assert greedy(LocalEngine(model), prompts[:1], 12) == short


def test_scores_in_bfloat16_are_not_rounded():
    """Against float64, scores up to ±60: no more than the rounding of weights and results is lost.

    Mutation caught: the float32 way for every type, whose scores are rounded before the softmax.
    """
    g, cache = torch.Generator().manual_seed(0), SlotCache(1)
    cache.reserve(3, 64)
    k, v = (torch.randn(3, 2, 20, 16, generator=g).bfloat16() for _ in range(2))
    cache.insert(0, k, v, torch.arange(3), 0)
    q = (4 * torch.randn(3, 4, 16, generator=g)).bfloat16()
    attend = cache.attention(torch.tensor([19, 7, 0]), torch.bfloat16)
    out = attend(0, q.view(3, 2, 2, 16), k[:, :, 3], v[:, :, 3], 1.0).view(q.shape).double()
    for row, length in enumerate((19, 7, 0)):
        places = [*range(length), 3]  # what was written in this step stands last
        keys, values = (x[row][:, places].double().repeat_interleave(2, 0) for x in (k, v))
        exact = torch.einsum("hd,htd->ht", q[row].double(), keys).softmax(-1)[:, None] @ values
        assert (out[row] - exact.squeeze(1)).abs().max() < 0.02


def test_only_plain_weights_are_copied():
    """Adapters, hooks, other activations and rotary positions that depend on the batch are left to the modules.

    Mutation caught: `prepares` without the question.
    """
    model = tiny.causal_lm("llama")
    assert prepares(model)
    up = model.model.layers[1].mlp.up_proj
    model.model.layers[1].mlp.up_proj = torch.nn.Sequential(up, torch.nn.Tanh())
    assert not prepares(model)
    model.model.layers[1].mlp.up_proj = up
    handle = up.register_forward_hook(lambda m, i, out: out)
    assert not prepares(model)
    handle.remove()
    for changed in (dict(hidden_act="gelu"), dict(final_logit_softcapping=5.0)):
        other = tiny.causal_lm("llama")
        for name, value in changed.items():
            setattr(other.config, name, value)
        assert not prepares(other)
    other = tiny.causal_lm("llama")
    other.model.rotary_emb.rope_type = "dynamic"
    assert not prepares(other)
    other = tiny.causal_lm("llama")
    other.lm_head.bfloat16()
    assert not prepares(other), "weights of two types"
    other = tiny.causal_lm("llama")
    other.lm_head = torch.nn.Linear(32, 400, bias=False)
    assert not prepares(other), "tokens that have no embedding"
    assert prepares(model)
    few = passes(model, SlotCache(2))
    assert isinstance(few, Direct) and few.decoder is None


def greedy(engine, prompts, max_tokens=12):
    async def all_of_them():
        asked = (
            engine.generate(p, max_tokens=max_tokens, sampling=Sampling(0), stop=(3,))
            for p in prompts
        )
        return [c.tokens for (c,) in await asyncio.gather(*asked)]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("length", [12, 20])
def test_an_update_or_adapter_takes_effect_at_once(monkeypatch, length):
    """Weights changed in place and layers wrapped after the engine was made.

    Mutation caught: copies of weights that outlive a queue.
    """
    model, prompts = tiny.causal_lm("llama"), tiny.prompts()
    engine = LocalEngine(model)

    def greedy(engine, prompts):
        return globals()["greedy"](engine, prompts, length)

    before = greedy(engine, prompts)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    after = greedy(engine, prompts)
    up = model.model.layers[1].mlp.up_proj
    model.model.layers[1].mlp.up_proj = torch.nn.Sequential(up, torch.nn.Tanh())
    wrapped = greedy(engine, prompts)
    assert before != after != wrapped
    monkeypatch.setattr(engines, "passes", lambda model, cache, *much: Plain(model, cache))
    assert greedy(LocalEngine(model), prompts) == wrapped
    model.model.layers[1].mlp.up_proj = up
    assert greedy(LocalEngine(model), prompts) == after


@pytest.mark.parametrize("much", [True, False])
def test_an_update_while_others_decode_takes_effect_at_once(monkeypatch, much):
    """Mutation caught: `stale` that says no."""
    monkeypatch.setattr(LocalEngine, "_asked", lambda self: (FEW, SHORT) if much else (1, 1))

    def sampled(change):
        model = tiny.causal_lm("llama")
        engine = LocalEngine(model)

        async def both():
            asked = engine.generate(
                [5, 6, 7], n=4, max_tokens=24, sampling=Sampling(), stop=(), seed=1
            )
            answer = asyncio.ensure_future(asked)
            while not engine._rows or len(engine._rows[0].tokens) < 8:
                await asyncio.sleep(0)
            with torch.no_grad():
                model.model.layers[0].mlp.down_proj.weight.mul_(change)
                model.model.norm.weight.mul_(change)
            return [c.tokens for c in await answer]

        return asyncio.run(both()), engine

    (before, _), (after, engine) = sampled(1.0), sampled(-2.0)
    assert before != after
    assert [t[:8] for t in before] == [t[:8] for t in after]
    assert engine._passes.decoder is None, "the copies are dropped"
    monkeypatch.setattr(LocalEngine, "_asked", lambda self: (1, 1))
    assert sampled(-2.0)[0] == after


def test_a_hook_set_between_two_requests_is_heard():
    """Mutation caught: passes chosen once, when the engine is made."""
    model, heard = tiny.causal_lm("llama"), []
    engine = LocalEngine(model)
    greedy(engine, tiny.prompts())
    model.model.register_forward_hook(lambda m, i, out: heard.append(1))
    greedy(engine, tiny.prompts())
    assert heard


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
@pytest.mark.parametrize("most", [1, 30])
def test_prompts_filled_in_parts_are_the_same(name, most, monkeypatch):
    """Mutation caught: rows of a part that continue another part's prompt."""
    model, prompts = tiny.causal_lm(name), tiny.prompts()
    whole = greedy(LocalEngine(model), prompts)
    monkeypatch.setattr(engines, "PREFILL", most)
    assert greedy(LocalEngine(model, max_rows=5), prompts) == whole
