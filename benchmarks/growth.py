"""`python -m benchmarks.growth`: how seconds and memory of heedful's learner and engine grow, one thing at a time.

A line for each point, which is a process of its own: seconds of a learner's step (cross-entropy on the second half of
rows of equal length) and of sampling (`batch` responses, `group` to a prompt of `length` tokens), each the least of
twenty after a warm-up (of fewer once they have taken `ENOUGH` seconds), and the peak memory above that of the
libraries and the model. Kernels are made once for all points. What the point does not name is as in `BASE`; along
`length` there are two rows, which at 8,192 tokens are just one micro-batch: with more rows the longest would be cut
into several, and memory would seem to stop growing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from typing import Any

from benchmarks.inputs import Size, causal
from benchmarks.job import add_line, lines_file, positive
from benchmarks.process import environment

BASE = {"hidden": 128, "batch": 8, "length": 128, "group": 1, "vocab": 4096}
AXES: dict[str, list[int]] = {
    "hidden": [64, 128, 256, 512],
    "batch": [1, 4, 16, 64],
    "length": [128, 512, 2048, 8192],
    "group": [1, 2, 4, 8],
    "vocab": [1024, 4096, 16384, 65536],
}
FIXED = {"length": {"batch": 2}}  # along an axis, where it is not as in BASE
SAMPLED = 32  # tokens of each response
TIMES, ENOUGH = 20, 4.0
WORK = ("learner", "engine")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    p.add_argument("axes", nargs="*", metavar="AXIS", help=f"of {', '.join(AXES)}; default: all")
    p.add_argument("--threads", type=positive, default=1)
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    p.add_argument("--most", type=int, default=1 << 30, help="leave larger values out")
    p.add_argument("--limit", type=float, default=300, help="seconds after which a point ends")
    p.add_argument("--out", type=lines_file, help="append the lines to this file")
    p.add_argument("--point", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    if unknown := set(args.axes) - set(AXES):
        p.error(f"no axis {', '.join(sorted(unknown))}; there are {', '.join(AXES)}")
    if args.point:
        print(json.dumps(point(json.loads(args.point), args.threads, args.dtype)))
        return 0
    with tempfile.TemporaryDirectory() as home:
        for axis in args.axes or AXES:
            for value, work in product(AXES[axis], WORK):
                if value <= args.most and (axis, work) != ("group", "learner"):
                    tell(axis, value, work, home, args)
    return 0


def tell(axis: str, value: int, work: str, home: str, args: argparse.Namespace) -> None:
    fixed = FIXED.get(axis, {})
    found = alone({**BASE, **fixed, axis: value, "work": work}, home, args)
    line = {"axis": axis, "value": value, "work": work, **fixed, **found}
    add_line({**line, "threads": args.threads, "dtype": args.dtype}, args.out)


def alone(given: dict[str, Any], home: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth", "--point", json.dumps(given)]
    command += ["--threads", str(args.threads), "--dtype", args.dtype]
    env = environment(args.threads, "default", home)
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return {"failed": "time", "said": f"more than {args.limit:g} s"}
    if done.returncode:  # such as killed for want of memory: that is how it grows
        return {"failed": done.returncode, "said": done.stderr[-200:]}
    return json.loads(done.stdout.splitlines()[-1])


def point(given: dict[str, Any], threads: int, dtype: str) -> dict[str, Any]:
    """Seconds and MiB of one point, in this process."""
    import torch

    torch.set_num_threads(threads)
    length, hidden = given["length"], given["hidden"]
    size = Size(hidden=hidden, layers=4, heads=4, kv_heads=2, ffn=3 * hidden, vocab=given["vocab"])
    model = causal(size, 0, max_position_embeddings=length + SAMPLED)
    model = model.to(getattr(torch, dtype))
    rows = torch.randint(4, given["vocab"], (given["batch"], length)).tolist()
    once = (learner if given["work"] == "learner" else engine)(model, rows, given["group"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once()
    seconds: list[float] = []
    while len(seconds) < TIMES and sum(seconds) < ENOUGH:
        began = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": round(min(seconds), 5), "peak_mib": round(peak / 1024, 1)}


def learner(model: Any, rows: list[list[int]], group: int) -> Callable[[], Any]:
    from heedful.data.collate import collate
    from heedful.learner.local import LocalLearner, Optim
    from heedful.training.forwards import policy_forward
    from heedful.training.supervised import cross_entropy
    from heedful.types import Sample

    half = len(rows[0]) // 2
    mask = (False,) * half + (True,) * (len(rows[0]) - half)
    batch = collate([Sample(tuple(row), mask, (0.0,) * len(row)) for row in rows])
    owner = LocalLearner(model, policy_forward(), Optim(1e-5, 100))
    return lambda: owner.step(cross_entropy, batch)


def engine(model: Any, rows: list[list[int]], group: int) -> Callable[[], Any]:
    from heedful.engine.local import LocalEngine
    from heedful.types import Sampling

    sampler = LocalEngine(model)

    async def ask() -> None:
        asked = [
            sampler.generate(row, n=group, max_tokens=SAMPLED, sampling=Sampling(), stop=(), seed=i)
            for i, row in enumerate(rows[: max(1, len(rows) // group)])
        ]
        await asyncio.gather(*asked)

    return lambda: asyncio.run(ask())


if __name__ == "__main__":
    sys.exit(main())
