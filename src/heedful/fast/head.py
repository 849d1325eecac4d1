"""The output layer, and log-probs behind it without autograd's copies of `[tokens × vocabulary]`.

log π(y) = z_y − logsumexp z has the gradient (1_y − softmax z)·g in z, which is written over the logits
themselves; what is too large to keep is computed again, piece by piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from heedful import trial
from heedful.fast import kernels
from heedful.fast.kernels import train
from heedful.fast.layers import unwatched
from heedful.fast.layout import OCTAVE
from heedful.fast.process import rounded

CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # their names
log = logging.getLogger("heedful")
# Numbers in a piece of logits, which should stay in the cache of a core, and in those kept for the backward pass.
PIECE, KEPT = 1 << 21, 1 << 26


def lm_head(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """Hidden states → logits, as the whole model does it (some architectures scale or cap behind the head)."""
    if model in _whole:
        return partial(_by_the_model, model)
    head, factor, cap = model.get_output_embeddings(), *_behind(model)
    assert head is not None

    def logits(h: Tensor) -> Tensor:
        out = head(h) * factor if factor != 1 else head(h)
        return torch.tanh(out / cap) * cap if cap else out

    return logits


def head_is_known(model: PreTrainedModel) -> bool:
    """Whether `lm_head` gives the whole model's own logits, tried on a row; one with layers of its own between body and
    output layer is asked for them as a whole from now on."""
    ids = trial.made_up(model)[0][None]
    for whole in (False, True):
        _whole.add(model) if whole else _whole.discard(model)
        try:
            # Padded, as theirs: packed batches attend in another precision where weights are in bfloat16.
            states = trial.body(model)(input_ids=ids, use_cache=False).last_hidden_state[0]
            ours, theirs = lm_head(model)(states), model(input_ids=ids, use_cache=False).logits[0]
            if torch.allclose(ours.float(), theirs.float(), rtol=1e-3, atol=1e-3):
                return True
        except Exception as error:  # an architecture may say anything
            log.debug("the head of %s: %s", type(model).__name__, error)
    return False


_whole: WeakSet[PreTrainedModel] = WeakSet()  # whose heads are known to themselves alone


def _by_the_model(model: PreTrainedModel, h: Tensor) -> Tensor:
    """The model's own forward, in which its body gives these states."""
    inner = trial.body(model)
    inner.forward = lambda *args, **kwargs: BaseModelOutputWithPastAndCrossAttentions(
        last_hidden_state=h[None]
    )
    try:
        ids = torch.zeros(1, len(h), dtype=torch.long, device=h.device)
        return model(input_ids=ids, use_cache=False).logits[0]
    finally:
        del inner.forward


def linear_head(model: PreTrainedModel) -> tuple[nn.Linear, float] | None:
    """The output layer, and what its logits are multiplied by, of a model that does nothing else behind it."""
    head: Any = model.get_output_embeddings()
    factor, cap = _behind(model)
    if model in _whole:
        return None
    return (head, factor) if type(head) is nn.Linear and unwatched(head) and not cap else None


def _behind(model: PreTrainedModel) -> tuple[float, float | None]:
    """What an architecture multiplies its logits by, and at what it caps them."""
    names = ("logit_scale", "logits_scaling")
    scale, divisor, *caps = (getattr(model.config, name, None) for name in (*names, *CAPS))
    return (scale or 1.0) / (divisor or 1.0), next(filter(None, caps), None)


def few_numbers(model: PreTrainedModel) -> bool:
    """Whether oneDNN multiplies, which is to meet few numbers of rows, see `process.rounded`."""
    return model.device.type == "cpu" and model.dtype.itemsize < 4


def with_spare(model: PreTrainedModel, *rows: Tensor) -> list[Tensor]:
    """Rows `[N, …]` and, where there are to be few numbers of them, some more, whose results nobody reads."""
    count = len(rows[0])
    extra = rounded(count, OCTAVE) - count if few_numbers(model) else 0
    return [torch.cat([x, x[:1].expand(extra, *x.shape[1:])]) if extra else x for x in rows]


