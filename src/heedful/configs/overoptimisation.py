"""What `heedful overoptimisation` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import OnBadRow, Reading, Sampled
from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, DATA, FINITE, SEED, Data, Range, alias
from heedful.tagged import refuse_numbers

OF_SAMPLING = (
    "limit",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "on_bad_row",
    "columns",
)


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Sampled):
    """How far a reward can be trusted: what best-of-n by it is worth by another score, for every n up to --n.

    Each prompt is answered --n times once; all n follow from these samples by order statistics, without bias. A page,
    overoptimisation.json and the samples are in --out; the same command goes on with samples that are there.
    """

    out: Path
    """Folder for samples.jsonl, overoptimisation.json and overoptimisation.html."""
    model: Annotated[str, alias("--model-name-or-path")] = ""
    """The language model that responds."""
    data: Annotated[Data, DATA] = ""
    """Prompts; some 50 are enough."""
    samples: Path | None = None
    """Responses that are there already, as `heedful sample --n` writes them, in place of --model and --data."""
    reward: Annotated[tuple[str, ...], alias("--reward-model-path", "--reward-funcs")]
    """The reward that is to be trusted or not: reward models, rules, verifiers, package.module:function, summed."""
    reward_weights: Annotated[tuple[float, ...], FINITE] = ()
    """Weight of each reward term; default: 1."""
    gold: str | None = None
    """What is meant, if it can be scored: a world (capitals, reviews), or whatever --reward takes."""
    watch_reward: str | None = None
    """A second reward in the place of gold, of another seed and of other raters' comparisons."""
    sweep: tuple[str, ...] = ()
    """Other rewards, fitted to fewer or more comparisons or of other sizes: how far each may be maximised, on the same
    responses, beside --reward."""
    n: Annotated[int, alias("--num-generations"), Range(2)] = 1024
    """Responses to each prompt."""
    limit: Annotated[int | None, AT_LEAST_1] = None
    """Use the first N prompts only."""
    on_bad_row: OnBadRow = "stop"
    """Rows without a prompt, too long, or without what a reward asks for: stop at the first, drop them, or cut."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--max-new-tokens"), AT_LEAST_1] = (
        48
    )
    """Longest response in tokens."""
    seed: Annotated[int, SEED] = 0
    """Seed of the sampling."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""


def unread(config: Config) -> dict[str, str]:
    """Nothing is sampled where samples are given."""
    why = "--samples brings the responses"
    return dict.fromkeys(("model", "data", "n", *OF_SAMPLING), why) if config.samples else {}


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_numbers(config)
    if config.samples is None and not (config.model and config.data):
        raise UserError("needs --model and --data, or --samples with their responses")
    if config.gold is None and config.watch_reward is None:
        raise UserError(
            "needs something to compare --reward with: --gold, or a second reward that saw other comparisons as "
            "--watch-reward"
        )
    if config.reward_weights and len(config.reward_weights) != len(config.reward):
        raise UserError(
            f"--reward has {len(config.reward)} terms but --reward-weights {len(config.reward_weights)} numbers"
        )
