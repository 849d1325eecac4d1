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
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful.fast import kernels
from heedful.fast.attend import attend
from heedful.fast.head import unwatched
from heedful.fast.kernels import train
from heedful.fast.layers import own_kind
from heedful.fast.packed import Layout, of_read

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
    angles = turns(base, layout.positions, h)
    for layer in base.layers:
        last = layer is base.layers[-1]
        if own_kind(layer)[1] and torch.is_grad_enabled():
            h = checkpoint(_layer, layer, h, angles, layout, last, use_reentrant=False)
        else:
            h = _layer(layer, h, angles, layout, last)
    return _norm(base.norm, h)[0]


def _layer(layer: Any, h: Tensor, angles: Tensor, layout: Layout, last: bool) -> Tensor:
    """`[N, d]` → the same, or of the last layer `[M, d]` of the tokens that are read."""
    at, mlp = layer.self_attn, layer.mlp
    x, h = _norm(layer.input_layernorm, h)
    qkv = _queries_keys_values(at, x)
    heads = at.config.num_attention_heads
    attended = attend(qkv, layout.sequences, layout.plan, heads, at.scaling, angles).flatten(1)
    if last:
        attended, h = of_read(layout, attended, h)
    h = _added(at.o_proj, attended, h)
    x, h = _norm(layer.post_attention_layernorm, h)
    pair = mlp.gate_proj, mlp.up_proj
    joint = (
        _side_by_side(x, *pair) if all(map(_plain, pair)) else torch.cat([m(x) for m in pair], 1)
    )
    return _added(mlp.down_proj, _Gated.apply(joint), h)


def turns(base: Any, positions: Tensor, h: Tensor) -> Tensor:
    """Cosines and sines of the angles by which each token's position turns a head, `[N, head_dim]`."""
    cos, sin = base.rotary_emb(_wide(h), positions[None])
    half = cos.shape[-1] // 2
    return torch.cat([cos[0, :, :half], sin[0, :, :half]], -1)


def _queries_keys_values(at: Any, x: Tensor) -> Tensor:
    """`[N, heads + 2 · key heads, head_dim]` before rotation."""
    parts, size = (at.q_proj, at.k_proj, at.v_proj), at.head_dim
    if all(_plain(m) for m in parts) and not hasattr(at, "q_norm"):
        return _side_by_side(x, *parts).view(len(x), -1, size)
    q, k, v = (m(x).view(len(x), -1, size) for m in parts)
    if hasattr(at, "q_norm"):
        q, k = at.q_norm(q), at.k_norm(k)
    return torch.cat([q, k, v], 1)


def _side_by_side(x: Tensor, *modules: nn.Linear) -> Tensor:
    biases = [m.bias for m in modules]
    return _SideBySide.apply(x, len(modules), *(m.weight for m in modules), *biases)


def _added(module: Any, x: Tensor, h: Tensor) -> Tensor:
    """h + module(x); one product where the module is a linear layer without a bias."""
    if _plain(module) and module.bias is None:
        return _Added.apply(x, module.weight, h)
    return h + module(x)


def _plain(module: Any) -> bool:
    return type(module) is nn.Linear and unwatched(module)


def _norm(module: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    """h normed, and h itself for whoever reads it besides: so their gradients are added up in one pass."""
    return _Norm.apply(h, module.weight, module.variance_epsilon)


class _SideBySide(torch.autograd.Function):
    """x Wᵀ + b for several W `[out, in]` and b, or None, side by side, in one product. If one weight's gradient is
    asked for, all are computed."""

    @staticmethod
    def forward(ctx, x: Tensor, count: int, *given: Any) -> Tensor:
        weights, biases = given[:count], given[count:]
        ctx.save_for_backward(x, *weights)
        bias = None
        if any(b is not None for b in biases):
            pairs = zip(weights, biases, strict=True)
            bias = torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in pairs])
        return nn.functional.linear(x, torch.cat(weights), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        (x, *weights), (grad,) = ctx.saved_tensors, grads
        sizes, (for_x, _, *asked) = [len(w) for w in weights], ctx.needs_input_grad
        count = len(weights)
        none = [None] * count
        of_weights = (grad.t() @ x).split(sizes) if any(asked[:count]) else none
        of_biases = grad.sum(0).split(sizes) if any(asked[count:]) else none
        found = zip((*of_weights, *of_biases), asked, strict=True)
        return (
            grad @ torch.cat(weights) if for_x else None,
            None,
            *(g if is_asked else None for g, is_asked in found),
        )


class _Added(torch.autograd.Function):
    """h + x Wᵀ of W `[out, in]`."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, h: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.addmm(h, x, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        (x, weight), (grad,) = ctx.saved_tensors, grads
        for_x, for_weight, _ = ctx.needs_input_grad
        return (
            grad @ weight if for_x else None,
            grad.t() @ x if for_weight else None,
            grad,
        )


class _Norm(torch.autograd.Function):
    """h / √(mean h² + ε) · w over the last dimension, in float32 inside (Zhang & Sennrich 2019, eq. 4)."""

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        if kernels.serves(h, weight):
            out, factor = train.norm(h, weight, eps)
        else:
            x = _wide(h)
            length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
            factor = length.square_().mul_(1 / h.shape[1]).add_(eps).rsqrt_()
            out = (x * factor).mul_(weight).to(h.dtype)
        ctx.save_for_backward(h, weight, factor)
        return out, h.view_as(h)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        h, weight, factor = ctx.saved_tensors
        weighs = ctx.needs_input_grad[1]
        if kernels.serves(h, weight):
            return *train.norm_back(grads[0], grads[1], h, weight, factor, weighs), None
        x, grad = _wide(h), _wide(grads[0])
        product = grad * x
        for_weight = product.t().mv(factor.squeeze(1)).to(weight.dtype) if weighs else None
        along = product.mv(_wide(weight))[:, None].mul_(factor.square()).mul_(1 / h.shape[1])
        out = torch.mul(grad, weight, out=product).addcmul_(x, along, value=-1).mul_(factor)
        return out.to(h.dtype).add_(grads[1]), for_weight, None


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.float() if x.dtype.itemsize < 4 else x


class _Gated(torch.autograd.Function):
    """silu(gate) · up of gate and up side by side (Shazeer 2020, eq. 6)."""

    @staticmethod
    def forward(ctx, joint: Tensor) -> Tensor:
        ctx.save_for_backward(joint)
        if kernels.serves(joint):
            return train.gate(joint)
        gate, up = joint.chunk(2, 1)
        return silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        (joint,), (grad,) = ctx.saved_tensors, grads
        if kernels.serves(joint):
            return train.gate_back(grad, joint)
        gate, up = joint.chunk(2, 1)
        out = torch.empty_like(joint)
        for_gate, for_up = out.chunk(2, 1)
        torch.mul(silu(gate), grad, out=for_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=for_gate)
        return out
