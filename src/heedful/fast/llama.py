"""The Llama family, layer by layer on tokens that stand in one row: the one walk that learner and engine share.

`transformers` spells out norms, rotations and gates in many small operations, each of which autograd keeps a copy
for. Here, on a CPU, each is one function with its backward pass written out, queries, keys and values are one product,
and sums with the residual stream are part of the products before them; how tokens attend is the caller's. Adapters, and
other things in place of linear layers, norms and feed-forward parts, are called as they are.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful.fast import kernels
from heedful.fast.attention import attend_rotated
from heedful.fast.kernels import train
from heedful.fast.layers import around, unwatched
from heedful.fast.layout import Layout

NAMES = ("Llama", "Mistral", "Qwen2", "Qwen3")
PARTS = ("Model", "DecoderLayer", "Attention", "MLP", "RMSNorm")
MANY = 64  # tokens that are worth setting weights side by side for


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


def knows(model: PreTrainedModel) -> bool:
    """Whether `walk` may go through the model: the modules that it does not call are the family's own classes, without
    hooks or replaced methods."""
    family = family_of(model)
    if family is None:
        return False
    base: Any = model.base_model
    layers = base.layers
    walked = [(base, "Model"), *((layer, "DecoderLayer") for layer in layers)]
    walked += [(layer.self_attn, "Attention") for layer in layers]
    return (
        all(type(module) is family[part] and unwatched(module) for module, part in walked)
        and 2 * base.rotary_emb.inv_freq.numel() == layers[0].self_attn.head_dim
    )


def window(model: PreTrainedModel) -> int:
    """Tokens up to which `walk` is exact: it knows no sliding windows."""
    return getattr(model.config.get_text_config(), "sliding_window", None) or 1 << 30


def learns(model: PreTrainedModel, layout: Layout) -> bool:
    """Whether `hidden` does for this model and batch what `transformers` would, and is the faster."""
    base: Any = model.base_model
    return (
        layout.tokens.device.type == "cpu"
        and layout.sequences.longest <= window(model)
        and knows(model)
        and not any(around(layer).compiled for layer in base.layers)
    )


def hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Last hidden states `[M, d]` of the tokens that are read; behind the last attention nothing else is computed."""

    def attend(i: int, attn: Any, qkv: Tensor, rope: Tensor) -> Tensor:
        heads = attn.config.num_attention_heads
        return attend_rotated(qkv, rope, layout, heads, attn.scaling).flatten(1)

    read = layout.read if len(layout.read) < len(layout.tokens) else None
    return walk(model, layout.tokens, layout.positions, attend, read)


def walk(
    model: PreTrainedModel, tokens: Tensor, positions: Tensor, attend: Any, read: Any = None
) -> Tensor:
    """Last hidden states of tokens at positions, both `[N]`: of all `[N, d]`, or of those that are read, `[M, d]`.

    attend: (number of a layer, its attention, heads `[N, heads + 2 · key heads, d]`, rope `[N, d]`) → `[N, heads · d]`
    """
    base: Any = model.base_model
    h = base.embed_tokens(tokens)
    rope = rope_of(base, positions.to(h.device), h)
    for i, layer in enumerate(base.layers):
        step = partial(_layer, layer, read=read if layer is base.layers[-1] else None)
        if around(layer).recomputes and torch.is_grad_enabled():
            h = checkpoint(step, h, rope, partial(attend, i), use_reentrant=False)
        else:
            h = step(h, rope, partial(attend, i))
    return _norm(base.norm, h)[0]


def rope_of(base: Any, positions: Tensor, like: Tensor) -> Tensor:
    """Cosines and sines of the angles by which each token's position rotates a head, `[N, head_dim]`."""
    cos, sin = base.rotary_emb(like.float() if like.dtype.itemsize < 4 else like, positions[None])
    half = cos.shape[-1] // 2
    return torch.cat([cos[0, :, :half], sin[0, :, :half]], -1)


