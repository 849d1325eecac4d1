"""Proof that a change changes no numbers: the metrics of one seed of every kind of training, line by line.

    python -m benchmarks.same record INPUTS OUT   # trains; INPUTS, a small world and its models, are made where absent
    python -m benchmarks.same compare OLD NEW     # exit code 1 where a metric differs by more than --within

To compare with another version of heedful, run `record` from a checkout of it, with the same INPUTS.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

from heedful.run import metrics_of

SMALL = "--hidden-size 64 --layers 2 --steps 60"
# name → the command behind `heedful`, {i} the inputs; what they have in common is in `record`.
INPUTS = {
    "world": "world capitals --documents 3000 --demonstrations 300 --out {i}/world",
    "base": f"train pretrain --data {{i}}/world/text.jsonl {SMALL} --out {{i}}/base",
    "tuned": "train sft --model {i}/base --data {i}/world/demonstrations.jsonl --lr 1e-3 --epochs 2 --out {i}/tuned",
    "samples": "sample --model {i}/tuned --data {i}/world/prompts.jsonl --n 4 --limit 120 --out {i}/samples.jsonl",
    "comparisons": "judge --data {i}/samples.jsonl --judge capitals --out {i}/comparisons.jsonl",
    "scorer": "train reward --model {i}/tuned --data {i}/comparisons.jsonl --lr 1e-3 --epochs 1 --out {i}/scorer",
}
SAMPLED = "--model {i}/tuned --data {i}/world/prompts.jsonl --reward {i}/scorer --steps 6 --lr 3e-4 --max-tokens 24"
COMPARED = "--model {i}/tuned --data {i}/comparisons.jsonl --lr 3e-4"
JOBS = {
    "sft": "sft --model {i}/base --data {i}/world/demonstrations.jsonl --lr 1e-3",
    "reward": "reward --model {i}/tuned --data {i}/comparisons.jsonl --lr 1e-3",
    "dpo": f"dpo {COMPARED}",
    "kto": f"kto {COMPARED}",
    "ppo": f"ppo {SAMPLED} --batch-size 64 --critic-learning-rate 1e-3",
    "rloo": f"rloo {SAMPLED} --batch-size 64",
    "grpo": f"grpo {SAMPLED} --batch-size 64",
    "online_dpo": f"online_dpo {SAMPLED} --batch-size 16",
}
CLOCKS = ("seconds", "tokens_per_second")  # what two runs never share


def heedful(command: str) -> None:
    """Run one command of this checkout."""
    words = [sys.executable, "-m", "heedful", *shlex.split(command)]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"HEEDFUL_CACHE": ""}
    )
    if done.returncode:
        sys.exit(f"heedful {command}\n{done.stderr}")


def record(inputs: Path, out: Path) -> None:
    """Leaves `out/JOB/metrics.jsonl` of every job."""
    if not inputs.exists():
        for command in INPUTS.values():
            heedful(
                command.format(i=inputs)
                + (
                    " --quiet"
                    if " judge " not in f" {command}" and "world" not in command[:5]
                    else ""
                )
            )
    for name, command in JOBS.items():
        heedful(f"train {command.format(i=inputs)} --quiet --report-to none --out {out / name}")


def compare(old: Path, new: Path, within: float) -> int:
    """Prints, for each job, the metric that differs most; returns how many jobs differ by more than `within`."""
    wrong = 0
    for name in JOBS:
        before, after = metrics_of(old / name), metrics_of(new / name)
        worst, where = 0.0, "nothing"
        if len(before) != len(after):
            worst, where = math.inf, f"{len(before)} lines against {len(after)}"
        for a, b in zip(before, after, strict=False):
            if set(a) != set(b):
                worst, where = math.inf, f"names {sorted(set(a) ^ set(b))}"
                break
            for key in set(a) - set(CLOCKS):
                # Relative; a difference of two numbers near 1 is no better known than 1 is.
                difference = abs(a[key] - b[key]) / max(1e-2, abs(a[key]))
                if difference > worst:
                    worst, where = difference, f"{key} of step {a['step']}: {a[key]!r}, {b[key]!r}"
        wrong += worst > within
        print(f"{name:<12} {len(before)} lines, {worst:.1e} at most ({where})")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("inputs", type=Path)
    recording.add_argument("out", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--within", type=float, default=1e-6, help="relative (default: 1e-6)")
    given = parser.parse_args()
    if given.command == "record":
        record(given.inputs.absolute(), given.out.absolute())
    else:
        sys.exit(int(bool(compare(given.old, given.new, given.within))))


if __name__ == "__main__":
    main()
