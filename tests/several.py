"""Several processes as torchrun starts them, without torchrun: forked from one that has imported everything already."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import interruptions as jobs
import tiny
from heedful import cli
from heedful.data.collate import collate
from heedful.learner.local import LocalLearner, Loss, Mixed, Optim, predict
from heedful.models import load
from heedful.models.forward import token_logps
from heedful.ranks import ALONE, Ranks, joined
from heedful.run import Run
from heedful.training.judgments import as_batch
from heedful.training.kept import Judgment
from heedful.types import Batch, Outputs, Sample
from postgres import free_port

SIGNALS = {"signal": signal.SIGTERM, "stop": signal.SIGSTOP}


def start(world: int, work: Callable[..., None], *args: object) -> list:
    """`work(*args)` in so many processes."""
    port = free_port()
    processes = [
        jobs.CONTEXT.Process(target=_inside, args=(rank, world, port, work, args))
        for rank in range(world)
    ]
    for process in processes:
        jobs.launch(process)
    return processes


def call(world: int, work: Callable[..., None], *args: object) -> list[int]:
    """The exit codes, once all have ended."""
    processes = start(world, work, *args)
    try:
        return [jobs.finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _inside(rank: int, world: int, port: int, work: Callable, args: Sequence) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    work(*args)


# ── a command ────────────────────────────────────────────────────────────────────────────────────


def command(
    words: list[str], said: str, trouble: Mapping[int, tuple[str, Any]], dtype: str = "float64"
) -> None:
    """A command; what its processes say goes to a file. Its weights are float64, if not said otherwise: what two runs
    have in common in theory they then have in every figure, since no rounding comes near to another sampled token.
    `trouble` comes to some ranks:

    ("signal", n): SIGTERM in their n-th step; ("stop", n): SIGSTOP in it; ("die", (function, n)): `jobs.die_at`;
    ("late", s): they join so many seconds after the others, and need the store until then; ("patience", s): they wait
    so long for a silent one.
    """
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(2, 1)
    load.DTYPES["float32"] = getattr(torch, dtype)
    kind, what = trouble.get(int(os.environ["RANK"]), ("", None))
    if kind in SIGNALS:
        _signal_at(what, SIGNALS[kind])
    elif kind == "die":
        jobs.die_at(*what)
    elif kind == "late":
        _late(what)
    elif kind == "patience":
        os.environ["HEEDFUL_PATIENCE"] = str(what)
    sys.exit(cli.main(words))


def _signal_at(call_: int, which: signal.Signals) -> None:
    log, calls = Run.log, 0

    def stopped(self, *args):
        nonlocal calls
        calls += 1
        if calls == call_:
            os.kill(os.getpid(), which)
        log(self, *args)

    Run.log = stopped


def _late(seconds: float) -> None:
    join = dist.init_process_group

    def joined(*args, **kwargs):
        join(*args, **kwargs)
        time.sleep(seconds)
        kwargs["store"].add("late", 1)

    dist.init_process_group = joined


def nan_for_one(prompt: str, response: str) -> float:
    """A reward that cannot be, of one prompt only, so that one rank only meets it."""
    return float("nan") if prompt.startswith("What is 3 ") else 1.0


# ── gradients and predictions ────────────────────────────────────────────────────────────────────


def samples(lengths: Sequence[int], *, seed: int = 0, longest_prompt: int = 3) -> list[Sample]:
    """Random sequences; one in three was cut."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for i, length in enumerate(lengths):
        tokens = torch.randint(4, 384, (length,), generator=draw).tolist()
        before = 1 + i % longest_prompt
        mask = (False,) * before + (True,) * (length - before)
        reason = "length" if i % 3 == 2 else "stop"
        found.append(Sample(tuple(tokens), mask, (0.0,) * length, stop_reason=reason))
    return found


def pairs(lengths: Sequence[int]) -> Batch:
    rows = samples(lengths, seed=1)
    judged = [Judgment((rows[i], rows[i + 1]), (1.0, 1.0)) for i in range(0, len(rows), 2)]
    return as_batch("PairLogps", judged, {s: -0.1 * len(s.tokens) for s in rows})


def forward(model: Any, batch: Batch) -> Outputs:
    """Log-probs; `sometimes` has a part in those of cut responses, so not every rank has a gradient of it."""
    logp = token_logps(model, batch.tokens, batch.mask)
    where = batch.truncated[:, None] & batch.mask
    return Outputs(logp=logp + where * model.sometimes if where.any() else logp)


def of_tokens(out: Outputs, batch: Batch) -> Loss:
    return Loss(-out.logp - 0.01 * out.logp**2, {"p": out.logp.exp()})


def of_pairs(out: Outputs, batch: Any) -> Loss:
    margin = out.logp.sum(1) - batch.ref_sum
    margin = 0.02 * (margin[0::2] - margin[1::2])
    return Loss(-nn.functional.logsigmoid(margin), {"accuracy": (margin > 0).float()})


TOKENS = collate(samples([9, 30, 4, 17, 12, 25, 6, 8, 21]))
ONE = replace(collate(samples([12, 7], seed=2)), group=torch.zeros(2, dtype=torch.long))
FOUR = pairs([12, 9, 30, 22, 5, 8, 14, 14])
CASES: dict[str, tuple] = {
    "tokens": (of_tokens, TOKENS, "token", ()),
    "tokens in one micro-batch": (
        of_tokens,
        replace(TOKENS, truncated=~TOKENS.truncated),
        "token",
        (),
    ),
    "pairs": (of_pairs, FOUR, "group", ()),
    "one pair": (of_pairs, pairs([12, 9]), "group", ()),
    "mixed": (of_pairs, FOUR, "group", (Mixed("ptx", TOKENS, forward, of_tokens, 0.7),)),
    "mixed with one": (of_tokens, TOKENS, "token", (Mixed("ptx", ONE, forward, of_tokens, 2.0),)),
}


def measured(ranks: Ranks = ALONE) -> dict[str, Any]:
    """Each case's gradient and metrics, and predictions of each shape."""
    found: dict[str, Any] = {}
    for name, (loss_fn, batch, per, mixed) in CASES.items():
        model: Any = tiny.causal_lm("llama")
        model.sometimes = nn.Parameter(torch.ones(()))
        model.never = nn.Parameter(torch.ones(()))
        tokens = 10_000 if "one micro-batch" in name else 60
        optim = Optim(1e-3, 10, max_grad_norm=1e9)
        learner = LocalLearner(model, forward, optim, micro_batch_tokens=tokens, ranks=ranks)
        kept: list[Tensor | None] = []

        def keep(kept=kept, model=model) -> None:
            kept.extend(None if p.grad is None else p.grad.clone() for p in model.parameters())

        learner.optimizer.step = keep
        metrics = learner.step(loss_fn, batch, per=per, mixed=mixed)
        found[name] = {"gradient": kept, "metrics": metrics}
    model = tiny.causal_lm("llama")

    def both(m: Any, b: Batch) -> Outputs:
        logp = token_logps(m, b.tokens, b.mask)
        return Outputs(logp=logp, score=logp.sum(1))

    for many, batch in {"many": TOKENS, "one group": ONE}.items():
        found |= {f"{name} {many}": x for name, x in predict(model, both, batch, 60, ranks).items()}
    return found


def measure(folder: Path) -> None:
    """`measured` on every rank, a file for each."""
    with joined() as ranks:
        assert ranks.world > 1
        torch.save(measured(ranks), folder / f"{ranks.rank}.pt")
