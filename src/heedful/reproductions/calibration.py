"""Calibration before and after reinforcement learning, and what can be repaired of it without another training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.questions import (
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
            of, repair = told[kind], told[kind]["repair"]
            found |= {
                f"{name}, {kind}: ECE": of["ece"],
                f"{name}, {kind}: ECE, its interval's lower end": of["ece_ci"][0],
                f"{name}, {kind}: ECE, its interval's upper end": of["ece_ci"][1],
                f"{name}, {kind}: AUROC": of["auroc"],
                f"{name}, {kind}: temperature": repair["temperature"],
                f"{name}, {kind}: slope": repair["slope"],
                f"{name}, {kind}: offset": repair["offset"],
                f"{name}, {kind}: ECE unrepaired": repair["ece_before"],
                f"{name}, {kind}: ECE by a temperature": repair["ece_after"],
                f"{name}, {kind}: ECE by slope and offset": repair["ece_offset"],
            }
        found |= {
            f"{name}: right": told["token"]["right"],
            f"{name}: confidence": told["token"]["confidence"],
            f"{name}, bins": [(b["confidence"], b["right"]) for b in told["token"]["bins"]],
        }
        for how in ("a temperature", "slope and offset"):
            found[f"{name}: change of ECE by {how}"] = (
                found[f"{name}, token: ECE by {how}"] - found[f"{name}, token: ECE unrepaired"]
            )
    return found | {
        f"PPO less SFT: {what}": found[f"PPO, token: {what}"] - found[f"SFT, token: {what}"]
        for what in ("ECE", "AUROC")
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
    claim="A model's probabilities are off from how often it is right, before reinforcement learning and after; two "
    "numbers that are fitted on other answers repair them, and what it is surer of is still more often right.",
    source="OpenAI 2023, GPT-4 technical report, figure 8; Kadavath et al. 2022, section 3; Guo et al. 2017; Platt "
    "1999",
    what=f"The world `capitals`: a Llama of {SMALL['layers']} layers and width {SMALL['hidden_size']}, {STEPS:,} steps "
    "of pre-training, SFT, a reward model from a noisy simulated rater's comparisons, PPO with β = 0.1. One answer to "
    "each of 400 held-out questions, by `heedful evaluate --calibration`: ECE over 15 bins of equal mass of the "
    "probability of a token (geometric mean), before and after PPO; and with what was fitted on every second answer, a "
    "temperature T (σ(log-odds / T)) or a slope a and an offset b (σ(a · log-odds + b)). Criteria are of the "
    "probability of a token; changes of ECE are of the other answers. Fourth run. The first and the second claimed "
    "that ECE rises by PPO, as GPT-4's did; the second, in this world, refuted it: from .28 to .11, on each of four "
    "seeds. So it is reported, and no criterion. It also showed that a temperature, which moves nothing across one "
    "half, leaves ECE after SFT as it is; hence slope and offset. The third run, by these criteria, was of a smaller "
    "world (24,000 documents, 800 steps) in which the SFT model knew a fifth of the answers and PPO taught it on three "
    "seeds of four to evade the questions: there ECE rose from .35 to .64 and was repaired, but AUROC fell from .90 to "
    ".45, and the run failed by that.",
    frozen="2026-11-30",
    criteria=(
        Criterion(
            "slope and offset change ECE after SFT by", "SFT: change of ECE by slope and offset", "at most", 0.0,
            "interval",
        ),
        Criterion("and after PPO by", "PPO: change of ECE by slope and offset", "at most", 0.0, "interval"),
        Criterion(
            "a temperature changes ECE after PPO by", "PPO: change of ECE by a temperature", "at most", 0.0, "interval"
        ),
        Criterion("PPO does not harm AUROC", "PPO less SFT: AUROC", "at least", -0.02, "interval"),
    ),
    run=run,
    minutes=12,
    figure=figure,
)  # fmt: skip