def _layer(layer: Any, h: Tensor, rope: Tensor, attend: Any, read: Tensor | None) -> Tensor:
    attn = layer.self_attn
    x, h = _norm(layer.input_layernorm, h)
    attended = attend(attn, _heads(attn, x), rope)
    if read is not None:
        attended, h = attended.index_select(0, read), h.index_select(0, read)
    h = _added(attn.o_proj, attended, h)
    x, h = _norm(layer.post_attention_layernorm, h)
    mlp = layer.mlp
    if not _is_family(mlp) or mlp.config.hidden_act != "silu":
        return h + mlp(x)
    return _added(mlp.down_proj, _gated(_side_by_side(x, mlp.gate_proj, mlp.up_proj)), h)


def _heads(attn: Any, x: Tensor) -> Tensor:
    """`[N, heads + 2 · key heads, head_dim]` before rotation."""
    parts, shape = (attn.q_proj, attn.k_proj, attn.v_proj), (len(x), -1, attn.head_dim)
    if not hasattr(attn, "q_norm"):
        return _side_by_side(x, *parts).view(shape)
    q, k, v = (m(x).view(shape) for m in parts)
    return torch.cat([attn.q_norm(q), attn.k_norm(k), v], 1)


def _side_by_side(x: Tensor, *modules: Any) -> Tensor:
    """What the modules make of x, `[N, all outs]`: in one product where that is the faster."""
    if x.device.type != "cpu" or len(x) < MANY or not all(map(_plain, modules)):
        return torch.cat([m(x) for m in modules], 1)
    bias = None
    if any(m.bias is not None for m in modules):
        bias = torch.cat(
            [x.new_zeros(m.out_features) if m.bias is None else m.bias for m in modules]
        )
    return linear(x, torch.cat([m.weight for m in modules]), bias)


def _added(module: Any, x: Tensor, h: Tensor) -> Tensor:
    """h + module(x); one product where the module is a linear layer without a bias."""
    if _plain(module) and module.bias is None:
        return torch.addmm(h, x, module.weight.t())
    return h + module(x)


def _is_family(module: nn.Module) -> bool:
    """Whether this norm or feed-forward part is as the family has it."""
    return type(module).__module__.startswith("transformers.models.") and unwatched(module)


def _plain(module: Any) -> bool:
    return type(module) is nn.Linear and unwatched(module)


def _norm(module: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    """h normed, and h itself for whoever reads it besides: so their gradients are added up in one pass."""
    if _is_family(module) and kernels.serves(h, module.weight):
        return _Norm.apply(h, module.weight, module.variance_epsilon)
    return module(h), h


class _Norm(torch.autograd.Function):
    """h / √(mean h² + ε) · w over the last dimension, in float32 inside (Zhang & Sennrich 2019, eq. 4)."""

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        out, factor = train.norm(h.float(), weight.float(), eps)
        ctx.save_for_backward(h, weight, factor)
        return out.to(h.dtype), h.view_as(h)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        h, weight, factor = ctx.saved_tensors
        grad, skip, x, wide = (x.float() for x in (*grads, h, weight))
        for_h, for_weight = train.norm_back(grad, skip, x, wide, factor, ctx.needs_input_grad[1])
        return for_h.to(h.dtype), None if for_weight is None else for_weight.to(weight.dtype), None


def _gated(joint: Tensor) -> Tensor:
    """silu(gate) · up of gate and up side by side (Shazeer 2020, eq. 6)."""
    if kernels.serves(joint):
        return _Gated.apply(joint)
    gate, up = joint.chunk(2, 1)
    return silu(gate) * up


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, joint: Tensor) -> Tensor:
        ctx.save_for_backward(joint)
        return train.gate(joint.float()).to(joint.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        (joint,) = ctx.saved_tensors
        return train.gate_back(grads[0].float(), joint.float()).to(joint.dtype)
