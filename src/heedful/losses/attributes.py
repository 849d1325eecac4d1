"""The loss of several heads on what was said of a response: ratings on axes, verdicts by rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def attributes(
    logits: Float[Tensor, "B K"], target: Float[Tensor, "B K 2"], rules: Bool[Tensor, " K"]
) -> Float[Tensor, " B"]:
    """Σ_k said·ℓ_k / K: ½(output − rating)² of an axis, the cross-entropy of σ(output) of a rule.

    target[..., 0] is a standardised rating, or 1 for a rule that was kept and 0; target[..., 1] is 1 where somebody has
    said it. What nobody has said adds nothing, so that rows which say all and rows which say one thing mix.
    """
    value, said = target.unbind(-1)
    squared = 0.5 * (logits - value) ** 2
    entropy = F.binary_cross_entropy_with_logits(logits, value.clamp(0, 1), reduction="none")
    return (torch.where(rules, entropy, squared) * said).sum(1) / logits.shape[1]
