"""Judging: samples → comparisons, by simulated raters with human noise, or by a language model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from heedful.data.sources import prompt_from_json, prompt_to_json, read_samples, write_rows
from heedful.errors import UserError
from heedful.raters.simulated import judge_all, panel
from heedful.recipes.config import alias
from heedful.types import Prompt, Rater
from heedful.worlds import scorer


@dataclass(frozen=True, kw_only=True)
class Config:
    """Let simulated raters, or a language model, rank the responses to each prompt."""

    data: Annotated[str, alias("--samples")]
    """Samples, several of each prompt."""
    judge: str
    """Whose taste: a world (capitals, reviews), package.module:function of (prompt, response), or llm:MODEL."""
    out: Path
    """The file of comparisons."""
    seed: int = 0
    """Seed of the raters' noise."""


def run(config: Config) -> Path:
    """Returns the path of the comparisons. Equal responses are shown once; a prompt needs two different ones."""
    raters = judges(config.judge, config.seed)
    groups: dict[str, tuple[Prompt, dict[str, None]]] = {}
    for row in read_samples(config.data):
        prompt = prompt_from_json(row["prompt"])
        key = repr(row["prompt"])
        if row["completion"].strip():
            groups.setdefault(key, (prompt, {}))[1][row["completion"]] = None
    items = [(prompt, list(texts)) for prompt, texts in groups.values() if len(texts) > 1]
    if not items:
        raise UserError(f"{config.data}: no prompt has two different responses to compare")
    rows = []
    for comparison in judge_all(raters, items):
        row = {k: v for k, v in asdict(comparison).items() if v is not None}
        rows.append(row | {"prompt": prompt_to_json(comparison.prompt)})
    write_rows(config.out, rows)
    return config.out


def judges(spec: str, seed: int) -> list[Rater]:
    """Eight simulated people with the taste of a world or a function, or the model of `llm:MODEL`."""
    if spec.startswith("llm:"):
        from heedful.raters.model import ModelJudge

        return [ModelJudge.load(spec.removeprefix("llm:"))]
    return list(panel(scorer(spec), seed))
