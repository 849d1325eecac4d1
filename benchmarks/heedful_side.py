"""heedful's side: its public recipes, nothing of their path replaced, with clocks around their public pieces."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import heedful  # noqa: F401  as its users do, before PyTorch
from benchmarks import tools
from benchmarks.inputs import HELD_OUT, rows
from benchmarks.job import (
    BLOCKS,
    LEARNING_RATE,
    PPO_EPOCHS,
    SAMPLING,
    Job,
    Measured,
    per_step,
    serve,
)

Seconds = dict[str, float]


def work(job: Job, measured: Measured) -> None:
    if job.task == "generate":
        generate(job, measured)
        measured.parts = {"generation": fmean(per_step(measured.ends, 0.0))}
    else:
        with tempfile.TemporaryDirectory() as out, clocks(measured) as snapshots:
            train(job, Path(out) / "run")
        measured.parts = breakdown(snapshots, measured)
    if not job.breakdown:
        measured.parts = {}
    else:
        from benchmarks.floor import floor_seconds

        floor = floor_seconds(job)
        total = sum(measured.parts.values())
        measured.extra["floor"] = {**floor, "ratio": total / sum(floor.values())}
    if job.task == "ppo":
        measured.losses = []  # the policy's and the critic's in turn say nothing


def train(job: Job, out: Path) -> None:
    """`heedful train TASK` on the inputs, as the command would run it."""
    from heedful.configs.policy import METHODS
    from heedful.recipes import policy, preference, reward_model, sft
    from heedful.tagged import compose

    folder, size = Path(job.folder), job.sizes
    common: dict[str, Any] = dict(
        out=out,
        seed=job.seed,
        learning_rate=LEARNING_RATE.get(job.task, 1e-8),
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        dtype=job.dtype,
        report_to="none",
        quiet=True,
    )
    if job.task == tools.NAME:
        from heedful.configs.policy import Config

        common |= dict(
            model=str(folder / tools.NAME / "model"),
            data=str(folder / tools.NAME / "prompts.jsonl"),
            tools=("benchmarks.tools:calculate",),
            reward=("benchmarks.tools:short",),
            max_turns=tools.TURNS,
            max_tokens=tools.TURN,
            steps=size.rounds,
            batch_size=size.responses,
            group_size=size.group,
            minibatch_size=0,
        )
        policy.run(compose(Config, {**METHODS["grpo"].sets, **common}))
        return
    if job.task in SAMPLING:
        common |= dict(
            model=job.clock,
            data=str(folder / "prompts.jsonl"),
            reward=("benchmarks.job:likes_short",),
            steps=size.rounds,
            max_tokens=size.max_tokens,
            batch_size=size.responses,
            group_size=size.group,
            minibatch_size=0,
        )
        if job.task == "ppo":
            common |= dict(inner_epochs=PPO_EPOCHS, critic_warmup=0)
        policy.run(compose(policy.Config, {**METHODS[job.task].sets, **common}))
        return
    common |= dict(model=str(folder / "base"), batch_size=size.batch, held_out=HELD_OUT)
    name = "demonstrations.jsonl" if job.task == "sft" else "pairs.jsonl"
    recipe: Any = {"sft": sft, "reward": reward_model, "dpo": preference}[job.task]
    recipe.run(recipe.Config(data=str(folder / name), **common))


@contextmanager
def clocks(measured: Measured) -> Iterator[list[Seconds]]:
    """Around what is public: learner steps, log-probs, sampling, backward passes, the optimiser, a step's log.

    Gives the seconds of each kind up to the end of each step. Afterwards everything is as it was.
    """
    import torch

    from heedful.learner import local
    from heedful.learner.local import LocalLearner
    from heedful.recipes import policy
    from heedful.run import Run
    from heedful.training import reference_sums

    parts: Seconds = {}
    cpu: Seconds = {}
    snapshots: list[Seconds] = []
    replaced: list[tuple[Any, str, Any]] = []

    def add(part: str, began: float, worked: float) -> None:
        parts[part] = parts.get(part, 0.0) + time.perf_counter() - began
        cpu[part] = cpu.get(part, 0.0) + time.process_time() - worked

    def clock(owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)
        replaced.append((owner, name, function))

        @functools.wraps(function)
        def timed(*args, **kwargs):
            started = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                add(part, *started)

        setattr(owner, name, timed)

    def warm(owner: Any, name: str, plain: Any) -> None:
        """Reference log-probs come before the first step, which warms up everything else: `plain` is called first."""
        timed = getattr(owner, name)
        replaced.append((owner, name, timed))

        def after_another(*args, **kwargs):
            plain(*args, **kwargs)
            return timed(*args, **kwargs)

        setattr(owner, name, after_another)

    clock(torch.Tensor, "backward", "backward")
    clock(torch.optim.AdamW, "step", "optimiser")
    clock(torch.nn.utils, "clip_grad_norm_", "optimiser")
    plain = reference_sums.predict
    for module in (local, reference_sums, policy):
        clock(module, "predict", "log-probs")
    warm(reference_sums, "predict", plain)
    clock(LocalLearner, "step", "learner")
    step, rollout, log = LocalLearner.step, policy.scored_rollout, Run.log

    def counted(self, loss_fn, batch, **kwargs):
        if not measured.updates and not measured.sampled:  # the reference's log-probs of all pairs
            measured.before = parts.get("log-probs", 0.0)
            measured.cpu_before = cpu.get("log-probs", 0.0)
        metrics = step(self, loss_fn, batch, **kwargs)
        measured.updates += 1
        measured.losses.append(metrics["loss"])
        measured.tokens.append(int(batch.lengths.sum()))
        return metrics

    async def sampled(*args, **kwargs):
        started = time.perf_counter(), time.process_time()
        samples, metrics = await rollout(*args, **kwargs)  # with a reward that takes no time
        add("generation", *started)
        measured.sampled += sum(sum(s.mask) for s in samples)
        if "episodes/calls" in metrics:
            measured.extra["calls"] = metrics["episodes/calls"]
        return samples, metrics

    def logged(self, step, metrics):
        log(self, step, metrics)
        measured.end()
        snapshots.append(dict(parts))

    for owner, name, function in (
        (LocalLearner, "step", counted),
        (policy, "scored_rollout", sampled),
        (Run, "log", logged),
    ):
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function)
    try:
        yield snapshots
    finally:
        for owner, name, function in reversed(replaced):
            setattr(owner, name, function)


def breakdown(snapshots: list[Seconds], measured: Measured) -> Seconds:
    """Seconds of a step by kind, the first step left out; they add up to a step's mean."""
    first, last, steps = snapshots[0], snapshots[-1], len(snapshots) - 1
    found = {kind: (last[kind] - first.get(kind, 0.0)) / steps for kind in last}
    found["log-probs"] = found.get("log-probs", 0.0) + measured.before / len(measured.ends)
    learner = found.pop("learner")
    found["forward and loss"] = learner - found["backward"] - found["optimiser"]
    total = (measured.ends[-1] - measured.ends[0]) / steps + measured.before / len(measured.ends)
    found["rest"] = total - sum(found.values())
    return found


