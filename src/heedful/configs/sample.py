"""What `heedful sample` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Drawing
from heedful.configs.playing import refuse_unplayable
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, FINITE, ROWS, Data, alias
from heedful.tagged import ReadWith, refuse_numbers


@dataclass(frozen=True, kw_only=True)
class Config(Drawing):
    """Sample responses from a language model, or its episodes with an environment."""

    out: Annotated[Path, ROWS]
    """The file of samples, or of transcripts where there is an --env; .jsonl or .jsonl.gz."""
    n: Annotated[int, alias("--num-generations"), AT_LEAST_1] = 1
    """Responses to each prompt, or episodes of each task."""
    at_least: Annotated[float | None, FINITE] = None
    """Filter out responses whose reward is below this: with a verifier, 1 keeps the correct ones."""
    diverse: Annotated[int, AT_LEAST_0] = 0
    """Keep this many of the --n responses, which differ: each the best of its kind by --reward, or the likeliest."""
    triplets: Annotated[Data | None, ReadWith("diverse")] = None
    """What people find alike: rows of anchor, positive (the closer one) and negative, or db:, what raters said of
    triplets. Default: texts of the same words, or of like states, are alike."""
    alike: Annotated[Literal["words", "states"], ReadWith("diverse")] = "words"
    """What texts are compared by: their words, or the mean of the --model's last hidden states."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_unrewarded(config)
    if config.best_of and config.n != 1:
        raise UserError("--best-of keeps one response a prompt; leave --n away")
    if config.diverse and (config.env or config.diverse >= config.n):
        raise UserError(
            f"--diverse {config.diverse} keeps some of --n {config.n} responses to a prompt: more --n, such as "
            f"{8 * config.diverse}, and no --env"
        )
    if config.at_least is not None and not config.reward and not config.env:
        raise UserError("--at-least needs --reward to say what a response is worth")


def refuse_unrewarded(config: Drawing) -> None:
    """Numbers that nobody can mean, and options about rewards where there is no reward."""
    refuse_numbers(config)
    refuse_unplayable(config)
    if config.context is not None and config.env:
        raise UserError("--context stands before prompts; an environment opens its episodes itself")
    if config.best_of and not config.reward and not config.env:
        raise UserError("--best-of needs --reward to say which response is the best")
    if config.reward_weights and not config.reward:
        raise UserError("--reward-weights needs --reward")
