"""How far apart two right answers in float32 may be. A tolerance follows from this, never from a run: each kind of
processor adds up in another order.

A number is off by 2⁻²⁴ of itself. A sum of n terms, in any order, is off by at most n · 2⁻²⁴ · Σ|term|, and by about
√n · 2⁻²⁴ · Σ|term|, since roundings go both ways. So what counts is the size of the terms, not of what is left of
them: a loss near 0 or a KL of 0 needs an absolute bound. What follows:

- log-probs: logits of size s are off by some 10⁻⁷ · s, so a log-prob by 10⁻⁶, the sum of a response's by 10⁻⁵;
- gradients: by the norm of a whole tensor; one number of it may be all rounding;
- runs: Adam divides a gradient by its own size, so that a gradient that is all rounding moves a weight by a whole
  learning rate, and nothing said of later steps holds in float32. Compare first steps, or run in float64;
- sampled tokens: one of 10⁶ turns. Greedy ones turn where two lead: the prompts of a test must have no such place.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 2.0**-24


def close(ours: Tensor, theirs: Tensor, *, terms: int = 1000) -> bool:
    """Equal up to float32's rounding of sums of so many terms, whose size is that of the largest result.

    Eight times the usual error, since a tensor has many numbers and a network a few layers. A term that is left out or
    counted twice is a thousandth of the sum, and 70 times more than that.
    """
    size = float(theirs.abs().max())
    return torch.allclose(ours.double(), theirs.double(), rtol=0, atol=8 * terms**0.5 * EPS * size)
