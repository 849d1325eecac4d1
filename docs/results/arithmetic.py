"""GRPO with a verifier on sums, differences and products: `python docs/results/arithmetic.py FOLDER [SEED …]`.

Pre-trains a small model on the world's raw text, fine-tunes it on few demonstrations, optimises it by `train grpo
--reward numeric`, and writes FOLDER/arithmetic.json: the share of right answers by level before and after, greedy,
on held-out and on training prompts, and the reward of each round of sampling.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from heedful.cli import main as heedful
from heedful.recipes.demo import machine

STEPS = 300
PROMPTS = 600  # of either split at most


def main(folder: Path, seeds: list[int]) -> None:
    """Every stage through the commands, so that an interrupted seed goes on where it stopped."""
    sums = folder / "sums"
    if not (sums / "prompts.jsonl").exists():
        run(
            *("world", "arithmetic", "--levels", 3, "--documents", 30_000),
            *("--demonstrations", 600, "--out", sums),
        )
    found = [one_seed(folder / str(seed), sums, seed) for seed in seeds]
    result = {
        "command": "python docs/results/arithmetic.py FOLDER " + " ".join(map(str, seeds)),
        "machine": machine(),
        "seeds": found,
    }
    (folder / "arithmetic.json").write_text(json.dumps(result, indent=1) + "\n")
    for one in found:
        print(one["seed"], {k: v["all"] for k, v in one["right"].items()})


def one_seed(out: Path, sums: Path, seed: int) -> dict:
    begun = time.monotonic()
    common = ("--seed", seed, "--quiet")
    run(
        *(
            "train",
            "pretrain",
            "--data",
            sums / "text.jsonl",
            "--steps",
            1500,
            "--out",
            out / "base",
        ),
        *("--hidden-size", 64, "--layers", 2, "--heads", 2, "--vocab-size", 280, *common),
    )
    run(
        *("train", "sft", "--model", out / "base", "--data", sums / "demonstrations.jsonl"),
        *("--learning-rate", 3e-4, "--out", out / "sft", *common),
    )
    run(
        *("train", "grpo", "--model", out / "sft", "--data", sums / "prompts.jsonl"),
        *("--reward", "numeric", "--steps", STEPS, "--learning-rate", 3e-4),
        *("--max-tokens", 24, "--log-every", 1, "--out", out / "grpo", *common),
    )
    lines = [json.loads(x) for x in (out / "grpo" / "metrics.jsonl").read_text().splitlines()]
    right = {
        f"{split} {name}": share(out, name, sums, split, seed)
        for split in ("held_out", "prompts")
        for name in ("sft", "grpo")
    }
    return {
        "seed": seed,
        "right": right,
        "reward": [round(line["reward"], 4) for line in lines if "reward" in line],
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }


def share(out: Path, name: str, sums: Path, split: str, seed: int) -> dict[str, float]:
    """Of right answers, by level."""
    folder = out / f"{split}-{name}"
    run(
        *("evaluate", "--model", out / name, "--data", sums / f"{split}.jsonl", "--limit", PROMPTS),
        *("--scorer", "arithmetic", "--temperature", 0, "--max-tokens", 24),
        *("--out", folder, "--seed", seed, "--quiet"),
    )
    levels = defaultdict(list)
    for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        levels["all"].append(row["gold"])
        levels[str(row["level"])].append(row["gold"])
    return {level: round(fmean(levels[level]), 4) for level in sorted(levels)}


def run(*args) -> None:
    if code := heedful([str(a) for a in args]):
        sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(s) for s in sys.argv[2:]] or [0])
