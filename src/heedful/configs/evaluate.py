"""What `heedful evaluate` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heedful.configs.common import Drawing
from heedful.configs.sample import refuse_unrewarded
from heedful.errors import UserError


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
    baseline: str | None = None
    """Other responses to the same prompts, a file of samples or demonstrations: report the win rate against them."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_unrewarded(config)
    if config.baseline and config.scorer is None and config.judge is None:
        raise UserError("--baseline needs --scorer or --judge to say which response is better")
    if config.judge and not config.baseline:
        raise UserError("--judge needs --baseline: what to compare the responses with")
