"""The table: `Algorithm` has the choices, `PRESETS` the rows, which are what `heedful train rloo` sets beyond PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import arg

from heedful.errors import UserError, did_you_mean
from heedful.registry import load_function

Surrogate = Literal["clip", "gradient", "importance", "sequence_importance", "sequence_clip"]
Average = Literal["token", "response", "sequence", "constant"]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One row: how rewards become advantages, and advantages a loss."""

    advantage: str = "gae"
    """gae, n_step, return, return_baseline, leave_one_out, group_centred,
    group_standardised, best_of_group, or yours as pkg.mod:fn."""
    surrogate: Surrogate = "clip"
    """What is differentiated: clipped ratios of tokens or (GSPO) responses, plain log-probs, importance weights."""
    average: Average = "token"
    """Mean over tokens; sum over a response's tokens; mean over each response's tokens; sum divided by max_tokens."""
    kl: Literal["reward", "loss", "none"] = "reward"
    """Where KL to the reference is charged."""
    kl_estimator: Literal["k1", "k2", "k3", "analytic"] = "k1"
    """How KL is estimated from sampled tokens; analytic sums over the vocabulary and belongs into the loss."""
    kl_corrected: bool = False
    """Weigh the estimate in the loss by π/π_old: its gradient is then that of each token's KL (k1 and k3)."""
    clip: Annotated[float, arg(aliases=("--cliprange", "--epsilon"))] = 0.2
    """Ratios further below 1 than this get no gradient."""
    clip_high: Annotated[float | None, arg(aliases=("--epsilon-high",))] = None
    """Ratios further above 1 than this get no gradient; default: the same as clip."""
    truncate: float = 2.0
    """Importance weights are cut here."""
    gamma: float = 1.0
    """Discount."""
    lam: float = 0.95
    """GAE's λ."""
    n_step: int = 1000
    """Tokens after which n_step asks the critic instead of waiting for the score."""
    value_clip: Annotated[float, arg(aliases=("--cliprange-value",))] = 0.2
    """The critic's prediction may move this far in a round."""
    whiten_rewards: bool = False
    """Scale the per-token rewards to unit variance, without moving their mean."""
    whiten_advantages: bool = True
    """Give the advantages of a round's tokens mean 0 and variance 1."""
    truncated: Literal["bootstrap", "score", "mask"] = "bootstrap"
    """A cut response gets the critic's value in place of a score, or its score, or no part in the loss."""
    missing_eos_penalty: float = 1.0
    """Taken from the reward of a response that was cut at max_tokens."""
    overlong: float = 0.0
    """Over this last share of max_tokens the reward of a response falls linearly by 1."""
    batch_size: Annotated[
        int, arg(aliases=("--rollout-batch-size", "--per-device-train-batch-size"))
    ] = 128
    """Responses sampled in a round."""
    group_size: Annotated[
        int,
        arg(
            aliases=(
                "--num-generations",
                "--rloo-k",
            )
        ),
    ] = 1
    """Responses to each prompt."""
    minibatch_size: int = 64
    """Responses in an optimiser step; 0: all of the round."""
    inner_epochs: Annotated[
        int,
        arg(
            aliases=(
                "--num-ppo-epochs",
                "--num-iterations",
            )
        ),
    ] = 4
    """Passes over the sampled responses."""
    dynamic_sampling: int = 0
    """Draw up to so many times more prompts in place of those whose responses all get the same reward (DAPO)."""
    beta: Annotated[
        float,
        arg(
            aliases=(
                "--kl-coef",
                "--init-kl-coef",
            )
        ),
    ] = 0.05
    """Price of a nat of KL, in units of reward; the start value where kl_target is given."""
    kl_target: float | None = None
    """Nats per response to which β adapts; default: β stays fixed."""
    kl_horizon: int = 2000
    """Responses over which the adaptive β reacts; a shorter one overshoots, since the policy follows late."""
    reference_every: Annotated[int, arg(aliases=("--ref-model-sync-steps",))] = 0
    """Rounds after which the reference moves to the policy; 0: never."""
    reference_share: Annotated[float, arg(aliases=("--ref-model-mixup-alpha",))] = 1.0
    """How far it then moves: 1 copies the policy, less keeps an average of past policies."""
    value_head: bool = False
    """The critic is a head on the policy in place of a model of its own."""
    value_coef: Annotated[float, arg(aliases=("--vf-coef",))] = 0.1
    """Weight of the critic's loss where it is a head on the policy."""
    critic_warmup: int = 2
    """Rounds at the start in which only the critic learns, where it is a model of its own."""

    @property
    def minibatches(self) -> int:
        """Optimiser steps in an epoch over a round's responses."""
        return -(-self.batch_size // (self.minibatch_size or self.batch_size))

    @property
    def own_critic(self) -> bool:
        """Whether there is a critic that is a model of its own."""
        return self.advantage in WITH_CRITIC and not self.value_head

    def policy_steps(self, rounds: int) -> int:
        """Optimiser steps that the policy takes in the first so many rounds: none while the critic warms up."""
        learning = max(0, rounds - self.critic_warmup) if self.own_critic else rounds
        return learning * self.inner_epochs * self.minibatches


WITH_CRITIC = ("gae", "n_step")
WITH_STEPS = (*WITH_CRITIC, "return", "return_baseline")  # their tokens are worth different things
WITH_GROUP = ("leave_one_out", "group_centred", "group_standardised", "best_of_group")
ADVANTAGES = (*WITH_STEPS, *WITH_GROUP)  # their functions are those of `estimates.ADVANTAGES`

# What each command sets beyond PPO's defaults. Sources stand in docs/methods.
_NO_CRITIC: dict[str, Any] = {"whiten_advantages": False, "truncated": "score"}
_ON_POLICY: dict[str, Any] = {"surrogate": "gradient", "inner_epochs": 1, "minibatch_size": 0}
_GROUP: dict[str, Any] = {
    **_NO_CRITIC,
    "inner_epochs": 1,
    "group_size": 8,
    "missing_eos_penalty": 0.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "a2c": {
        **_ON_POLICY,
        "advantage": "n_step",
        "kl": "loss",
        "kl_estimator": "analytic",
        "whiten_advantages": False,
    },
    "reinforce": {
        **_NO_CRITIC,
        **_ON_POLICY,
        "advantage": "return_baseline",
        "average": "response",
    },
    "importance": {
        **_NO_CRITIC,
        "advantage": "return_baseline",
        "surrogate": "importance",
        "average": "response",
        "batch_size": 1024,
        "inner_epochs": 1,
    },
    "rloo": {
        **_NO_CRITIC,
        **_ON_POLICY,
        "advantage": "leave_one_out",
        "average": "response",
        "group_size": 4,
    },
    "grpo": {
        **_GROUP,
        "advantage": "group_standardised",
        "average": "sequence",
        "kl": "loss",
        "kl_estimator": "k3",
        "beta": 0.04,
    },
    "dr_grpo": {
        **_GROUP,
        "advantage": "group_centred",
        "average": "constant",
        "kl": "none",
    },
    "dapo": {
        **_GROUP,
        "advantage": "group_standardised",
        "kl": "none",
        "clip_high": 0.28,
        "dynamic_sampling": 4,
        "overlong": 0.2,
    },
    "reinforce_pp": {
        "advantage": "return",
        "truncated": "score",
        "inner_epochs": 1,
    },
    "gspo": {
        **_GROUP,
        "advantage": "group_standardised",
        "surrogate": "sequence_clip",
        "average": "sequence",
        "kl": "none",
        "clip": 3e-4,
        "clip_high": 4e-4,
    },
    "raft": {
        **_GROUP,
        **_ON_POLICY,
        "advantage": "best_of_group",
        "kl": "none",
    },
}  # fmt: skip


def unread(a: Algorithm) -> dict[str, str]:
    """Fields that nothing reads beside the other choices, and why; an advantage of the user's may read any."""
    refuse_unknown(a.advantage)
    own = ":" in a.advantage
    clips, weighs = a.surrogate.endswith("clip"), "importance" in a.surrogate
    conditions: tuple[tuple[bool, str, tuple[str, ...]], ...] = (
        (a.kl == "none", "--kl none charges no KL", ("beta", "kl_estimator")),
        (a.kl_target is None, "there is no --kl-target", ("kl_horizon",)),
        (not a.reference_every, "there is no --reference-every", ("reference_share",)),
        (not clips, f"--surrogate {a.surrogate} clips no ratio", ("clip", "clip_high")),
        (not weighs, f"--surrogate {a.surrogate} has no importance weights", ("truncate",)),
        (not own and a.advantage != "gae", f"--advantage {a.advantage} has no λ", ("lam",)),
        (not own and a.advantage != "n_step", f"--advantage is {a.advantage}", ("n_step",)),
        (
            not own and a.advantage not in WITH_STEPS,
            f"--advantage {a.advantage} takes each response as one step",
            ("gamma",),
        ),
        (
            a.advantage not in WITH_CRITIC,
            f"--advantage {a.advantage} asks no critic",
            ("value_clip",),
        ),
        (not a.own_critic, "no critic is a model of its own", ("critic_warmup",)),
        (not a.value_head, "there is no --value-head", ("value_coef",)),
    )
    return {name: why for so, why, names in conditions if so for name in names}


def refuse_unknown(advantage: str) -> None:
    """A name that is none of ours, or a `package.module:function` that is not there."""
    if ":" in advantage:
        load_function(advantage)
    elif advantage not in ADVANTAGES:
        hint = did_you_mean(advantage, ADVANTAGES)
        raise UserError(f"--advantage '{advantage}' is unknown{hint}: {', '.join(ADVANTAGES)}")


def refuse_nonsense(a: Algorithm) -> None:
    """Choices that together would train something else than what they say."""
    refuse_unknown(a.advantage)
    in_loss = a.kl == "loss"
    for wrong, sentence in (
        (
            a.kl == "reward" and a.kl_estimator == "analytic",
            "--kl-estimator analytic belongs into the loss: --kl loss",
        ),
        (
            in_loss and a.kl_estimator == "k1" and not a.kl_corrected,
            "k1 in the loss has no gradient in expectation; use --kl-corrected, --kl-estimator k2, k3 or "
            "analytic, or --kl reward",
        ),
        (
            a.kl_corrected and (not in_loss or a.kl_estimator not in ("k1", "k3")),
            "--kl-corrected is for k1 and k3 in the loss: --kl loss",
        ),
        (
            a.truncated == "bootstrap" and a.advantage not in WITH_CRITIC,
            f"--truncated bootstrap needs a critic's value, and --advantage {a.advantage} has none; use "
            "score or mask",
        ),
        (not 0 <= a.overlong < 1, "--overlong is a share of --max-tokens, below 1"),
        (a.inner_epochs < 1, "--inner-epochs must be at least 1"),
        (a.group_size < 1, "--group-size must be at least 1"),
        (a.minibatch_size < 0, "--minibatch-size must be 0 (all) or more"),
        (
            a.batch_size < 1 or a.batch_size % max(1, a.group_size) != 0,
            f"--batch-size {a.batch_size} is no multiple of --group-size {a.group_size}",
        ),
        (
            a.advantage in WITH_GROUP and a.group_size < 2,
            f"--advantage {a.advantage} compares responses to one prompt; --group-size must be at least 2",
        ),
        (
            a.kl == "none" and a.kl_target is not None,
            "--kl-target needs a KL that is charged: --kl reward or loss",
        ),
        (a.beta < 0, "--beta must be 0 or more"),
        (a.n_step < 1, "--n-step must be at least 1"),
        (a.kl_horizon < 1, "--kl-horizon must be at least 1 response"),
        (
            a.kl_target is not None and a.kl_target <= 0,
            "--kl-target must be above 0 nats per response",
        ),
        (
            a.value_head and a.advantage not in WITH_CRITIC,
            f"--value-head: --advantage {a.advantage} asks no critic",
        ),
        (
            not 0 < a.reference_share <= 1,
            "--reference-share must be above 0 and at most 1",
        ),
    ):
        if wrong:
            raise UserError(sentence)