def generate(job: Job, measured: Measured) -> None:
    """The engine alone, on the prompts of one round after the other; a block is a round."""
    from heedful.data.tokens import encode_prompt, stop_tokens
    from heedful.engine.local import LocalEngine
    from heedful.models.load import load_policy, load_tokenizer
    from heedful.types import Sampling

    name, size = job.clock, job.sizes
    tokenizer = load_tokenizer(name)
    engine = LocalEngine(load_policy(name, dtype=job.dtype))
    prompts = [row["prompt"] for row in rows(Path(job.folder), "prompts.jsonl")]
    tokens = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    stop = stop_tokens(tokenizer, prompts[0])
    per_block = size.responses // size.group

    async def block(number: int, sampling: Sampling, n: int) -> list:
        at = (number * per_block) % len(tokens)
        asked = [
            engine.generate(
                prompt,
                n=n,
                max_tokens=size.max_tokens,
                sampling=sampling,
                stop=stop,
                seed=1000 * number + i,
            )
            for i, prompt in enumerate(tokens[at : at + per_block])
        ]
        return [c for group in await asyncio.gather(*asked) for c in group]

    greedy = asyncio.run(block(0, Sampling(temperature=0), 1))
    measured.extra["greedy"] = [list(c.tokens) for c in greedy]
    for number in range(BLOCKS):
        completions = asyncio.run(block(number, Sampling(), size.group))
        measured.end()
        measured.sampled += sum(len(c.tokens) for c in completions)


if __name__ == "__main__":
    serve(work, ("heedful",))
