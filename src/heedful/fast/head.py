"""Log-probs behind a linear head without autograd's copies of `[tokens × vocabulary]`.

log π(y) = z_y − logsumexp z has the gradient (1_y − softmax z)·g in z, which is written over the logits
themselves; what is too large to keep is computed again, piece by piece.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from heedful.fast import kernels
from heedful.fast.kernels import train

# Numbers in a piece of logits, which should stay in the cache of a core, and in those kept for the backward pass.
PIECE, KEPT = 1 << 21, 1 << 26


def unwatched(module: nn.Module) -> bool:
    """Whether calling it is all that happens: nobody listens to the module and nobody has replaced its forward."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return not hooks and "forward" not in vars(module)


class LinearLogps(torch.autograd.Function):
    """log softmax(factor · (h Wᵀ + b))[y]: h `[n, d]`, W `[V, d]`, b `[V]` or None, y `[n]` → `[n]` in float32.

    `backward` says whether gradients will be asked for: in here autograd always looks switched off.
    """

    @staticmethod
    def forward(
        ctx,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        y: Tensor,
        factor: float,
        backward: bool,
    ) -> Tensor:
        if (
            h.device.type == "cpu"
            and len(y)
            and not 0 <= int(y.min()) <= int(y.max()) < len(weight)
        ):
            raise IndexError(f"a token to be predicted is not one of the model's {len(weight)}")
        pieces = _pieces(len(h), len(weight))
        kept = backward and len(h) * len(weight) <= KEPT
        odds = _Odds(h, weight, bias, factor, pieces, len(h) if kept else 0)
        logps, total = (torch.empty(len(h), device=h.device) for _ in range(2))
        for rows in pieces:
            logps[rows], total[rows] = odds.of(rows, y[rows])[1:]
        ctx.factor, ctx.room = factor, odds.room if kept else None
        ctx.save_for_backward(h, weight, bias, y, total)
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        h, weight, bias, y, total = ctx.saved_tensors
        g = grads[0].float() * ctx.factor
        for_h, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad_h = torch.empty_like(h) if for_h else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if for_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if for_bias else None
        pieces = _pieces(len(h), len(weight))
        room, ctx.room = ctx.room, None  # written over; a second backward computes it again
        again = _Odds(h, weight, bias, ctx.factor, pieces)
        for rows in pieces:
            odds = again.of(rows, y[rows])[0] if room is None else room[rows]
            z = _gradient(odds, y[rows], g[rows], total[rows])
            if grad_bias is not None:
                grad_bias.add_(z.sum(0))
            z = z.to(weight.dtype)
            if grad_h is not None:
                torch.mm(z, weight, out=grad_h[rows])
            if grad_weight is not None:
                grad_weight.addmm_(
                    z.t(), h[rows]
                ) if z.dtype == grad_weight.dtype else grad_weight.add_(z.t() @ h[rows])
        return (
            grad_h,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _gradient(odds: Tensor, y: Tensor, g: Tensor, total: Tensor) -> Tensor:
    """That of the scaled logits, written over their odds."""
    if kernels.serves(odds):
        train.odds_back(odds, y, g, total)
        return odds
    z = odds.mul_((-g / total)[:, None])
    return z.scatter_add_(1, y[:, None], g[:, None])


def _pieces(rows: int, vocabulary: int) -> list[slice]:
    size = max(128, PIECE // vocabulary)
    return [slice(start, min(rows, start + size)) for start in range(0, rows, size)]


class _Odds:
    """exp(z − max z) of the scaled logits z in float32, written over them; in one place of memory for all pieces or,
    where `kept` rows are, one after another."""

    def __init__(
        self,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        factor: float,
        pieces: list[slice],
        kept: int = 0,
    ):
        self.h, self.weight, self.factor, self.kept = h, weight, factor, kept
        self.bias = None if bias is None else bias.float()
        longest = max((p.stop - p.start for p in pieces), default=0)
        self.room = h.new_empty(kept or longest, len(weight), dtype=torch.float32)

    def of(self, rows: slice, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The odds `[rows, V]`, the log-probs of `y` `[rows]`, and the sums of the odds `[rows]`."""
        h = self.h[rows]
        z = self.room[rows] if self.kept else self.room[: len(h)]
        if h.dtype == z.dtype:
            torch.mm(h, self.weight.t(), out=z)
        else:
            z.copy_(torch.mm(h, self.weight.t()))
        if self.bias is not None:
            z.add_(self.bias)
        if kernels.serves(z):
            logps, total = train.odds(z, y, self.factor)
            return z, logps, total
        if self.factor != 1:
            z.mul_(self.factor)
        chosen, most = z.gather(1, y[:, None]), z.amax(1, keepdim=True)
        odds = z.sub_(most).exp_()
        total = odds.sum(1)
        return odds, (chosen - most).squeeze(1) - total.log(), total
