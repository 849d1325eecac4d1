"""What `heedful train psi_learning`, `q_learning` and `g_learning` take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from heedful.configs import common as shared
from heedful.configs.common import Method, Reading, Sampled, Training
from heedful.configs.playing import Playing, refuse_unplayable
from heedful.errors import UserError
from heedful.fields import (
    ABOVE_0,
    AT_LEAST_1,
    DATA,
    FINITE,
    HIDDEN,
    SHARE,
    Data,
    Range,
    alias,
)

__all__ = ["METHODS", "Config", "refuse_nonsense"]
METHODS = {
    "psi_learning": Method("soft values of tokens under KL control (Sequence Tutor)", {"values": "psi"}),
    "g_learning": Method("the same as a correction of the prior (Sequence Tutor)", {"values": "g"}),
    "q_learning": Method("values of the best continuation by reward and prior (Sequence Tutor)", {"values": "q"}),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Training, Sampled, Playing):
    """Learn what each token is worth by reward and prior, so that the values are the policy's logits."""

    needs_reward: ClassVar[bool] = True
    model: Annotated[str, alias("--model-name-or-path")]
    """The prior, which the policy starts from."""
    values: Literal["q", "psi", "g"] = "psi"
    """Which values; the name of the command sets it."""
    reward: Annotated[tuple[str, ...], alias("--reward-model", "--reward-funcs")] = ()
    """Reward terms, which are summed; see docs/rewards.md."""
    reward_weights: Annotated[tuple[float, ...], FINITE] = ()
    """Weight of each reward term; default: 1."""
    data: Annotated[Data, DATA] = ""
    """Prompts to sample responses to; an --env may bring its own tasks."""
    eval_data: str | None = None
    """Held-out prompts from a file of their own: eval/reward is the mean reward of one response to each."""
    beta: Annotated[float, ABOVE_0] = 1.0
    """β (Sequence Tutor's c) of log p + r/β: the larger, the closer to the prior."""
    gamma: Annotated[float, SHARE] = 1.0
    """Discount of a token of the policy's; at 1 the exact solution is π* ∝ p·exp(r/β)."""
    lam: Annotated[float, alias("--lambda"), SHARE] = 0.95
    """λ of the targets: 0 looks one token ahead, 1 to the end of the response."""
    polyak: Annotated[float, Range(0, 1, above=True)] = 0.1
    """Share of the way to the values that the slow network, which targets come from, moves in an optimiser step."""
    steps: Annotated[int, alias("--max-steps"), AT_LEAST_1] = 100
    """Rounds of sampling and updating."""
    batch_size: Annotated[int, AT_LEAST_1] = 64
    """Responses sampled in a round."""
    replay: Annotated[int, AT_LEAST_1] = 8
    """Rounds whose responses are remembered and learned from; 1: the newest alone."""
    updates: Annotated[int, AT_LEAST_1] = 4
    """Optimiser steps in a round."""
    minibatch_size: Annotated[int, AT_LEAST_1] = 64
    """Responses in an optimiser step, drawn from those that are remembered."""
    missing_eos_penalty: Annotated[float, FINITE] = 1.0
    """Subtracted from the reward of a response that was truncated at max_tokens."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--max-new-tokens"), AT_LEAST_1] = (
        48
    )
    """Longest response in tokens."""
    learning_rate: float = 1e-5
    command: Annotated[str, HIDDEN] = "train psi_learning"


def refuse_nonsense(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    shared.refuse_nonsense(config)
    refuse_unplayable(config)
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: greedy responses try nothing out")
    if config.lora.rank:
        raise UserError("--lora.rank: the slow network is a copy of the whole model; leave it out")
