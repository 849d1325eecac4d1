"""What `heedful iterate` takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Lora
from heedful.configs.optimise import Optimise, check, learns_from_comparisons
from heedful.configs.playing import PLAYED, Playing, refuse_unasked, refuse_unplayable
from heedful.errors import UserError
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SEED, SHARE, Range, alias
from heedful.tagged import refuse_numbers

PEOPLE = "people"
# When to stop, what is waited for, and where things are: these may differ when the loop goes on.
FREE = ("rounds", "answers", "wait", "poll_seconds", "workspace", "quiet", "device")
ROWS = ("prompts", "held_out", "keep")  # may be added to and mended
INPUTS = (*ROWS, "model", "raters", "scorer")  # may name files


@dataclass(frozen=True, kw_only=True)
class Refit:
    """How the reward model is refitted in each round, to all comparisons so far."""

    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    """The likelihood of a ranking."""
    epochs: Annotated[float, ABOVE_0] = 1.0
    """Epochs over the comparisons."""
    learning_rate: Annotated[float, AT_LEAST_0] = 1e-5
    """Peak learning rate."""
    batch_size: Annotated[int, AT_LEAST_1] = 16
    """Comparisons in an optimiser step."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What of a round's responses is asked about, as the reward model of the round before is unsure of it."""

    strategy: Literal["all", "random", "bald", "disagreement", "double_thompson"] = "all"
    """All responses of every prompt; or one pair of a prompt's, by chance or the most telling (heedful choose). In the
    first round, where there is no reward model yet, chance chooses."""
    number: Annotated[int, AT_LEAST_0] = 0
    """Questions of a round, those of the prompts that tell most; 0: one of every prompt."""
    uniform: Annotated[float, SHARE] = 0.15
    """Share of the questions that are drawn by chance all the same: to measure by, without bias."""


@dataclass(frozen=True, kw_only=True)
class Config(Playing):
    """Iterate: sample, collect comparisons from raters, refit the reward model and optimise the policy, round after
    round."""

    model: str
    """The policy of the first round, mostly an SFT model."""
    prompts: str = ""
    """Prompts to ask about; each round takes the next ones. An --env may bring its own tasks."""
    out: Path
    """Folder of the rounds; in a workspace's runs/ the lead can watch them."""
    workspace: Path = Path(".")
    """The workspace whose raters answer."""
    project: str = "default"
    """The project in it; made if it is not there."""
    judged: Annotated[Literal["turn", "episode"], PLAYED] = "episode"
    """What raters compare and the reward model scores with an --env: whole episodes, since single turns answer
    different conversations."""
    rounds: Annotated[int, AT_LEAST_1] = 2
    """Number of rounds."""
    prompts_per_round: Annotated[int, AT_LEAST_1] = 100
    """Prompts in a round."""
    responses: Annotated[int, Range(2)] = 2
    """Responses to each prompt: two make a pair, more a ranking."""
    ask: Ask = field(default_factory=Ask)
    """What to ask next."""
    overlap: Annotated[int, AT_LEAST_1] = 1
    """Raters per question."""
    answers: Annotated[int, AT_LEAST_0] = 0
    """Go on after so many answers of a round; 0 waits for all."""
    raters: tuple[str, ...] = (PEOPLE,)
    """Who answers, taking turns over the questions: people, a world's simulated raters (capitals), llm:MODEL."""
    keep: tuple[str, ...] = ()
    """Earlier comparisons to learn from as well: files, or db:WORKSPACE#PROJECT. A judgment counts once."""
    held_out: str | None = None
    """Held-out prompts for the evaluation after each round."""
    scorer: str | None = None
    """Gold scorer of that evaluation: a world or package.module:function."""
    weights: Literal["equal", "raters"] = "equal"
    """What each comparison counts in both: equal, or by how far its rater can be relied on, as the round's fit to all
    comparisons so far has it."""
    reward: Refit = field(default_factory=Refit)
    """The reward model."""
    optimise: Optimise = field(default_factory=Optimise)
    """The policy."""
    max_tokens: Annotated[int, alias("--max-completion-length"), AT_LEAST_1] = 48
    """Longest response in tokens."""
    temperature: Annotated[float, ABOVE_0] = 1.0
    """Of sampling."""
    poll_seconds: Annotated[float, ABOVE_0] = 2.0
    """How often to look for new answers."""
    wait: bool = True
    """Wait for people; --no-wait ends at once where answers are missing, and says how many."""
    lora: Lora = field(default_factory=Lora)
    """LoRA adapters in place of full fine-tuning, for the reward model and the policy; both continue from round to
    round."""
    resume: bool = False
    """Go on although settings are others than it was begun with: what is done stays, what comes next is done as they
    say. The same command goes on by itself."""
    seed: Annotated[int, SEED] = 0
    """Seed of everything random."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of progress bars."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is read or anybody is asked."""
    refuse_numbers(config)
    refuse_unplayable(config)
    refuse_unasked(config)
    check(config.optimise)
    if config.plays and config.judged != "episode":
        raise UserError("--judged turn: turns of different conversations cannot be compared")
    if config.plays and learns_from_comparisons(config.optimise):
        raise UserError(
            f"optimise.method {config.optimise.method} learns from the texts that were compared, and so would learn to "
            "write what tools and environments said; take one that plays against the reward model: grpo, rloo, ppo"
        )
    if config.plays and config.scorer:
        raise UserError("--scorer is for single answers; what an episode is worth, its --env says")
    if config.ask.strategy == "all" and config.ask.number:
        raise UserError(
            "--ask.number needs an --ask.strategy: bald, disagreement, double_thompson or random"
        )
    if config.ask.number > config.prompts_per_round:
        raise UserError(
            f"--ask.number {config.ask.number}: one question of a prompt is asked, and a round has "
            f"{config.prompts_per_round} prompts (--prompts-per-round)"
        )
    if not config.raters:
        raise UserError("raters is empty; name people, capitals or llm:MODEL")
    if (
        config.seed + 1000 * config.rounds > SEED.high
    ):  # as the rounds draw, and the workspace keeps it
        raise UserError(f"--seed {config.seed} is too large: each round adds 1000 to it")
