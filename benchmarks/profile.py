"""`python -m benchmarks.profile [--size small] [--task dpo]`: what an optimiser step does with its time.

Operations of PyTorch by kind, as its profiler counts them: the products of layers and output layer, attention, the
passes over logits, norms, gates, what else; the rest of the step is Python. Batches are those of `benchmarks.ways`.
Prints the rows of a table, in milliseconds a step and shares of it; the profiler itself makes a step of many small
operations some per cent longer. A last line tells the step without it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from benchmarks.inputs import SIZES
from benchmarks.ways import batch, learner

PRODUCTS = (
    "aten::mm",
    "aten::addmm",
    "aten::addmm_",
    "aten::linear",
    "aten::bmm",
    "aten::baddbmm",
)
# Functions with a backward pass of their own, and what happens inside them.
INSIDE = {
    "_Attend": "attention",
    "LinearLogps": "output layer",
    "_Norm": "norms",
    "_Gated": "gates",
    "Optimizer.step": "optimiser",
}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    p.add_argument("--size", choices=list(SIZES), default="tiny")
    p.add_argument("--task", choices=["sft", "dpo"], default="sft")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    p.add_argument("--batches", type=int, default=8)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = p.parse_args(argv)
    import torch
    from torch.profiler import ProfilerActivity

    torch.set_num_threads(args.threads)
    step = learner(args.dtype, args.size, args.task)
    given = [batch(args.size, args.task, seed) for seed in range(args.batches)]
    for _ in range(2):  # memory has its size, and kernels are made
        plain = seconds(step, given)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
        whole = seconds(step, given)
    parts = shares(found.events() or [], whole)
    for kind, spent in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"| {kind} | {spent * 1e3 / args.batches:.1f} | {spent / whole:.0%} |")
    print(f"| the step, without the profiler | {plain * 1e3 / args.batches:.1f} | |")
    return 0


def seconds(step: Any, given: Iterable[Any]) -> float:
    began = time.perf_counter()
    for one in given:
        step(one)
    return time.perf_counter() - began


def shares(events: Iterable[Any], whole: float) -> dict[str, float]:
    """Seconds by kind, which add up to the whole."""
    found: dict[str, float] = {}
    for event in events:
        of = kind(event)
        found[of] = found.get(of, 0.0) + event.self_cpu_time_total / 1e6
    return {**found, "Python between operations": whole - sum(found.values())}


def kind(event: Any) -> str:
    """Of an operation, by its name and by what it is a part of."""
    part, at = None, event
    while at is not None and part is None:
        part = next((kind for name, kind in INSIDE.items() if at.name.startswith(name)), None)
        at = at.cpu_parent
    if event.name in PRODUCTS and part != "attention":
        return f"products of {part or 'layers'}"
    return f"{part}, without products" if part == "output layer" else part or "other"


if __name__ == "__main__":
    sys.exit(main())
