"""The least time that a job's useful arithmetic could take on this machine.

Useful is: each distinct token through the layers once (a prompt once for all its responses), twice as much again for
the backward pass, attention to what comes before, and the output layer only at positions that a loss or a draw
reads. That many FLOPs, at the rate at which torch.mm multiplies matrices of just these shapes here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import clock
from benchmarks.inputs import Size, rows
from benchmarks.job import PPO_EPOCHS, SAMPLING, Job

Group = tuple[int, tuple[int, ...]]  # tokens of a prompt, tokens of each of its responses


@dataclass(frozen=True)
class Flops:
    """Of one forward pass."""

    layers: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        return self.layers + self.attention + self.head


def matrices(size: Size) -> list[tuple[int, int]]:
    """(inputs, outputs) of the linear maps of a layer: queries, keys, values, output; gate, up, down."""
    d, narrow = size.hidden, size.hidden // size.heads * size.kv_heads
    return [(d, d), (d, narrow), (d, narrow), (d, d), (d, size.ffn), (d, size.ffn), (size.ffn, d)]


def forward(size: Size, groups: Sequence[Group], *, head: bool = True) -> Flops:
    """Of groups of responses to one prompt. The last token of a response is predicted and predicts nothing.

    Two for each weight and token; four for each pair of tokens, component and layer in attention (q·k and p·v). The
    responses' first tokens all come from the same row of logits. Without `head` (a scalar one) every token is read.
    """
    tokens = pairs = read = 0
    for prompt, responses in groups:
        inner = [r - 1 if head else r for r in responses]
        tokens += prompt + sum(inner)
        pairs += prompt * (prompt + 1) // 2 + sum(r * prompt + r * (r + 1) // 2 for r in inner)
        read += 1 + sum(inner)
    weights = sum(a * b for a, b in matrices(size))
    return Flops(
        layers=2.0 * size.layers * weights * tokens,
        attention=4.0 * size.layers * size.hidden * pairs,
        head=2.0 * size.hidden * size.vocab * read if head else 2.0 * size.hidden * tokens,
    )


def rate(size: Size, tokens: int, dtype: str, seconds: float = 0.6) -> float:
    """FLOPs a second at the shapes of a layer and of the output layer, over rows of `tokens`."""
    import torch

    shapes = [*matrices(size) * size.layers, (size.hidden, size.vocab)]
    kinds = {
        (a, b): (
            torch.randn(tokens, a, dtype=getattr(torch, dtype)),
            torch.randn(a, b, dtype=getattr(torch, dtype)),
        )
        for a, b in set(shapes)
    }
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        for shape in shapes:
            torch.mm(*kinds[shape])
        best = min(best, time.perf_counter() - began)
    return sum(2.0 * tokens * a * b for a, b in shapes) / best


def floor_seconds(job: Job) -> dict[str, float]:
    """Seconds of a step, or of a round, by kind."""
    size, groups = job.sizes, groups_of(job)
    steps = size.rounds if job.task in (*SAMPLING, "generate") else size.steps
    once = forward(size, groups, head=job.task != "reward").total / steps
    tokens = sum(prompt + sum(responses) for prompt, responses in groups) // steps
    at = rate(size, tokens, job.dtype)
    sampling = 0.0
    if job.task in (*SAMPLING, "generate"):
        prefill = sum(forward(size, [(prompt, (1,))]).total for prompt, _ in groups) / steps
        sampling = prefill / at + (once - prefill) / rate(size, size.responses, job.dtype)
    if job.task == "generate":
        return {"generation": sampling}
    found = {"forward": once / at, "backward": 2 * once / at}
    if job.task in ("dpo", *SAMPLING):
        found["log-probs"] = once / at
    if job.task in SAMPLING:
        found["generation"] = sampling
    if (
        job.task == "ppo"
    ):  # a critic as large as the policy without its output layer: its values, and its own steps
        values = forward(size, groups, head=False).total / steps / at
        found["log-probs"] += values
        found["forward"] = PPO_EPOCHS * (found["forward"] + values)
        found["backward"] = 2 * found["forward"]
    return found


def groups_of(job: Job) -> list[Group]:
    """Lengths of what the job reads, end tokens included, and of what it samples."""
    from heedful.models.load import load_tokenizer

    folder, size = Path(job.folder), job.sizes
    tokenizer = load_tokenizer(str(folder / "base"))

    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    if job.task in (*SAMPLING, "generate"):
        read = [(count(row["prompt"]), row["last"]) for row in rows(folder, "prompts.jsonl")]
        most = size.max_tokens
        return [(p, (clock.written(p, last, most),) * size.group) for p, last in read]
    names = ("completion",) if job.task == "sft" else ("chosen", "rejected")
    read = rows(folder, "demonstrations.jsonl" if job.task == "sft" else "pairs.jsonl")
    return [(count(row["prompt"]), tuple(count(row[n]) + 1 for n in names)) for row in read]
