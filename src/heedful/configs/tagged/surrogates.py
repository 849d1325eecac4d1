"""The surrogate loss that is differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from heedful.fields import ABOVE_0, alias
from heedful.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from heedful.types import Scored


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """What is differentiated: of log-probs `[B, T]` and their `Scored` batch, a loss per token `[B, T]`."""

    def __call__(self, logp: Tensor, b: Scored) -> Tensor:
        raise NotImplementedError

    def clipped(self, logp: Tensor, b: Scored) -> Tensor:
        """1.0 where clipping has removed the gradient of a token, `[B, T]`."""
        return logp.new_zeros(logp.shape)


@register(
    "surrogate", "clip", help="clipped ratios of tokens", source="Schulman et al. 2017, eq. 7"
)
@dataclass(frozen=True, kw_only=True)
class Clip(Surrogate):
    """PPO's clipped surrogate."""

    clip: Annotated[float, alias("--cliprange", "--epsilon"), ABOVE_0] = 0.2
    """Ratios further below 1 than this get no gradient."""
    clip_high: Annotated[float | None, alias("--epsilon-high"), ABOVE_0] = None
    """Ratios further above 1 than this get no gradient; default: the same as clip."""

    def __call__(self, logp: Tensor, b: Scored) -> Tensor:
        from heedful.losses.policy import ppo_clip

        return ppo_clip(logp, b.old_logp, b.adv, self.clip, self.clip_high)

    def clipped(self, logp: Tensor, b: Scored) -> Tensor:
        from heedful.losses.policy import clipped

        return clipped(self.log_ratio(logp, b), b.adv, self.clip, self.clip_high)

    def log_ratio(self, logp: Tensor, b: Scored) -> Tensor:
        """What is clipped, `[B, T]`."""
        return logp - b.old_logp


@register(
    "surrogate",
    "sequence_clip",
    help="clipped ratios of whole responses",
    source="Zheng et al. 2025, eq. 5",
)
@dataclass(frozen=True, kw_only=True)
class SequenceClip(Clip):
    """GSPO: the mean of a response's log-ratios in place of each token's."""

    def __call__(self, logp: Tensor, b: Scored) -> Tensor:
        from heedful.losses.policy import gspo_clip

        return gspo_clip(logp, b.old_logp, b.adv, b.mask, self.clip, self.clip_high)

    def log_ratio(self, logp: Tensor, b: Scored) -> Tensor:
        from heedful.losses.policy import sequence_log_ratio

        return sequence_log_ratio(logp, b.old_logp, b.mask)


@register("surrogate", "gradient", help="log-probs themselves", source="Williams 1992")
@dataclass(frozen=True, kw_only=True)
class Gradient(Surrogate):
    """The plain policy gradient, for samples of the policy as it is now."""

    def __call__(self, logp: Tensor, b: Scored) -> Tensor:
        from heedful.losses.policy import policy_gradient

        return policy_gradient(logp, b.adv)


@register(
    "surrogate", "importance", help="log-probs weighed by the token's ratio", source="Ionides 2008"
)
@dataclass(frozen=True, kw_only=True)
class Importance(Surrogate):
    """Truncated importance weights of tokens."""

    sequence: ClassVar[bool] = False
    truncate: Annotated[float, ABOVE_0] = 2.0
    """Importance weights are truncated at this."""

    def __call__(self, logp: Tensor, b: Scored) -> Tensor:
        from heedful.losses.policy import importance_weighted

        return importance_weighted(
            logp, b.old_logp, b.adv, b.mask, sequence=self.sequence, truncate=self.truncate
        )


@register("surrogate", "sequence_importance", help="log-probs weighed by the response's ratio")
@dataclass(frozen=True, kw_only=True)
class SequenceImportance(Importance):
    """Truncated importance weights of whole responses."""

    sequence: ClassVar[bool] = True
