"""How token losses are aggregated into one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedful.registry import register

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Average:
    """How losses of tokens become one number: weights `[B, T]` of which the mean over all tokens is what is asked for.

    The learner divides by the minibatch's tokens; its micro-batches therefore change nothing.
    """

    def __call__(self, mask: Tensor, max_tokens: int) -> Tensor:
        length = mask.sum(1, keepdim=True).clamp(min=1)
        responses = mask.any(1).sum().clamp(min=1)
        return mask * mask.sum() / (responses * self.divisor(length, max_tokens))

    def divisor(self, length: Tensor, max_tokens: int) -> Tensor:
        """What the sum over a response's tokens is divided by, `[B, 1]`."""
        raise NotImplementedError


@register("average", "token", help="mean over tokens")
@dataclass(frozen=True, kw_only=True)
class TokenMean(Average):
    """Long responses count more."""

    def __call__(self, mask: Tensor, max_tokens: int) -> Tensor:
        return mask.float()


@register("average", "response", help="sum over a response's tokens, mean over responses")
@dataclass(frozen=True, kw_only=True)
class ResponseSum(Average):
    """The policy gradient of responses."""

    def divisor(self, length: Tensor, max_tokens: int) -> Tensor:
        return length.new_ones(length.shape)


@register("average", "sequence", help="mean over each response's tokens, mean over responses")
@dataclass(frozen=True, kw_only=True)
class SequenceMean(Average):
    """GRPO's average."""

    def divisor(self, length: Tensor, max_tokens: int) -> Tensor:
        return length


@register("average", "constant", help="sum over a response's tokens divided by max_tokens")
@dataclass(frozen=True, kw_only=True)
class Constant(Average):
    """Dr. GRPO's average."""

    def divisor(self, length: Tensor, max_tokens: int) -> Tensor:
        return length.new_full(length.shape, max_tokens)
