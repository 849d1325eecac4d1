"""What `heedful train online_dpo` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs import preference
from heedful.configs.cluster import Clustered, refuse_cluster
from heedful.configs.common import Method, Reading
from heedful.configs.engines import Engined, refuse_engine
from heedful.configs.playing import Playing, refuse_unplayable
from heedful.configs.preference import Direct, unread
from heedful.errors import UserError
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, DATA, FINITE, HIDDEN, Data, alias
from heedful.tagged import ReadWith

__all__ = ["METHODS", "Config", "refuse_nonsense", "unread"]
METHODS = {"online_dpo": Method("judge pairs of its own samples, and learn from them", {})}


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Direct, Clustered, Engined, Playing):
    """Sample, judge and optimise on the judgments, round after round."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The policy to start from; it is the reference too, unless one is named."""
    data: Annotated[Data, DATA] = ""
    """Prompts to sample responses to; an --env may bring its own tasks."""
    eval_data: Annotated[str | None, ReadWith("reward")] = None
    """Held-out prompts from a file of their own: eval/reward is the mean reward of one response to each."""
    reward: Annotated[
        tuple[str, ...], alias("--reward-model", "--reward-model-path", "--reward-funcs")
    ] = ()
    """Rank responses by a reward, the sum of these terms: see docs/rewards.md."""
    reward_weights: Annotated[tuple[float, ...], FINITE, ReadWith("reward")] = ()
    """Weight of each reward term; default: 1."""
    judge: str | None = None
    """Rank responses by a judge: a world's simulated raters, simulated raters with package.module:function as their
    score, or llm:MODEL."""
    refresh_reference: Annotated[int, AT_LEAST_0] = 0
    """Rounds between updates of the reference to the policy (iterated DPO); 0 keeps the initial one."""
    steps: Annotated[int, alias("--max-steps"), AT_LEAST_1] = 100
    """Rounds of sampling and updating."""
    batch_size: Annotated[int, AT_LEAST_1] = 64
    """Prompts in a round."""
    n: Annotated[int, alias("--num-generations"), AT_LEAST_1] = 2
    """Responses sampled to each prompt."""
    keep: Annotated[int, AT_LEAST_0] = 0
    """Responses to keep of these by statistical rejection sampling (RSO); 0 keeps all."""
    accept_beta: Annotated[float, ABOVE_0, ReadWith("keep")] = 0.5
    """β of rejection sampling, in units of reward: a sample is accepted with probability exp((reward - best)/β)."""
    minibatch_size: Annotated[int, AT_LEAST_1] = 64
    """Pairs (or unpaired responses, or rankings) in an optimiser step."""
    inner_epochs: Annotated[int, AT_LEAST_1] = 1
    """Epochs over a round's pairs."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--max-new-tokens"), AT_LEAST_1] = (
        48
    )
    """Longest response in tokens."""
    missing_eos_penalty: Annotated[float, FINITE, ReadWith("reward")] = 1.0
    """Subtracted from the reward of a response that was truncated at max_tokens; raters see the truncated response as
    it is."""
    command: Annotated[str, HIDDEN] = "train online_dpo"


def refuse_nonsense(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    preference.refuse_nonsense(config)
    refuse_unplayable(config)
    refuse_engine(config)
    refuse_cluster(config)
    if config.plays and config.judge:
        raise UserError(
            "--judge compares single answers; episodes are ranked by --env and --reward"
        )
    if bool(config.reward or config.env) == bool(config.judge):
        raise UserError("say who judges: either --reward or --judge")
    if config.n < 2:
        raise UserError(f"--n {config.n}: comparing needs at least 2 responses to a prompt")
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: greedy responses have nothing to compare")
    if config.keep and not 2 <= config.keep <= config.n:
        raise UserError(f"--keep {config.keep}: rejection sampling keeps from 2 to --n responses")
    if config.keep and config.judge:
        raise UserError(
            "--keep needs --reward: rejection sampling needs a number for each response"
        )
    if config.refresh_reference and config.lora.rank and config.reference is None:
        raise UserError(
            "--refresh-reference renews a reference of its own; with --lora.rank it is the adapter switched off: "
            "name one with --reference"
        )
