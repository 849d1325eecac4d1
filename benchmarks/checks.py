"""Did both sides do the same work? Sentences that say what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import floor, tools
from benchmarks.job import BLOCKS, PPO_EPOCHS, SAMPLING, TRAINING, Job

Result = dict[str, Any]
LOSS = {"float32": 1e-4, "bfloat16": 3e-2}  # relative
# Relative: the clock of `benchmarks.clock` is a coarse one in bfloat16.
SAMPLED = {"float32": 0.0, "bfloat16": 0.1}


def alone(job: Job, found: Result) -> list[str]:
    """What a side must have done whatever the other did."""
    size, wrong = job.sizes, []
    if job.task in TRAINING:
        steps, wanted = size.steps, 0
    elif job.task in SAMPLING:
        steps, wanted = size.rounds, planned(job, size.rounds)
        steps *= 2 * PPO_EPOCHS if job.task == "ppo" else 1  # policy and critic
    elif job.task == tools.NAME:
        steps, wanted = size.rounds, tools.planned(Path(job.folder), size)
        calls = found["extra"]["calls"]
        if abs(calls - tools.CALLS) > tools.ERRING:
            wrong.append(f"{calls:.3f} calls an episode where {tools.CALLS} were asked")
    else:
        steps, wanted = 0, planned(job, BLOCKS)
    if found["updates"] != steps:
        wrong.append(f"{found['updates']} optimiser steps where {steps} were asked")
    most = tools.TOLERANCE if job.task == tools.NAME else SAMPLED[job.dtype]
    if abs(found["sampled"] - wanted) > most * wanted:
        wrong.append(f"{found['sampled']} tokens were sampled where {wanted} were asked")
    return wrong


def planned(job: Job, rounds: int) -> int:
    """Tokens that the prompts of so many rounds ask for; rounds go over the prompts again and again."""
    groups = floor.groups_of(job)
    per_round = job.sizes.responses // job.sizes.group
    return sum(sum(groups[i % len(groups)][1]) for i in range(rounds * per_round))


def together(job: Job, ours: Result, theirs: Result) -> list[str]:
    """Tokens, losses and greedy responses of the two, where the algorithm is the same."""
    wrong = []
    if job.task in TRAINING:
        if ours["tokens"] != theirs["tokens"]:
            wrong.append(f"real tokens a step: heedful {ours['tokens']}, TRL {theirs['tokens']}")
        for i, (a, b) in enumerate(zip(ours["losses"], theirs["losses"], strict=False), 1):
            if abs(a - b) > LOSS[job.dtype] * abs(b):
                wrong.append(f"the loss of step {i}: heedful {a:.7g}, TRL {b:.7g}")
                break
    if job.task == "generate" and job.dtype == "float32":
        a, b = ours["extra"]["greedy"], theirs["extra"]["greedy"]
        if a != b:
            differ = sum(x != y for x, y in zip(a, b, strict=True))
            wrong.append(f"{differ} of {len(a)} greedy responses differ")
    return wrong
