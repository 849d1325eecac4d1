"""What `heedful evaluate` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Drawing
from heedful.configs.playing import PLAYED
from heedful.configs.sample import refuse_unrewarded
from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, FINITE
from heedful.tagged import ReadWith

OF_ANSWERS = ("scorer", "judge", "reference", "baseline", "overlap", "variety")  # not of episodes


@dataclass(frozen=True, kw_only=True)
class Config(Drawing):
    """Measure a language model on prompts it was not trained on."""

    out: Path
    """Folder for samples.jsonl and evaluation.json."""
    scorer: str | None = None
    """Who scores: a world (capitals, reviews), or anything that --reward takes: a verifier, a reward model,
    package.module:function."""
    judge: str | None = None
    """Who compares with --baseline: whatever `heedful judge --judge` takes. Default: the higher score wins."""
    reference: str | None = None
    """Report the KL to this model, in nats per response."""
    calibration: bool = False
    """Report whether the model knows what it knows: the probability of its answers against whether --scorer finds them
    right. Numbers in evaluation.json, pictures in calibration.html."""
    right: Annotated[float, FINITE, ReadWith("calibration")] = 0.5
    """An answer with this gold score or more is right."""
    n: Annotated[int, AT_LEAST_1, PLAYED] = 1
    """Episodes of each task, by seeds of their own."""
    success: Annotated[float, FINITE, PLAYED] = 1.0
    """An episode whose rewards sum to this or more is a success."""
    baseline: str | None = None
    """Other responses to the same prompts, such as people's, a file of samples or demonstrations: report the win rate
    against them, plain and at equal length."""
    overlap: bool = False
    """Report ROUGE and BLEU of the responses against those of --baseline; needs the extra `texts`."""
    variety: bool = False
    """Report how much responses differ from each other: distinct-n and self-BLEU; needs the extra `texts`."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_unrewarded(config)
    if config.tools and not config.reward:
        raise UserError("--tools needs --reward to say what an answer is worth")
    if config.plays and (unread := [name for name in OF_ANSWERS if getattr(config, name)]):
        raise UserError(
            f"--{unread[0]} is for single answers; what an episode is worth, --env and --reward say"
        )
    if config.calibration and config.scorer is None:
        raise UserError("--calibration needs --scorer to say which answers are right")
    if config.calibration and config.best_of:
        raise UserError(
            "--calibration is of the model's own answers; the best of several is another's: leave --best-of out"
        )
    if config.baseline and config.scorer is None and config.judge is None and not config.overlap:
        raise UserError(
            "--baseline needs --scorer or --judge to say which response is better, or --overlap"
        )
    if config.overlap and not config.baseline:
        raise UserError("--overlap needs --baseline: what people wrote in answer to the prompts")
    if config.judge and not config.baseline:
        raise UserError("--judge needs --baseline: what to compare the responses with")
