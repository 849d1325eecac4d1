"""Reinforcement learning is the cherry: without a model that can speak it finds nothing to reward."""

from __future__ import annotations

from collections.abc import Sequence
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

ARMS = ("from random weights", "from the prior")


def run(seed: int, folder: Path, quick: bool) -> Result:
    """The same PPO against the same reward model, from a model that has learned to answer and from the same model with
    random weights."""
    written(seed, folder, quick)
    sft = instructed(seed, folder, quick, "SFT", SMALL)
    reward = rewarded(seed, folder, quick, sft)
    found: dict[str, Any] = {}
    for arm, start in zip(ARMS, (forgotten(seed, folder, sft), sft), strict=True):
        before = evaluated(seed, folder, quick, start)
        after = evaluated(
            seed, folder, quick, optimised(seed, folder, quick, f"PPO {arm}", start, reward)
        )
        found |= {
            f"{arm}: right before": before["right"],
            f"{arm}: right": after["right"],
            f"{arm}: gold": after["gold"],
            f"{arm}: gain of gold": after["gold"] - before["gold"],
        }
    return found


def forgotten(seed: int, folder: Path, sft: str) -> str:
    """A model of the same size and tokenizer with random weights."""
    from heedful.models.load import load_tokenizer
    from heedful.models.new import new_model
    from heedful.models.save import save_model

    out, tokenizer = folder / "random", load_tokenizer(sft)
    sizes = {name: value for name, value in SMALL.items() if name != "vocab_size"}
    out.mkdir(exist_ok=True)
    save_model(new_model("llama", tokenizer, **sizes, context=256, seed=seed), tokenizer, out)
    return str(out)


def figure(seeds: Sequence[Result]) -> Figure:
    """The share of right answers before and after."""
    return Figure(
        title="Right answers to held-out questions, before PPO and after it",
        x="0: before, 1: after",
        y="share of right answers",
        lines={
            arm: [
                (float(k), sum(s[f"{arm}: {name}"] for s in seeds) / len(seeds))
                for k, name in enumerate(("right before", "right"))
            ]
            for arm in ARMS
        },
    )


REPRODUCTION = Reproduction(
    name="from-scratch",
    claim="Reinforcement learning from human feedback rests on what a model has learned from text before: from random "
    "weights it does not get off the ground, from the prior it does.",
    source="Ziegler et al. 2019, section 1, and Ouyang et al. 2022, who begin with pre-trained models",
    what=f"The world `capitals`: a Llama of {SMALL['layers']} layers and width {SMALL['hidden_size']}, {STEPS:,} steps "
    "of pre-training, SFT, a reward model from a noisy simulated rater's comparisons, and PPO with β = 0.1; the same "
    "PPO with the same reward from random weights. Gold and right answers on held-out questions. "
    + BEFORE,
    frozen="2026-11-30",
    criteria=(
        Criterion("right answers from random weights", "from random weights: right", "at most", 0.05, "every seed"),
        Criterion("gain of gold from the prior", "from the prior: gain of gold", "at least", 0.0, "interval"),
        Criterion("right answers from the prior", "from the prior: right", "at least", 0.25, "every seed"),
    ),
    run=run,
    minutes=8,
    figure=figure,
)  # fmt: skip
