"""Policy-gradient methods, composed of four parts: advantage × surrogate × KL × average.

`docs/methods/policy_gradients.md` has them as a table. `METHODS` are what `heedful train rloo` sets beyond PPO.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from heedful.configs.common import Method
from heedful.configs.tagged.advantages import Advantage, Gae, WithCritic
from heedful.configs.tagged.averages import Average, TokenMean
from heedful.configs.tagged.kl import Analytic, Charged, InLoss, InReward, Kl
from heedful.configs.tagged.surrogates import Clip, Surrogate
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, FINITE, Range, alias
from heedful.tagged import SLOT, compose, name_of


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """How rewards become advantages, and advantages a loss; how many responses a round has."""

    advantage: Annotated[Advantage, SLOT] = field(default=Gae())
    """How rewards become advantages."""
    surrogate: Annotated[Surrogate, SLOT] = field(default=Clip())
    """The surrogate loss that is differentiated."""
    average: Annotated[Average, SLOT] = field(default=TokenMean())
    """How token losses are aggregated into one number."""
    kl: Annotated[Kl, SLOT] = field(default=InReward())
    """Where the KL penalty to the reference goes."""
    whiten_rewards: bool = False
    """Scale the per-token rewards to unit variance, without moving their mean."""
    whiten_advantages: bool = True
    """Whiten advantages over a round's tokens: mean 0, variance 1."""
    missing_eos_penalty: Annotated[float, FINITE] = 1.0
    """Subtracted from the reward of a response that was truncated at max_tokens."""
    overlong: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Soft overlong punishment: over this last share of max_tokens the reward falls linearly by 1."""
    batch_size: Annotated[int, AT_LEAST_1] = 128
    """Responses sampled in a round."""
    group_size: Annotated[int, alias("--num-generations", "--rloo-k"), AT_LEAST_1] = 1
    """Responses to each prompt."""
    minibatch_size: Annotated[int, AT_LEAST_0] = 64
    """Responses in an optimiser step; 0: all of the round."""
    inner_epochs: Annotated[int, alias("--num-ppo-epochs", "--num-iterations"), AT_LEAST_1] = 4
    """PPO epochs over a round's responses."""
    dynamic_sampling: Annotated[int, AT_LEAST_0] = 0
    """DAPO's dynamic sampling: up to N more draws of prompts, to replace groups whose rewards are all equal."""

    @property
    def minibatches(self) -> int:
        """Optimiser steps in an epoch over a round's responses."""
        return -(-self.batch_size // (self.minibatch_size or self.batch_size))

    @property
    def own_critic(self) -> WithCritic | None:
        """The advantage, where its critic is a model of its own."""
        a = self.advantage
        return a if isinstance(a, WithCritic) and not a.value_head else None

    @property
    def value_head(self) -> WithCritic | None:
        """The advantage, where its critic is a head on the policy."""
        a = self.advantage
        return a if isinstance(a, WithCritic) and a.value_head else None

    @property
    def reference_every(self) -> int:
        """Rounds after which the reference moves; 0: never, or there is none."""
        return self.kl.reference_every if isinstance(self.kl, Charged) else 0

    @property
    def analytic(self) -> bool:
        """Whether the loss reads the exact KL of the next token."""
        return isinstance(self.kl, InLoss) and isinstance(self.kl.kl_estimator, Analytic)

    def policy_steps(self, rounds: int) -> int:
        """Optimiser steps that the policy takes in the first so many rounds: none while the critic warms up."""
        warmup = self.own_critic.critic_warmup if self.own_critic else 0
        return max(0, rounds - warmup) * self.inner_epochs * self.minibatches


_ON_POLICY = {"surrogate": "gradient", "inner_epochs": 1, "minibatch_size": 0}
_NO_CRITIC = {"whiten_advantages": False}
_GROUP = {**_NO_CRITIC, "inner_epochs": 1, "group_size": 8, "missing_eos_penalty": 0.0}
# Sources stand in docs/methods.
METHODS: dict[str, Method] = {
    "ppo": Method("clipped ratios and a critic", {}),
    "a2c": Method(
        "a critic, one step a round, the exact KL in the loss",
        {
            **_NO_CRITIC,
            **_ON_POLICY,
            "advantage": "n_step",
            "kl": "loss",
            "kl_estimator": "analytic",
        },
    ),
    "reinforce": Method(
        "the plain gradient with a baseline, no critic",
        {**_NO_CRITIC, **_ON_POLICY, "advantage": "return_baseline", "average": "response"},
    ),
    "importance": Method(
        "importance-weighted steps on one large round",
        {
            **_NO_CRITIC,
            "advantage": "return_baseline",
            "surrogate": "importance",
            "average": "response",
            "batch_size": 1024,
            "inner_epochs": 1,
        },
    ),
    "rloo": Method(
        "each response against the others to its prompt",
        {
            **_NO_CRITIC,
            **_ON_POLICY,
            "advantage": "leave_one_out",
            "average": "response",
            "group_size": 4,
        },
    ),
    "grpo": Method(
        "rewards standardised within each prompt's group",
        {
            **_GROUP,
            "advantage": "group_standardised",
            "average": "sequence",
            "kl": "loss",
            "kl_estimator": "k3",
            "beta": 0.04,
        },
    ),
    "dr_grpo": Method(
        "GRPO without its length and difficulty biases",
        {**_GROUP, "advantage": "group_centred", "average": "constant", "kl": "none"},
    ),
    "dapo": Method(
        "GRPO with clip-higher and dynamic sampling",
        {
            **_GROUP,
            "advantage": "group_standardised",
            "kl": "none",
            "clip_high": 0.28,
            "dynamic_sampling": 4,
            "overlong": 0.2,
        },
    ),
    "reinforce_pp": Method(
        "REINFORCE++: whitened over the round, clipped",
        {"advantage": "return", "inner_epochs": 1},
    ),
    "gspo": Method(
        "GRPO with the ratio of whole responses",
        {
            **_GROUP,
            "advantage": "group_standardised",
            "surrogate": "sequence_clip",
            "average": "sequence",
            "kl": "none",
            "clip": 3e-4,
            "clip_high": 4e-4,
        },
    ),
    "raft": Method(
        "imitate the best of each group",
        {**_GROUP, **_ON_POLICY, "advantage": "best_of_group", "kl": "none"},
    ),
}


def algorithm(method: str = "ppo", **fields: Any) -> Algorithm:
    """A method's algorithm with some flat fields changed: `algorithm("rloo", beta=0.1, group_size=8)`."""
    return compose(Algorithm, {**METHODS[method].sets, **fields}, ignore=METHODS[method].sets)


def refuse_nonsense(a: Algorithm) -> None:
    """Combinations that no run can have."""
    if a.batch_size % a.group_size:
        raise UserError(
            f"--batch-size {a.batch_size} is no multiple of --group-size {a.group_size}"
        )
    if a.advantage.needs_group and a.group_size < 2:
        raise UserError(
            f"--advantage {name_of('advantage', a.advantage)} compares responses to one prompt; --group-size must "
            "be at least 2"
        )
