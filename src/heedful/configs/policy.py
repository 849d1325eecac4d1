"""What `heedful train ppo` and the other policy-gradient methods take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from heedful.configs import algorithm
from heedful.configs import common as shared
from heedful.configs.algorithm import METHODS, Algorithm
from heedful.configs.cluster import Paced, refuse_cluster
from heedful.configs.common import Reading, Sharded
from heedful.configs.engines import Corrected, refuse_engine
from heedful.configs.playing import Playing, refuse_unplayable
from heedful.configs.tagged.kl import Charged
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, DATA, FINITE, HIDDEN, Data, Range, alias

__all__ = ["METHODS", "Config", "Mix", "refuse_nonsense"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """PPO-ptx: the pretraining loss on text or demonstrations, mixed into the policy's updates."""

    data: str | None = None
    """Texts (rows with `text`: loss on every token) or demonstrations (loss on the completions)."""
    coef: Annotated[float, AT_LEAST_0] = 1.0
    """Coefficient γ of its mean loss per token."""
    batch_size: Annotated[int, AT_LEAST_1] = 16
    """Its rows in an optimiser step."""
    max_length: Annotated[int, Range(2)] = 256
    """Longest row in tokens; texts are truncated to it."""


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Sharded, Paced, Algorithm, Corrected, Playing):
    """Optimise a language model against a reward, or in an environment."""

    needs_reward: ClassVar[bool] = True
    model: Annotated[str, alias("--model-name-or-path", "--sft-model-path")]
    """The policy to start from; it is the reference too, unless one is named."""
    reward: Annotated[
        tuple[str, ...], alias("--reward-model", "--reward-model-path", "--reward-funcs")
    ] = ()
    """Reward terms, which are summed: reward models, rules, verifiers, package.module:function; see docs/rewards.md.
    Beside --env they judge the last turn, and come on top of what the environment gives."""
    reward_weights: Annotated[tuple[float, ...], FINITE] = ()
    """Weight of each reward term; default: 1."""
    normalise_rewards: Annotated[bool, alias("--normalize-rewards")] = False
    """Divide each reward term by its running standard deviation before weighting."""
    watch_reward: tuple[str, ...] = ()
    """Rewards that only watch: a second reward model, a verifier, a judge. Logged as watch/NAME; an alarm tells when
    the reward rises and they fall, and the model from before is kept in OUT/best_watched."""
    data: Annotated[Data, DATA] = ""
    """Prompts to sample responses to; an --env may bring its own tasks."""
    eval_data: str | None = None
    """Held-out prompts from a file of their own: eval/reward is the mean reward of one response to each."""
    steps: Annotated[int, alias("--max-steps", "--num-ppo-steps"), AT_LEAST_1] = 100
    """Rounds of sampling and updating."""
    ptx: Mix = field(default_factory=Mix)
    """PPO-ptx: a supervised loss beside the reward."""
    max_tokens: Annotated[
        int, alias("--max-completion-length", "--response-length", "--max-new-tokens"), AT_LEAST_1
    ] = 48
    """Longest response in tokens."""
    learning_rate: float = 1e-6
    command: Annotated[str, HIDDEN] = "train ppo"


def refuse_nonsense(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    shared.refuse_nonsense(config)
    refuse_unplayable(config)
    refuse_cluster(config)
    algorithm.refuse_nonsense(config)
    refuse_engine(config)
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: greedy responses have nothing to compare")
    if config.dynamic_sampling and config.normalise_rewards:
        raise UserError(
            "--normalise-rewards would give each draw of --dynamic-sampling another scale; use one of them"
        )
    if config.shard and config.reference_every:
        raise UserError("--shard does not go with --reference-every; leave one of them out")
    shares = isinstance(config.kl, Charged) and config.kl.reference is None
    if config.reference_every and config.lora.rank and shares:
        raise UserError(
            "--reference-every moves a reference of its own; with --lora.rank it is the adapter switched off: "
            "name one with --reference"
        )
