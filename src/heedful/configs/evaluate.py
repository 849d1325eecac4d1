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
    """Gold scorer: a world (capitals, reviews) or package.module:function of (prompt, response)."""
    reference: str | None = None
    """Report the KL to this model, in nats per response."""
    baseline: str | None = None
    """The samples.jsonl of another evaluation on the same prompts: report the win rate against it."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_unrewarded(config)
    if config.baseline and config.scorer is None:
        raise UserError("--baseline needs --scorer to say which response is better")
