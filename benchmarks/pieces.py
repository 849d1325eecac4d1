"""`python -m benchmarks.pieces [--size small] [--task dpo]`: pieces of a step, each beside the plainer way to it.

On the batches of `benchmarks.ways`, in one process and one thread; the two ways take turns, and of each the least
seconds of the process's own work count. A line of JSON for each piece: attention, forward and backward, by heedful's
kernels beside PyTorch's on blocks of sequences of like length; layers as heedful runs them beside `transformers`';
a token of 32 rows sampled by kernels beside `transformers`' own pass; a product of denormal numbers, flushed beside
not; and products in bfloat16 with ever new numbers of rows, rounded beside not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.inputs import SIZES, causal
from benchmarks.ways import batch

TURNS = 9


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.pieces", description=__doc__)
    p.add_argument("--size", choices=list(SIZES), default="tiny")
    p.add_argument("--task", choices=["sft", "dpo"], default="sft")
    args = p.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    for piece, ways in (
        ("attention", attention(args.size, args.task)),
        ("layers", layers(args.size, args.task)),
        ("a token of 32 rows", sampling(args.size)),
        ("denormal numbers", denormal()),
        ("new numbers of rows", new_rows(args.size)),
    ):
        ours, plain = least(*ways)
        line = {"size": args.size, "task": args.task, "piece": piece}
        line |= {"seconds": round(ours, 5), "plain": round(plain, 5)}
        print(json.dumps({**line, "ratio": round(plain / ours, 2)}), flush=True)
    return 0


def least(*ways: Callable[[], Any]) -> list[float]:
    best = [float("inf")] * len(ways)
    for _ in range(TURNS):
        for i, way in enumerate(ways):
            began = time.process_time()
            way()
            best[i] = min(best[i], time.process_time() - began)
    return best


def layout(size: str, task: str) -> Any:
    from heedful.fast.layout import lay_out

    given = batch(size, task, 0)
    return lay_out(given.tokens[:, :-1], given.mask)


def attention(size: str, task: str) -> list[Callable[[], Any]]:
    """Of one layer."""
    import torch

    from heedful.fast import kernels
    from heedful.fast.attention import attend, by_blocks

    if not kernels.available():
        sys.exit("there is no compiler to make heedful's kernels")
    given, at = SIZES[size], layout(size, task)
    heads, kv, d = given.heads, given.kv_heads, given.hidden // given.heads
    qkv = torch.randn(len(at.tokens), heads + 2 * kv, d, requires_grad=True)
    upstream = torch.randn(len(at.tokens), heads, d)

    def by(way: Callable[..., Any]) -> Callable[[], Any]:
        def both() -> Any:
            q, k, v = qkv.split([heads, kv, kv], 1)
            return torch.autograd.grad(way(q, k, v, at, d**-0.5, None), qkv, upstream)

        return both

    return [by(attend), by(by_blocks)]


def layers(size: str, task: str) -> list[Callable[[], Any]]:
    """Embeddings to last hidden states; both attend alike."""
    import torch

    from heedful.fast import llama, packed

    at, model = layout(size, task), causal(SIZES[size], 0)
    if not packed.can_pack(model) or not llama.learns(model, at):
        sys.exit("heedful would not run these layers itself")
    upstream = torch.randn(len(at.read), SIZES[size].hidden)

    def of(run: Any) -> Callable[[], Any]:
        def both() -> None:
            model.zero_grad()
            run(model, at).backward(upstream)

        return both

    return [of(llama.hidden), of(packed.packed_hidden)]


def sampling(size: str) -> list[Callable[[], Any]]:
    """The 101st token."""
    import torch

    from heedful.engine.passes import Plain, passes
    from heedful.engine.slots import SlotCache
    from heedful.models.backend import FEW, SHORT

    model, rows = causal(SIZES[size], 0), torch.arange(32)
    tokens, lengths = torch.full((32,), 7), torch.full((32,), 100)

    def by(pick: Any) -> Callable[[], Any]:
        cache = SlotCache(SIZES[size].layers)
        cache.reserve(len(rows), 128)
        way = pick(model, cache)
        with torch.inference_mode():
            way.prefill([[5] * 100], torch.zeros_like(rows), 0)

        def token() -> None:
            with torch.inference_mode():
                way.decode(tokens, lengths)

        return token

    return [by(lambda model, cache: passes(model, cache, FEW, SHORT)), by(Plain)]


def denormal() -> list[Callable[[], Any]]:
    import torch

    small = torch.full((512, 512), 700_000, dtype=torch.int32).view(torch.float32)  # 1e-39
    one = torch.randn(512, 512)

    def product(flush: bool) -> None:
        torch.set_flush_denormal(flush)
        torch.mm(small, one)

    return [lambda: product(True), lambda: product(False)]


def new_rows(size: str) -> list[Callable[[], Any]]:
    """Numbers of rows that have not been met before in the process, each once."""
    import torch

    from heedful.fast.layout import OCTAVE
    from heedful.fast.process import rounded

    numbers = iter(range(1000, 1000 + 40 * TURNS))
    weight = torch.randn(SIZES[size].hidden, SIZES[size].ffn, dtype=torch.bfloat16)

    def products(round_up: bool) -> None:
        for _ in range(20):
            n = next(numbers)
            rows = torch.zeros(
                rounded(n, OCTAVE) if round_up else n, len(weight), dtype=torch.bfloat16
            )
            torch.mm(rows, weight)

    return [lambda: products(True), lambda: products(False)]


if __name__ == "__main__":
    sys.exit(main())
