"""The Llama family as the learner runs it on a CPU: the model's own weights, fewer and larger steps between them.

`transformers` spells out norms, rotations and gates in many small operations, each of which autograd keeps a copy
for. Here each is one function with its backward pass written out, the rotation is part of attention, queries, keys and
values are one product, and sums with the residual stream are part of the products before them. Adapters, and other
things in place of linear layers, are called as they are.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful.models.attend import attend
from heedful.models.head import unwatched
from heedful.models.layers import own_kind
from heedful.models.packed import Layout, of_read

NAMES = ("Llama", "Mistral", "Qwen2", "Qwen3")
PARTS = ("Model", "DecoderLayer", "Attention", "MLP", "RMSNorm", "RotaryEmbedding")


def family_of(model: PreTrainedModel) -> dict[str, type] | None:
    """The classes of the model's family by their `PARTS`; None for a model of another family.

    By name, since a model has imported its own family already, and nobody needs the other three. All read alike.
    """
    base = type(model.base_model)
    for name in NAMES:
        home = f"transformers.models.{name.lower()}.modeling_{name.lower()}"
        if (base.__module__, base.__name__) == (home, f"{name}Model"):
            return {part: getattr(sys.modules[home], name + part) for part in PARTS}
    return None


def is_plain_llama(model: PreTrainedModel) -> bool:
    """Whether all but the linear layers is the family's own, and nobody listens to it or has replaced it."""
    base: Any = model.base_model
    family = family_of(model)
    if family is None:
        return False
    parts = [(base, "Model"), (base.norm, "RMSNorm"), (base.rotary_emb, "RotaryEmbedding")]
    for layer in base.layers:
        parts += [(layer, "DecoderLayer"), (layer.self_attn, "Attention"), (layer.mlp, "MLP")]
        norms = layer.input_layernorm, layer.post_attention_layernorm
        parts += [(norm, "RMSNorm") for norm in norms]
    return (
        all(own_kind(module)[0] is family[part] and unwatched(module) for module, part in parts)
        and model.config.get_text_config().hidden_act == "silu"
        and 2 * base.rotary_emb.inv_freq.numel() == base.layers[0].self_attn.head_dim
    )


def runs(model: PreTrainedModel, layout: Layout) -> bool:
    """Whether `hidden` does for this model and batch what `transformers` would, and is the faster."""
    config: Any = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 1 << 30
    return layout.tokens.device.type == "cpu" and layout.longest <= window and is_plain_llama(model)


def hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Last hidden states `[M, d]` of the tokens that are read; behind the last attention nothing else is computed."""
    base: Any = model.base_model
    h = base.embed_tokens(layout.tokens)
    turns = _turns(base, layout.positions, h)
    for layer in base.layers:
        last = layer is base.layers[-1]
        if own_kind(layer)[1] and torch.is_grad_enabled():
            h = checkpoint(_layer, layer, h, turns, layout, last, use_reentrant=False)
        else:
            h = _layer(layer, h, turns, layout, last)
    return _norm(base.norm, h)


def _layer(layer: Any, h: Tensor, turns: Tensor, layout: Layout, last: bool) -> Tensor:
    """`[N, d]` → the same, or of the last layer `[M, d]` of the tokens that are read."""
    at, mlp = layer.self_attn, layer.mlp
    qkv = _queries_keys_values(at, _norm(layer.input_layernorm, h))
    attended = attend(qkv, layout, at.config.num_attention_heads, at.scaling, turns).flatten(1)
    if last:
        attended, h = of_read(layout, attended, h)
    h = _added(at.o_proj, attended, h)
    x = _norm(layer.post_attention_layernorm, h)
    return _added(mlp.down_proj, _Gated.apply(mlp.gate_proj(x), mlp.up_proj(x)), h)


def _turns(base: Any, positions: Tensor, h: Tensor) -> Tensor:
    """e^{iθ} of each token and pair, `[N, 1, head_dim / 2]`."""
    both = base.rotary_emb(_wide(h), positions[None])
    cos, sin = (x[0, :, None].chunk(2, -1)[0] for x in both)
    return torch.complex(cos, sin)


def _queries_keys_values(at: Any, x: Tensor) -> Tensor:
    """`[N, heads + 2 · key heads, head_dim]` before rotation; the two numbers of queries and keys that a position turns
    together, half a head apart in the weights, stand side by side: no score depends on the order."""
    parts, size = (at.q_proj, at.k_proj, at.v_proj), at.head_dim
    if all(_plain(m) for m in parts) and not hasattr(at, "q_norm"):
        weight = _Beside.apply(size, *(m.weight for m in parts))
        bias = None if at.q_proj.bias is None else _Beside.apply(size, *(m.bias for m in parts))
        return linear(x, weight, bias).view(len(x), -1, size)
    q, k, v = (m(x).view(len(x), -1, size) for m in parts)
    if hasattr(at, "q_norm"):
        q, k = at.q_norm(q), at.k_norm(k)
    q, k = (y.unflatten(2, (2, -1)).transpose(2, 3) for y in (q, k))
    return torch.cat([q, k, v.unflatten(2, (-1, 2))], 1).flatten(2)


def _added(module: Any, x: Tensor, h: Tensor) -> Tensor:
    """h + module(x); one product where the module is a linear layer without a bias."""
    if _plain(module) and module.bias is None:
        return torch.addmm(h, x, module.weight.t())
    return h + module(x)


def _plain(module: Any) -> bool:
    return type(module) is nn.Linear and unwatched(module)


def _norm(module: Any, h: Tensor) -> Tensor:
    return _Norm.apply(h, module.weight, module.variance_epsilon)


class _Beside(torch.autograd.Function):
    """Rows of the weights (or biases) of queries, keys and values in one, those of pairs side by side."""

    @staticmethod
    def forward(ctx, size: int, *rows: Tensor) -> Tensor:
        ctx.size, ctx.counts = size, [len(x) for x in rows]
        q, k, v = rows
        turned = [x.unflatten(0, (-1, 2, size // 2)).transpose(1, 2) for x in (q, k)]
        return torch.cat([*turned, v.unflatten(0, (-1, size // 2, 2))]).flatten(0, 2)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        *turned, v = grads[0].split(ctx.counts)
        shape = (-1, ctx.size // 2, 2)
        q, k = (x.unflatten(0, shape).transpose(1, 2).flatten(0, 2) for x in turned)
        return None, q, k, v


class _Norm(torch.autograd.Function):
    """h / √(mean h² + ε) · w over the last dimension, in float32 inside (Zhang & Sennrich 2019, eq. 4)."""

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = _wide(h)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        factor = length.square_().mul_(1 / h.shape[1]).add_(eps).rsqrt_()
        ctx.save_for_backward(h, weight, factor)
        return (x * factor).mul_(weight).to(h.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        h, weight, factor = ctx.saved_tensors
        x, grad = _wide(h), _wide(grads[0])
        product = grad * x
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = product.t().mv(factor.squeeze(1)).to(weight.dtype)
        along = product.mv(_wide(weight))[:, None].mul_(factor.square()).mul_(1 / h.shape[1])
        out = torch.mul(grad, weight, out=product).addcmul_(x, along, value=-1).mul_(factor)
        return out.to(h.dtype), for_weight, None


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.float() if x.dtype.itemsize < 4 else x


class _Gated(torch.autograd.Function):
    """silu(gate) · up (Shazeer 2020, eq. 6)."""

    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        gate, up = ctx.saved_tensors
        (grad,) = grads
        for_up, for_gate = silu(gate).mul_(grad), grad * up
        torch.ops.aten.silu_backward.grad_input(for_gate, gate, grad_input=for_gate)
        return for_gate, for_up