class LinearLogps(torch.autograd.Function):
    """log softmax(factor · (h Wᵀ + b))[y]: h `[n, d]`, W `[V, d]`, b `[V]` or None, y `[n]` → `[n]` in float32.

    `backward` says whether gradients will be asked for: in here autograd always looks switched off.
    """

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, bias, y: Tensor, factor: float, backward: bool):
        if h.device.type == "cpu" and len(y) and not 0 <= y.min() <= y.max() < len(weight):
            raise IndexError(f"a token to be predicted is not one of the model's {len(weight)}")
        saved = backward and len(h) * len(weight) <= KEPT
        room = h.new_empty(len(h) if saved else 0, len(weight), dtype=torch.float32)
        logps, total = (torch.empty(len(h), device=h.device) for _ in range(2))
        for rows in _pieces(len(h), len(weight)):
            z = _logits(h[rows], weight, bias, room[rows] if saved else None)
            logps[rows], total[rows] = _odds(z, y[rows], factor)
        ctx.factor, ctx.room = factor, room if saved else None
        ctx.save_for_backward(h, weight, bias, y, total)
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        h, weight, bias, y, total = ctx.saved_tensors
        g = grads[0].float()
        for_h, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad_h = torch.empty_like(h) if for_h else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if for_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if for_bias else None
        room, ctx.room = ctx.room, None  # written over; a second backward computes it again
        for rows in _pieces(len(h), len(weight)):
            if room is None:
                odds = _logits(h[rows], weight, bias)
                _odds(odds, y[rows], ctx.factor)
            else:
                odds = room[rows]
            z = _gradient(odds, y[rows], g[rows] * ctx.factor, total[rows])
            if grad_bias is not None:
                grad_bias.add_(z.sum(0))
            z = z.to(weight.dtype)
            if grad_h is not None:
                torch.mm(z, weight, out=grad_h[rows])
            if grad_weight is not None and z.dtype == torch.float32:
                grad_weight.addmm_(z.t(), h[rows])
            elif grad_weight is not None:
                grad_weight.add_(z.t() @ h[rows])
        grad_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        grad_bias = None if grad_bias is None or bias is None else grad_bias.to(bias.dtype)
        return grad_h, grad_weight, grad_bias, None, None, None


def _pieces(rows: int, vocabulary: int) -> list[slice]:
    size = max(128, PIECE // vocabulary)
    return [slice(start, min(rows, start + size)) for start in range(0, rows, size)]


def _logits(h: Tensor, weight: Tensor, bias: Tensor | None, room: Tensor | None = None) -> Tensor:
    """h Wᵀ + b in float32, in this room `[n, V]` if it is given."""
    out = h.new_empty(len(h), len(weight), dtype=torch.float32) if room is None else room
    if h.dtype == out.dtype:
        torch.mm(h, weight.t(), out=out)
    else:
        out.copy_(h @ weight.t())
    return out if bias is None else out.add_(bias)


def _odds(z: Tensor, y: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Write exp(f·z − max f·z) over logits z `[n, V]` → log softmax(f·z)[y] and the sums of what is left, `[n]`."""
    if kernels.serves(z):
        return train.odds(z, y, factor)
    if factor != 1:
        z.mul_(factor)
    chosen, peak = z.gather(1, y[:, None]), z.amax(1, keepdim=True)
    total = z.sub_(peak).exp_().sum(1)
    return (chosen - peak).squeeze(1) - total.log(), total


def _gradient(odds: Tensor, y: Tensor, g: Tensor, total: Tensor) -> Tensor:
    """That of the logits, written over their odds."""
    if kernels.serves(odds):
        train.odds_back(odds, y, g, total)
        return odds
    z = odds.mul_((-g / total)[:, None])
    return z.scatter_add_(1, y[:, None], g[:, None])
