"""What a faster way shows before it is relied on: the plain way's numbers, as near as their type allows."""

from __future__ import annotations

import torch
from torch import Tensor


def bound(dtype: torch.dtype) -> float:
    """How far states and logits that were computed in this type may be apart, as a share of the largest."""
    return 1e-3 if dtype == torch.float32 else 5e-2


def near(ours: Tensor, theirs: Tensor, bound: float) -> bool:
    """Whether no number is further from the plain way's than this share of the largest of these; no if one is NaN."""
    return bool((ours - theirs).abs().max() <= bound * theirs.abs().max())
