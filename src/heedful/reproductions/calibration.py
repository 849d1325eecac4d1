"""Calibration before and after reinforcement learning, and what a temperature repairs of it."""

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

MODELS = ("SFT", "PPO")
RIGHT = 0.9  # gold of a right answer, wordy or not


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Confidence is the probability of a token of the answer, on average, under the policy that gave it."""
    written(seed, folder, quick)
    sft = instructed(seed, folder, quick, "SFT", SMALL)
    ppo = optimised(seed, folder, quick, "PPO", sft, rewarded(seed, folder, quick, sft))
    found: dict[str, Any] = {}
    for name, model in zip(MODELS, (sft, ppo), strict=True):
        told = evaluated(seed, folder, quick, model, calibration=True, right=RIGHT)["calibration"]
        for kind in ("token", "answer"):
            of = told[kind]
            found |= {
                f"{name}, {kind}: ECE": of["ece"],
                f"{name}, {kind}: AUROC": of["auroc"],
                f"{name}, {kind}: temperature": of["repair"]["temperature"],
                f"{name}, {kind}: ECE unrepaired": of["repair"]["ece_before"],
                f"{name}, {kind}: ECE repaired": of["repair"]["ece_after"],
            }
        found |= {
            f"{name}: right": told["token"]["right"],
            f"{name}: confidence": told["token"]["confidence"],
            f"{name}, bins": [(b["confidence"], b["right"]) for b in told["token"]["bins"]],
        }
    return found | {
        "PPO less SFT: ECE": found["PPO, token: ECE"] - found["SFT, token: ECE"],
        "repaired less unrepaired: ECE of PPO": found["PPO, token: ECE repaired"]
        - found["PPO, token: ECE unrepaired"],
    }


def figure(seeds: Sequence[Result]) -> Figure:
    """The first seed's reliability diagrams."""
    lines = {name: [tuple(b) for b in seeds[0][f"{name}, bins"]] for name in MODELS}
    return Figure(
        title="Reliability of the probability of a token, seed 0",
        x="confidence",
        y="share of right answers",
        lines={"calibrated": [(0.0, 0.0), (1.0, 1.0)], **lines},
    )


REPRODUCTION = Reproduction(
    name="calibration",
    claim="Reinforcement learning makes a model surer than it is right; a temperature that is fitted on other answers "
    "repairs it.",
    source="OpenAI 2023, GPT-4 technical report, figure 8; Kadavath et al. 2022, section 3; Guo et al. 2017",
    what=f"The world `capitals`: a Llama of {SMALL['layers']} layers and width {SMALL['hidden_size']}, {STEPS:,} steps "
    "of pre-training, SFT, a reward model from a noisy simulated rater's comparisons, PPO with β = 0.1. One answer to "
    "each of 400 held-out questions, by `heedful evaluate --calibration`: ECE over 15 bins of equal mass of the "
    "probability of a token (geometric mean), before and after PPO, and with the temperature that was fitted on every "
    "second answer. " + BEFORE,
    frozen="2026-11-30",
    criteria=(
        Criterion("ECE rises by PPO", "PPO less SFT: ECE", "at least", 0.0, "interval"),
        Criterion(
            "and falls by a temperature", "repaired less unrepaired: ECE of PPO", "at most", 0.0, "interval"
        ),
    ),
    run=run,
    minutes=8,
    figure=figure,
)  # fmt: skip
