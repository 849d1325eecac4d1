"""What several reproductions begin with: small models of the world `capitals`, from raw text to a reward model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCUMENTS, DEMONSTRATIONS, COMPARED, RESPONSES = 60000, 4000, 2000, 6
SMALL = {"hidden_size": 80, "layers": 2, "heads": 4, "vocab_size": 1200}
STEPS, HELD_OUT = 1500, 400
BEFORE = (
    "It is the second run, by the same criteria: in the first, of a world of 24,000 documents, 1,000 steps and 800 "
    "questions, the SFT model knew a quarter of the answers, and on two seeds of four PPO taught it to say that it "
    "does not know. The size of this one is from a pilot on another seed."
)
RIGHT = ("right and short", "right but wordy")


def written(seed: int, folder: Path, quick: bool) -> None:
    """The world's files."""
    from heedful.api import run as heedful

    heedful(
        "world", name="capitals", out=folder, seed=seed, documents=400 if quick else DOCUMENTS,
        demonstrations=60 if quick else DEMONSTRATIONS,
    )  # fmt: skip


def instructed(seed: int, folder: Path, quick: bool, name: str, size: Mapping[str, Any]) -> str:
    """The folder of a model of this size that has read the raw text and learned from demonstrations."""
    from heedful.reproductions.running import trained

    base = trained(
        "pretrain", folder / f"{name}, base", seed, data=str(folder / "text.jsonl"), **size,
        steps=4 if quick else STEPS,
    )  # fmt: skip
    return trained(
        "sft", folder / name, seed, model=base, data=str(folder / "demonstrations.jsonl"), epochs=2.0,
        learning_rate=1e-3,
    )  # fmt: skip


def rewarded(seed: int, folder: Path, quick: bool, sft: str) -> str:
    """The folder of a reward model, fitted to what a noisy simulated rater says of the model's answers."""
    from heedful.api import run as heedful
    from heedful.reproductions.running import trained

    samples, compared = folder / "samples.jsonl", folder / "comparisons.jsonl"
    heedful(
        "sample", model=sft, data=str(folder / "prompts.jsonl"), n=RESPONSES, limit=20 if quick else COMPARED,
        max_tokens=32, out=samples, seed=seed, quiet=True,
    )  # fmt: skip
    heedful("judge", data=str(samples), judge="capitals", out=compared, seed=seed, quiet=True)
    return trained(
        "reward", folder / "reward", seed, model=sft, data=str(compared), epochs=2.0, learning_rate=2e-3
    )  # fmt: skip


def optimised(seed: int, folder: Path, quick: bool, name: str, model: str, reward: str) -> str:
    """The folder of a model after PPO against the reward, as the demo does it."""
    from heedful.reproductions.running import trained

    return trained(
        "ppo", folder / name, seed, model=model, reward=(reward,), data=str(folder / "prompts.jsonl"),
        steps=3 if quick else 18, inner_epochs=2, beta=0.1, learning_rate=5e-4, critic_learning_rate=1e-3,
        max_tokens=32,
    )  # fmt: skip


def evaluated(seed: int, folder: Path, quick: bool, model: str, **fields: Any) -> dict[str, Any]:
    """evaluation.json of a model's answers to held-out questions, by the world's gold score; `right` is the share of
    right ones."""
    from heedful.reproductions.running import measured

    data, limit = str(folder / "held_out.jsonl"), 60 if quick else HELD_OUT
    asked = {"data": data, "scorer": "capitals", "limit": limit, "max_tokens": 32}
    told = measured(seed, folder, model, asked, **fields)
    return {**told, "right": sum(told["voices"].get(voice, 0.0) for voice in RIGHT)}
