"""A pass through a model that is not there: the operations of forward and backward on tensors without content.

What such a pass keeps alive at its fullest moment, and how many floating-point operations it takes, is counted as the
operations come; attention is a stand-in that keeps what a flash kernel keeps (queries, keys, values, outputs and a sum
for each head and token), since the plain one would keep a square.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from heedful import trial
from heedful.fast.head import LinearLogps, linear_head
from heedful.models.forward import lm_head, scalar_head, scalar_head_name

NAME = "heedful_plan"  # of the attention
BACKWARD = 2.5  # times the forward's operations of attention: five products, of which one is the forward's again


class Peak(TorchDispatchMode):
    """While it is entered: the bytes of tensors that operations have made and that are alive, the most there were, and
    the floating-point operations of products. Views cost nothing.

    (torch's FlopCounterMode keeps tensors alive that a checkpointed layer lets go.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.flops = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._made(x)
        if (formula := flop_registry.get(getattr(func, "_overloadpacket", None))) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out

    def know(self, *tensors: Tensor) -> None:
        """These were there before: they do not count, and what takes their place in memory later does."""
        for x in tensors:
            self._live(_local(x).untyped_storage(), 0)

    def _made(self, x: Tensor) -> None:
        storage = _local(x).untyped_storage()
        self._live(storage, storage.nbytes())

    def _live(self, storage: Any, counted: int) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = counted
            self.now += counted
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._alive.pop(key, 0)


def _local(x: Any) -> Tensor:
    """A tensor itself, or this rank's part of it."""
    return x.to_local() if hasattr(x, "to_local") else x


@dataclass(frozen=True)
class Trace:
    """Of one pass, forward and backward: bytes at its fullest moment besides weights and gradients that were there
    before, and floating-point operations."""

    bytes: int
    flops: float
    forward_flops: float
    below: int
    """Bytes at the fullest moment after the output layer's turn, in the backward pass of the layers."""


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        # Two products of 2 · d operations for each pair of tokens, half of which are masked.
        ctx.flops = 2 * q.numel() * _Counted.sequence
        _Counted.flops += ctx.flops
        out, sums = torch.empty_like(q), q.new_empty(len(q), heads, dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):
        q, k, v, *_ = ctx.saved_tensors
        _Counted.flops += BACKWARD * ctx.flops
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None


class _Counted:
    """Attention's products, which no counter sees; `sequence` is the mean length of what attends to itself."""

    sequence, flops = 0.0, 0.0


def _attend(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """As `fast.packed.attention`: `[1, H, N, d]` → `[1, N, H, d]`, with the copies that ragged attention makes."""
    heads, count, size = query.shape[1:]
    place = torch.empty(count, dtype=torch.long, device=query.device)
    rows = (x[0].transpose(0, 1).flatten(1).index_select(0, place) for x in (query, key, value))
    out = _Attention.apply(*rows, heads)
    assert isinstance(out, Tensor)
    return out.index_select(0, place).view(1, count, heads, size), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


@contextmanager
def _planned(model: PreTrainedModel) -> Iterator[None]:
    configs = [model.config, model.config.get_text_config()]
    before = [c._attn_implementation for c in configs]
    for c in configs:
        c._attn_implementation = NAME
    try:
        yield
    finally:
        for c, name in zip(configs, before, strict=True):
            c._attn_implementation = name


def trace(
    model: PreTrainedModel, tokens: int, read: int, sequence: float, *, grads: bool = True
) -> Trace:
    """A pass of `tokens` tokens in sequences of a mean length, of which `read` are asked for log-probs (or a score or
    value), through a model on the device `meta`.

    `grads`: its gradients were there before, as after another micro-batch; else they are made, and counted.
    """
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    for p in model.parameters():
        p.grad = torch.empty_like(p) if grads and p.requires_grad else None
    _Counted.sequence, _Counted.flops = sequence, 0.0
    peak = Peak()
    peak.know(*model.parameters(), *model.buffers(), ids)
    peak.know(*(p.grad for p in model.parameters() if p.grad is not None))
    with _planned(model), peak:
        # A mask that is ready is handed on unread; to make one, transformers would look at the positions.
        ready = torch.empty(1, 1, 1, 1, dtype=torch.bool, device="meta")
        hidden = trial.body(model)(
            input_ids=ids, position_ids=ids, attention_mask=ready, use_cache=False
        )
        states = hidden.last_hidden_state[0].index_select(0, ids[0, :read])
        del hidden
        highest = 0

        def halfway(_: Tensor) -> None:
            nonlocal highest
            highest, peak.most = peak.most, peak.now

        if states.requires_grad:
            states.register_hook(halfway)
        total = _asked(model, states, ids[0, :read]).sum()
        del states
        forward = peak.flops + _Counted.flops
        if total.requires_grad:
            total.backward()
        del total
    for p in model.parameters():
        p.grad = None
    most = max(highest, peak.most)
    return Trace(most, peak.flops + _Counted.flops, forward, peak.most)


def _asked(model: PreTrainedModel, states: Tensor, ids: Tensor) -> Tensor:
    if scalar_head_name(model):
        return scalar_head(model)(states).float()
    linear = linear_head(model)
    if linear is None:
        return lm_head(model)(states).float().log_softmax(-1)
    head, factor = linear
    out = LinearLogps.apply(states, head.weight, head.bias, ids, factor, torch.is_grad_enabled())
    assert isinstance(out, Tensor)
    return out
