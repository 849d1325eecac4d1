"""bfloat16: matrix products in it, everything that adds up many numbers in float32; how near that comes."""

import asyncio

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from heedful.engine.local import LocalEngine
from heedful.fast import packed
from heedful.fast.layout import OCTAVE, lay_out
from heedful.models.backend import backend_of
from heedful.models.forward import token_logps
from heedful.models.load import load_policy
from heedful.models.save import save_model
from heedful.types import Sampling


def layout():
    """Four rows of two lengths, the first two of which begin alike."""
    tokens = torch.arange(4 * 24).view(4, 24)
    tokens[1, :9] = tokens[0, :9]
    needed = torch.ones(4, 24, dtype=torch.bool)
    needed[2:, 11:] = False
    return lay_out(tokens, needed)


def attended(q, k, v, upstream):
    """What the packed attention makes of queries and keys `[1, H, N, d]`, and the gradients."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out, _ = packed.attention(None, *leaves, layout())
    return out, torch.autograd.grad(out, leaves, upstream.to(out.dtype))


def test_attention_on_a_cpu_is_float32s_rounded_once():
    """Scores, softmax and the sums over what shares a token: the bits of float32 on the same numbers, rounded.

    Mutation caught: attention in bfloat16 (tried: a third of the outputs differ), a gradient of shared tokens
    added up after rounding (tried: 6 % of those of keys and values).
    """
    g = torch.Generator().manual_seed(0)
    count = len(layout().tokens)
    q, k, v = (torch.randn(1, n, count, 16, generator=g).bfloat16() for n in (4, 2, 2))
    upstream = torch.randn(1, count, 4, 16, generator=g).bfloat16()
    out, grads = attended(q, k, v, upstream)
    exact, exact_grads = attended(q.float(), k.float(), v.float(), upstream)
    assert out.dtype == torch.bfloat16
    for ours, theirs in zip([out, *grads], [exact, *exact_grads], strict=True):
        assert torch.equal(ours, theirs.bfloat16())


def sampled(model, number=3, seed=0):
    """Prompts' samples as (tokens `[1, T]`, mask, log-probs that the engine told)."""
    prompts = tiny.prompts()

    async def ask():
        engine = LocalEngine(model)
        asked = [
            engine.generate(p, n=number, max_tokens=24, sampling=Sampling(), stop=(), seed=seed + i)
            for i, p in enumerate(prompts)
        ]
        return await asyncio.gather(*asked)

    for prompt, group in zip(prompts, asyncio.run(ask()), strict=True):
        for c in group:
            tokens = torch.tensor([[*prompt, *c.tokens]])
            mask = torch.arange(tokens.shape[1] - 1)[None] >= len(prompt) - 1
            yield tokens, mask, torch.tensor(c.logprobs)


@torch.no_grad()
def gaps(arch):
    """Log-probs of sampled tokens `[n]`: engine − learner, and learner − the same weights in float32."""
    low = tiny.causal_lm(arch).bfloat16()
    high = tiny.causal_lm(arch).bfloat16().float()
    rows = [
        (told - (ours := token_logps(low, t, m)[m]), ours - token_logps(high, t, m)[m])
        for t, m, told in sampled(low)
    ]
    return (torch.cat(part) for part in zip(*rows, strict=True))


@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_the_gaps_that_rounding_leaves(arch):
    """Between engine and learner, and between learner and float32: 0.003 nats a token, 0.02 at most, and no bias.

    A bias would be a KL that is not there. Mutation caught: log-probs summed in bfloat16 in the learner's head
    (tried: 0.013) or in the engine, a temperature that one of the two leaves out.
    """
    for gap in gaps(arch):
        assert 0 < gap.std() < 0.0045
        assert gap.abs().max() < 0.02
        assert gap.mean().abs() < 4 * gap.std() / len(gap) ** 0.5


class Products(TorchDispatchMode):
    """How many rows or columns the bfloat16 operands of matrix products have."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.linear):
            operands = [x for x in args if torch.is_tensor(x) and x.dtype == torch.bfloat16]
            self.sizes.update(n for x in operands for n in x.shape)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=5)])
def test_products_meet_few_numbers_of_rows(sampling):
    """Whatever is asked for: layers and output layer, there and back. oneDNN makes a kernel for each number.

    Mutation caught: tokens that a loss reads given to the output layer as they are, of either kind.
    """
    model = tiny.causal_lm("qwen2").bfloat16()
    backend_of(model)  # which is tried once, with rows of its own
    sizes = set()
    for n in range(70, 121, 7):
        tokens = torch.randint(3, 200, (2, n // 2 + 1), generator=torch.manual_seed(n))
        mask = torch.ones(2, n // 2, dtype=torch.bool)
        mask[1, n // 4 + n % 3 :] = False
        with Products() as found:
            token_logps(model, tokens, mask, sampling).sum().backward()
        sizes |= found.sizes
    weights = {n for p in model.parameters() for n in p.shape}
    at, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    beside = (at.q_proj, at.k_proj, at.v_proj), (mlp.gate_proj, mlp.up_proj)
    weights |= {sum(m.out_features for m in modules) for modules in beside}
    assert 3 <= len(sizes - weights) <= OCTAVE


def test_a_policy_loads_in_bfloat16(tmp_path):
    """Mutation caught: a check of the head that compares attention of two precisions, and refuses the model."""
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, tmp_path)
    assert load_policy(str(tmp_path), dtype="bfloat16").dtype == torch.bfloat16
