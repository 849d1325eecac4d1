"""float32 copies of weights that are kept in bfloat16, for the optimiser to move.

bfloat16 has 8 bits of precision: a step smaller than 1/256 of a weight would round to nothing, and steps
of fine-tuning are a thousand times smaller (Micikevicius et al. 2018, section 3.1). Gradients of several
micro-batches add up in float32 too.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LOW = (torch.bfloat16, torch.float16)


class Masters:
    """What an optimiser moves: the trained weights, or float32 copies of those of low precision."""

    def __init__(self, weights: Iterable[nn.Parameter]):
        self.weights = list(weights)
        self.params: list[Tensor] = [
            p.detach().float().requires_grad_() if p.dtype in LOW else p for p in self.weights
        ]

    def gather(self) -> None:
        """After each backward: add the low-precision gradients to the masters'."""
        for weight, master in self._copies():
            if weight.grad is not None:
                grad = weight.grad.float()
                master.grad = grad if master.grad is None else master.grad.add_(grad)
                weight.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After each step: round the masters into the model."""
        for weight, master in self._copies():
            weight.copy_(master)

    def _copies(self) -> list[tuple[nn.Parameter, Tensor]]:
        pairs = zip(self.weights, self.params, strict=True)
        return [(weight, master) for weight, master in pairs if weight is not master]
