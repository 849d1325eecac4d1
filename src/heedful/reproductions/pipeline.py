"""The whole pipeline: RLHF against its own SFT model, and a small model by RLHF against SFT of ten times its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.questions import (
    BEFORE,
    SMALL,
    STEPS,
    evaluated,
    instructed,
    optimised,
    rewarded,
    written,
)

LARGE = {"hidden_size": 224, "layers": 4, "heads": 4, "vocab_size": 1200}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """PPO of the small model by its own reward model; both it and its SFT model against the large SFT model."""
    written(seed, folder, quick)
    sft = instructed(seed, folder, quick, "SFT", SMALL)
    large = instructed(seed, folder, quick, "large SFT", LARGE)
    ppo = optimised(seed, folder, quick, "PPO", sft, rewarded(seed, folder, quick, sft))
    return compared(partial(evaluated, seed, folder, quick), folder, sft, large, ppo)


def compared(
    evaluate: Callable[..., dict[str, Any]], folder: Path, sft: str, large: str, ppo: str
) -> Result:
    """The model after PPO against the two SFT models, by `evaluate(model, **fields)`, which keeps what each answers in
    `eval/NAME` of the folder."""
    theirs = {name: evaluate(model) for name, model in (("SFT", sft), ("large SFT", large))}
    against = {name: str(folder / "eval" / name / "samples.jsonl") for name in theirs}
    ours = evaluate(ppo, reference=sft, baseline=against["SFT"])
    beside = evaluate(ppo, baseline=against["large SFT"])
    found: dict[str, Any] = {
        "win rate against its SFT": ours["win_rate"],
        "lower end of its interval": ours["win_rate_ci"][0],
        "win rate at equal length": ours["win_rate_length_controlled"],
        "KL": ours["kl"],
        "win rate against the large SFT": beside["win_rate"],
        "times the size": parameters(large) / parameters(sft),
    }
    for name, told in {**theirs, "PPO": ours}.items():
        shares = ("gold", "right", "positive")
        found |= {f"{name}: {key}": told[key] for key in shares if key in told}
    return found


def criteria(asked: str) -> tuple[Criterion, ...]:
    """What `compared` has to show, over what was `asked`."""
    return (
        Criterion(
            f"win rate against its SFT, interval over {asked}", "lower end of its interval", "at least", 0.6,
            "every seed",
        ),
        Criterion("KL, nats an answer", "KL", "at most", 10.0, "every seed"),
        Criterion("the large model is ten times as large", "times the size", "at least", 10.0, "every seed"),
        Criterion(
            "win rate against the large SFT", "win rate against the large SFT", "at least", 0.5, "interval"
        ),
    )  # fmt: skip


def parameters(folder: str) -> int:
    """How many a model has."""
    from heedful.models.load import load_policy

    return sum(p.numel() for p in load_policy(folder).parameters())


def figure(seeds: Sequence[Result]) -> Figure:
    """Win rates against KL, a point for each seed."""
    names = ("win rate against its SFT", "win rate against the large SFT")
    return Figure(
        title="PPO of the small model, on held-out questions",
        x="KL to its SFT model, nats an answer",
        y="win rate",
        lines={name: [(s["KL"], s[name]) for s in seeds] for name in names},
    )


REPRODUCTION = Reproduction(
    name="pipeline",
    claim="RLHF makes people prefer a model's answers to those of its own SFT model, and a small model's to those of "
    "an SFT model of more than ten times its size.",
    source="Ouyang et al. 2022, figure 1 (1.3B parameters against 175B); Stiennon et al. 2020, figure 1",
    what=f"The world `capitals`: Llamas of {SMALL['layers']} layers and width {SMALL['hidden_size']} and of "
    f"{LARGE['layers']} and {LARGE['hidden_size']}, {STEPS:,} steps of pre-training and SFT each; a reward model from "
    "a noisy simulated rater's comparisons of the small model's answers, and PPO of the small model with β = 0.1. Wins "
    "by the world's gold score on 400 held-out questions, ties ½. "
    + BEFORE,
    frozen="2026-11-30",
    criteria=criteria("questions"),
    run=run,
    minutes=16,
    figure=figure,
)  # fmt: skip
