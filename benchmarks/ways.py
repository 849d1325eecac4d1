"""`python -m benchmarks.ways [--size small] [--task dpo]`: one optimiser step in float32 and bfloat16, without
kernels (`-kernels`), and compiled (`+compile`).

All ways take turns on the same batches in one process, so that a busy machine slows all of them; of each batch the
fewest seconds that the process itself worked count. Lengths are those of `benchmarks.inputs`, tokens and weights
random. A compiled way says what its first steps cost more than later ones, by the clock on the wall, and after how
many steps that is earned back. Compilers keep what they made: `TORCHINDUCTOR_CACHE_DIR` names an empty folder for a
first time. A line for each way, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import nullcontext
from typing import Any
from unittest import mock

from benchmarks.inputs import SIZES, Words, causal
from benchmarks.job import positive

WAYS = (
    "float32",
    "bfloat16",
    "float32-kernels",
    "float32+compile",
    "bfloat16+compile",
)
FIRST = 3  # steps in which a compiler works


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.ways", description=__doc__)
    p.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}; default: all")
    p.add_argument("--size", choices=list(SIZES), default="tiny")
    p.add_argument("--task", choices=["sft", "dpo"], default="sft")
    p.add_argument("--batches", type=positive, default=4)
    p.add_argument(
        "--rounds", type=positive, default=5, help="times that each way takes each batch"
    )
    args = p.parse_args(argv)
    if unknown := set(args.ways) - set(WAYS):
        p.error(f"no way {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    import torch

    torch.set_num_threads(1)
    for line in measured(args.ways or WAYS, args.size, args.task, args.batches, args.rounds):
        print(json.dumps({"size": args.size, "task": args.task, **line}), flush=True)
    return 0


def measured(names: Any, size: str, task: str, number: int, rounds: int) -> list[dict[str, Any]]:
    given = [batch(size, task, seed) for seed in range(number)]
    steps = {name: learner(name, size, task) for name in names}
    first = {}
    for name, step in steps.items():
        began = time.perf_counter()
        for i in range(FIRST):
            step(given[i % number])
        first[name] = time.perf_counter() - began
    best = {name: [float("inf")] * number for name in names}
    loss = {}
    for _ in range(rounds):
        for i, one in enumerate(given):
            for name, step in steps.items():
                began = time.process_time()
                loss[name] = step(one)["loss"]
                best[name][i] = min(best[name][i], time.process_time() - began)
    seconds = {name: sum(best[name]) / number for name in names}
    lines = []
    for name in names:
        line = {"way": name, "seconds": round(seconds[name], 4), "loss": round(loss[name], 4)}
        plain = name.removesuffix("+compile")
        if name != plain and plain in seconds:
            cost, gain = first[name] - FIRST * seconds[name], seconds[plain] - seconds[name]
            line["compiling"] = round(cost, 1)
            line["earned_back_after"] = round(cost / gain) if gain > 0 else None
        lines.append(line)
    return lines


def batch(size: str, task: str, seed: int) -> Any:
    """Prompts with a response each, or with two."""
    from heedful.data.collate import collate
    from heedful.types import Sample

    words, given = Words(seed, 1), SIZES[size]

    def ids(number: int) -> tuple[int, ...]:
        return tuple(words.random.randrange(4, given.vocab) for _ in range(number))

    rows = []
    for group in range(given.batch):
        prompt = ids(words.length(40, 0.6, 256))
        for _ in range(2 if task == "dpo" else 1):
            response = ids(words.length(60, 0.8, 512))
            mask = (False,) * len(prompt) + (True,) * len(response)
            rows.append(Sample(prompt + response, mask, (0.0,) * len(mask), group=group))
    return collate(rows)


def learner(name: str, size: str, task: str) -> Any:
    """A step of a new learner, the same weights in every way."""
    import torch

    from heedful.fast import kernels
    from heedful.fast.compiled import compile_layers
    from heedful.learner.local import LocalLearner, Optim
    from heedful.training.forwards import policy_forward
    from heedful.training.supervised import cross_entropy

    plain, _, without = name.partition("-")
    dtype, _, compiled = plain.partition("+")
    model = causal(SIZES[size], 0).to(getattr(torch, dtype))
    if compiled:
        compile_layers(model)
    optim = Optim(1e-5, 10**6, schedule="constant", warmup=0.0)
    owner = LocalLearner(model, policy_forward(), optim, micro_batch_tokens=8192)
    off: dict[str, Any] = {
        "": nullcontext,
        "kernels": lambda: mock.patch.object(kernels, "available", lambda: False),
    }

    def step(given: Any) -> Any:
        with off[without]():
            if task == "sft":
                return owner.step(cross_entropy, given)
            return owner.step(margins, given, per="group")

    return step


def margins(out: Any, given: Any) -> Any:
    """DPO's loss against a reference that is the model as it is now."""
    from torch.nn.functional import logsigmoid

    from heedful.learner.local import Loss

    sums = out.logp.masked_fill(~given.mask, 0.0).sum(1).view(-1, 2)
    gap = sums[:, 0] - sums[:, 1]
    return Loss(-logsigmoid(0.1 * (gap - gap.detach())))


if __name__ == "__main__":
    sys.exit(main())
