"""What `heedful train ppo` takes, and its kin; `PRESETS` are the methods of `configs.algorithm`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from heedful.configs import algorithm as rows
from heedful.configs import common as shared
from heedful.configs.algorithm import PRESETS, Algorithm
from heedful.configs.common import Sampled, Training, alias
from heedful.errors import UserError

__all__ = ["PRESETS", "Config", "Mix", "refuse_nonsense", "unread"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Text or demonstrations whose likelihood is kept up while the policy is optimised."""

    data: str | None = None
    """Texts (rows with `text`: every token counts) or demonstrations (the responses count)."""
    coef: float = 1.0
    """Weight of its mean loss per token."""
    batch_size: int = 16
    """Its rows in an optimiser step."""
    max_length: int = 256
    """Longest row in tokens; texts are cut there."""


@dataclass(frozen=True, kw_only=True)
class Config(Training, Algorithm, Sampled):
    """Optimise a language model against a reward."""

    model: Annotated[str, alias("--model-name-or-path", "--sft-model-path")]
    """The policy to start from; it is the reference too, unless one is named."""
    reward: Annotated[
        tuple[str, ...], alias("--reward-model", "--reward-model-path", "--reward-funcs")
    ]
    """Parts of the reward: reward models, rules, verifiers, package.module:function; see docs/rewards.md."""
    reward_weights: tuple[float, ...] = ()
    """A weight for each part; default: 1."""
    normalise_rewards: bool = False
    """Divide each part by its running standard deviation before they are weighed."""
    data: Annotated[str, alias("--dataset-name")]
    """Prompts to respond to."""
    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    critic: str | None = None
    """What the critic starts from; default: the reward model if it shares the tokenizer, else the policy."""
    steps: Annotated[int, alias("--max-steps", "--num-ppo-steps")] = 100
    """Rounds of sampling and updating."""
    critic_learning_rate: float = 1e-5
    """Peak learning rate of the critic."""
    ptx: Mix = field(default_factory=Mix)
    """A supervised loss beside the reward (PPO-ptx)."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--response-length")] = 48
    """Longest response in tokens."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6
    schedule: Annotated[Literal["constant", "linear", "cosine"], alias("--lr-scheduler-type")] = (
        "linear"
    )


def unread(config: Config) -> dict[str, str]:
    """Fields that nothing reads beside the others, and why."""
    found = rows.unread(config)
    if (why := found.get("critic_warmup")) is not None:
        found["critic_learning_rate"] = why
    return found


def refuse_nonsense(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    shared.refuse_nonsense(config)
    rows.refuse_nonsense(config)
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: greedy responses have nothing to compare")
    if config.steps < 1 or config.max_tokens < 1:
        raise UserError("--steps and --max-tokens must be at least 1")
    if config.kl == "none" and (config.reference or config.reference_every):
        raise UserError(
            "--reference is not asked with --kl none; charge it in the reward or the loss"
        )
    if config.dynamic_sampling and config.normalise_rewards:
        raise UserError(
            "--normalise-rewards would give each draw of --dynamic-sampling another scale; use one of them"
        )
    if config.reference_every and config.lora.rank and config.reference is None:
        raise UserError(
            "--reference-every moves a reference of its own; with --lora.rank it is the adapter switched off: "
            "name one with --reference"
        )
    if config.critic is not None and not config.own_critic:
        why = (
            "--value-head is one already" if config.value_head else f"{config.advantage} asks none"
        )
        raise UserError(f"--critic: {why}")
