"""How KL to the reference is charged, and how it is estimated from sampled tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from heedful.errors import UserError
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, Range, alias
from heedful.registry import register
from heedful.tagged import SLOT, ReadWith

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """KL(π‖π_ref) per token from log-probs of tokens that π sampled: of two `[B, T]`, `[B, T]` (Schulman 2020)."""

    def __call__(self, logp: Tensor, ref_logp: Tensor) -> Tensor:
        raise NotImplementedError


@register("kl_estimator", "k1", help="the log-ratio: unbiased, the one for rewards")
@dataclass(frozen=True, kw_only=True)
class K1(Estimator):
    """log π − log π_ref."""

    def __call__(self, logp: Tensor, ref_logp: Tensor) -> Tensor:
        from heedful.losses.kl import k1

        return k1(logp, ref_logp)


@register("kl_estimator", "k2", help="half its square: on-policy its gradient is that of the KL")
@dataclass(frozen=True, kw_only=True)
class K2(Estimator):
    """(log π − log π_ref)²/2."""

    def __call__(self, logp: Tensor, ref_logp: Tensor) -> Tensor:
        from heedful.losses.kl import k2

        return k2(logp, ref_logp)


@register("kl_estimator", "k3", help="never negative; GRPO's", source="Shao et al. 2024, eq. 4")
@dataclass(frozen=True, kw_only=True)
class K3(Estimator):
    """π_ref/π − 1 − log π_ref/π."""

    def __call__(self, logp: Tensor, ref_logp: Tensor) -> Tensor:
        from heedful.losses.kl import k3

        return k3(logp, ref_logp)


@register("kl_estimator", "analytic", help="exact for the next token; in the loss only")
@dataclass(frozen=True, kw_only=True)
class Analytic(Estimator):
    """The sum over the vocabulary, which the model's own pass gives (`Outputs.kl`)."""

    def __call__(self, logp: Tensor, ref_logp: Tensor) -> Tensor:
        raise TypeError("the analytic KL needs whole distributions, not log-probs of tokens")


@dataclass(frozen=True, kw_only=True)
class Kl:
    """Where the KL penalty to the reference goes, and its coefficient."""

    charged: ClassVar[bool] = True


@register("kl", "none", help="not at all")
@dataclass(frozen=True, kw_only=True)
class NoKl(Kl):
    """No reference is kept."""

    charged: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Charged(Kl):
    """What both ways of charging have."""

    beta: Annotated[float, alias("--kl-coef", "--init-kl-coef"), AT_LEAST_0] = 0.05
    """KL coefficient β, in units of reward per nat; the initial value where kl_target is given."""
    kl_target: Annotated[float | None, ABOVE_0] = None
    """Nats per response to which β adapts; default: β stays fixed."""
    kl_horizon: Annotated[int, AT_LEAST_1, ReadWith("kl_target")] = 2000
    """Responses over which the adaptive β reacts; a shorter one overshoots, since the policy follows late."""
    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    reference_every: Annotated[int, alias("--ref-model-sync-steps"), AT_LEAST_0] = 0
    """Rounds between updates of the reference to the policy; 0: never."""
    reference_share: Annotated[
        float,
        alias("--ref-model-mixup-alpha"),
        Range(0, 1, above=True),
        ReadWith("reference_every"),
    ] = 1.0
    """Mixing share α of such an update: 1 copies the policy, less keeps a moving average of policies."""


@register(
    "kl", "reward", help="per token, taken from the reward", source="Ziegler et al. 2019, eq. 2"
)
@dataclass(frozen=True, kw_only=True)
class InReward(Charged):
    """−β·k at every token, from the log-probs of sampling."""

    kl_estimator: Annotated[Estimator, SLOT] = field(default=K1())
    """How KL is estimated from sampled tokens."""

    def __post_init__(self) -> None:
        if isinstance(self.kl_estimator, Analytic):
            raise UserError("--kl-estimator analytic is for the loss only: use --kl loss")


@register("kl", "loss", help="a term of the loss")
@dataclass(frozen=True, kw_only=True)
class InLoss(Charged):
    """β·k beside the surrogate, with its own gradient."""

    kl_estimator: Annotated[Estimator, SLOT] = field(default=K2())
    """How KL is estimated from sampled tokens."""
    kl_corrected: bool = False
    """Weigh the estimate by π/π_old: its gradient is then that of each token's KL (k1 and k3)."""

    def __post_init__(self) -> None:
        if self.kl_corrected and not isinstance(self.kl_estimator, K1 | K3):
            raise UserError("--kl-corrected is for k1 and k3")
        if isinstance(self.kl_estimator, K1) and not self.kl_corrected:
            raise UserError(
                "k1 in the loss has no gradient in expectation; use --kl-corrected, --kl-estimator k2, k3 or "
                "analytic, or --kl reward"
            )
