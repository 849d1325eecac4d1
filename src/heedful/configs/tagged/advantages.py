"""How rewards become advantages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SHARE, alias
from heedful.registry import register
from heedful.tagged import ReadWith

if TYPE_CHECKING:
    from torch import Tensor

    from heedful.types import Rewarded


@dataclass(frozen=True, kw_only=True)
class Advantage:
    """How the rewards of a round become the advantages of its tokens: of `Rewarded`, `[B, T]`."""

    needs_critic: ClassVar[bool] = False
    needs_group: ClassVar[bool] = False  # several responses to each prompt
    truncated: Literal["score", "mask"] = "score"
    """A response that was truncated at max_tokens gets its score, or no part in the loss."""
    credit: Literal["token", "turn", "episode"] = "token"
    """Of episodes with rewards in several turns: each token is given what comes behind it, each turn what comes from
    it on, or the whole episode all of it."""

    def __call__(self, x: Rewarded) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WithCritic(Advantage):
    """Advantages that ask a critic for the value of every token."""

    needs_critic: ClassVar[bool] = True
    truncated: Literal["bootstrap", "score", "mask"] = "bootstrap"  # type: ignore[assignment]
    """A response that was truncated at max_tokens gets the critic's value in place of a score, its score, or no part
    in the loss."""
    credit: Literal["token", "episode"] = "token"  # type: ignore[assignment]
    """Rewards of an episode's turns fall where they are given, or all at its end."""
    value_clip: Annotated[float, alias("--cliprange-value"), ABOVE_0] = 0.2
    """Clip range of the critic's predictions in a round."""
    value_head: bool = False
    """A value head on the policy in place of a separate critic."""
    value_coef: Annotated[float, alias("--vf-coef"), AT_LEAST_0, ReadWith("value_head")] = 0.1
    """Coefficient of the value loss where there is a value head."""
    critic: Annotated[str | None, ReadWith("value_head", unset=True)] = None
    """Model from which the critic is initialised; default: the reward model if it shares the tokenizer, else the
    policy."""
    critic_learning_rate: Annotated[float, AT_LEAST_0, ReadWith("value_head", unset=True)] = 1e-5
    """Peak learning rate of the critic."""
    critic_warmup: Annotated[int, AT_LEAST_0, ReadWith("value_head", unset=True)] = 2
    """Warm-up rounds in which only the critic is trained."""


@register(
    "advantage", "gae", help="TD errors, weighted by λ", source="Schulman et al. 2016, eq. 16"
)
@dataclass(frozen=True, kw_only=True)
class Gae(WithCritic):
    """Generalised advantage estimation."""

    gamma: Annotated[float, SHARE] = 1.0
    """Discount."""
    lam: Annotated[float, SHARE] = 0.95
    """GAE's λ."""

    def __call__(self, x: Rewarded) -> Tensor:
        from heedful.losses.advantages import gae

        return gae(x.rewards, x.values, x.mask, x.bootstrap, self.gamma, self.lam)


@register("advantage", "n_step", help="n rewards, then the critic", source="Mnih et al. 2016")
@dataclass(frozen=True, kw_only=True)
class NStep(WithCritic):
    """n-step returns less the critic's value."""

    n_step: Annotated[int, AT_LEAST_1] = 1000
    """Rewards to sum before bootstrapping from the critic."""
    gamma: Annotated[float, SHARE] = 1.0
    """Discount."""

    def __call__(self, x: Rewarded) -> Tensor:
        from heedful.losses.advantages import n_step

        return n_step(x.rewards, x.values, x.mask, x.bootstrap, self.n_step, self.gamma)


def _returns(a: Advantage, x: Rewarded, gamma: float) -> Tensor:
    """What comes behind each token, or from its turn on."""
    from heedful.losses.advantages import rewards_to_go, turn_returns

    function = turn_returns if a.credit == "turn" else rewards_to_go
    return function(x.rewards, x.mask, gamma)


@register("advantage", "return", help="the rewards still to come")
@dataclass(frozen=True, kw_only=True)
class Return(Advantage):
    """Rewards to go."""

    gamma: Annotated[float, SHARE] = 1.0
    """Discount."""

    def __call__(self, x: Rewarded) -> Tensor:
        return _returns(self, x, self.gamma)


@register(
    "advantage", "return_baseline", help="less the mean return of the round's other responses"
)
@dataclass(frozen=True, kw_only=True)
class ReturnBaseline(Advantage):
    """Rewards to go less the mean return of the *other* responses of the round, whatever their prompt."""

    gamma: Annotated[float, SHARE] = 1.0
    """Discount."""

    def __call__(self, x: Rewarded) -> Tensor:
        from heedful.losses.advantages import leave_one_out

        total = (x.rewards * x.mask).sum(1)
        baseline = total - leave_one_out(total, x.group.new_zeros(len(x.group)))
        return (_returns(self, x, self.gamma) - baseline[:, None]) * x.mask


@dataclass(frozen=True, kw_only=True)
class OfGroup(Advantage):
    """An advantage of the whole response, from the returns of its group, given to each of its tokens; or of each turn,
    from what comes from it on."""

    needs_group: ClassVar[bool] = True
    function: ClassVar[str]
    credit: Literal["episode", "turn"] = "episode"  # type: ignore[assignment]
    """Whole episodes of a group are compared, or their turns, the first with the first, by what comes from there on."""

    def __call__(self, x: Rewarded) -> Tensor:
        from heedful.losses import advantages

        total = (x.rewards * x.mask).sum(1)
        function = getattr(advantages, self.function)
        if self.credit == "turn":
            return advantages.by_turn(function, x.rewards, x.mask, x.group)
        return advantages.by_episode(function, total, x.group, x.episode)[:, None] * x.mask


@register(
    "advantage",
    "leave_one_out",
    help="less the mean of the group's others",
    source="Ahmadian et al. 2024",
)
@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(OfGroup):
    """RLOO."""

    function: ClassVar[str] = "leave_one_out"


@register("advantage", "group_centred", help="less the group's mean", source="Liu et al. 2025")
@dataclass(frozen=True, kw_only=True)
class GroupCentred(OfGroup):
    """Dr. GRPO."""

    function: ClassVar[str] = "group_centred"


@register(
    "advantage",
    "group_standardised",
    help="by the group's spread, too",
    source="Shao et al. 2024, §4.1.2",
)
@dataclass(frozen=True, kw_only=True)
class GroupStandardised(OfGroup):
    """GRPO."""

    function: ClassVar[str] = "group_standardised"


@register(
    "advantage",
    "best_of_group",
    help="1 for the group's best, 0 for the others",
    source="Dong et al. 2023",
)
@dataclass(frozen=True, kw_only=True)
class BestOfGroup(OfGroup):
    """RAFT."""

    function: ClassVar[str] = "best_of_group"
