"""heedful's side: the public recipes with nothing of their path replaced, and clocks around their public pieces."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from pathlib import Path

from benchmarks.inputs import HELD_OUT, rows
from benchmarks.job import BLOCKS, LEARNING_RATE, SAMPLING, Job, Measured, serve


def work(job: Job, measured: Measured) -> None:
    if job.task == "generate":
        generate(job, measured)
        return
    watch(measured)
    with tempfile.TemporaryDirectory() as out:
        train(job, Path(out) / "run")
    if job.task in SAMPLING:
        measured.tokens = []  # those of an update are what was sampled and its prompts
    if not job.breakdown:
        measured.parts = {}


def train(job: Job, out: Path) -> None:
    """`heedful train TASK` on the inputs, as the command would run it."""
    from heedful.recipes import policy, preference, reward_model, sft

    folder, size = Path(job.folder), job.sizes
    common = dict(
        out=out,
        seed=job.seed,
        learning_rate=LEARNING_RATE[job.task],
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        dtype=job.dtype,
        report_to="none",
        quiet=True,
    )
    if job.task in SAMPLING:
        policy.run(
            policy.Config(
                model=str(folder / "silent"),
                data=str(folder / "prompts.jsonl"),
                reward=("benchmarks.job:likes_short",),
                steps=size.rounds,
                max_tokens=size.max_tokens,
                **{
                    **policy.PRESETS[job.task],
                    **common,
                    "batch_size": size.responses,
                    **(_PPO if job.task == "ppo" else {"group_size": size.group}),
                    "minibatch_size": 0,
                    "inner_epochs": 1,
                },
            )
        )
        return
    given = dict(
        model=str(folder / "base"), batch_size=size.batch, held_out=HELD_OUT, max_length=None
    )
    if job.task == "sft":
        sft.run(sft.Config(data=str(folder / "demonstrations.jsonl"), **given, **common))
        return
    recipe = {"reward": reward_model, "dpo": preference}[job.task]
    recipe.run(recipe.Config(data=str(folder / "pairs.jsonl"), **given, **common))


_PPO = {"critic_warmup": 0}


def watch(measured: Measured) -> None:
    """Clocks around what is public: steps, updates, log-probs, sampling, backward passes and the optimiser.

    `parts` sums seconds by kind; "forward and loss" is what is left of the learner's steps.
    """
    import torch

    from heedful.learner import local
    from heedful.learner.local import LocalLearner
    from heedful.recipes import judgments, policy
    from heedful.run import Run

    parts = measured.parts

    def clock(owner, name: str, part: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args, **kwargs):
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                parts[part] = parts.get(part, 0.0) + time.perf_counter() - began

        setattr(owner, name, timed)

    clock(torch.Tensor, "backward", "backward")
    clock(torch.optim.AdamW, "step", "optimiser")
    clock(torch.nn.utils, "clip_grad_norm_", "optimiser")
    for module in (local, judgments, policy):
        clock(module, "predict", "log-probs")
    clock(LocalLearner, "step", "step")

    step = LocalLearner.step

    def counted(self, loss_fn, batch, **kwargs):
        if not measured.updates:
            measured.before = parts.get("log-probs", 0.0)
        metrics = step(self, loss_fn, batch, **kwargs)
        measured.updates += 1
        measured.losses.append(metrics["loss"])
        measured.tokens.append(int(batch.lengths.sum()))
        return metrics

    LocalLearner.step = counted  # type: ignore[method-assign]
    rollout = policy.rollout

    async def sampled(*args, **kwargs):
        began = time.perf_counter()
        samples = await rollout(*args, **kwargs)
        parts["generation"] = parts.get("generation", 0.0) + time.perf_counter() - began
        measured.sampled += sum(sum(s.mask) for s in samples)
        return samples

    policy.rollout = sampled
    log = Run.log

    def logged(self, step, metrics):
        log(self, step, metrics)
        measured.end()

    Run.log = logged  # type: ignore[method-assign]


def generate(job: Job, measured: Measured) -> None:
    """The engine alone, on the prompts of one round after the other; a block is a round."""
    from heedful.data.tokens import encode_prompt, stop_tokens
    from heedful.engine.torch import TorchEngine
    from heedful.models.load import load_policy, load_tokenizer
    from heedful.types import Sampling

    model = load_policy(str(Path(job.folder) / "silent"), dtype=job.dtype)
    tokenizer = load_tokenizer(str(Path(job.folder) / "silent"))
    engine, size = TorchEngine(model), job.sizes
    prompts = [row["prompt"] for row in rows(Path(job.folder), "prompts.jsonl")]
    per_block = size.responses // size.group
    stop = stop_tokens(tokenizer, prompts[0])

    async def block(number: int, sampling: Sampling, n: int) -> list:
        at = (number * per_block) % len(prompts)
        asked = [
            engine.generate(
                encode_prompt(tokenizer, prompt),
                n=n,
                max_tokens=size.max_tokens,
                sampling=sampling,
                stop=stop,
                seed=1000 * number + i,
            )
            for i, prompt in enumerate(prompts[at : at + per_block])
        ]
        return [c for group in await asyncio.gather(*asked) for c in group]

    greedy = asyncio.run(block(0, Sampling(temperature=0), 1))
    measured.extra["greedy"] = [list(c.tokens) for c in greedy]
    seconds = []
    for number in range(BLOCKS):
        began = time.perf_counter()
        completions = asyncio.run(block(number, Sampling(), size.group))
        seconds.append(time.perf_counter() - began)
        measured.sampled += sum(len(c.tokens) for c in completions)
    measured.extra["blocks"] = seconds[1:]


if __name__ == "__main__":
    serve(work, ("heedful",))
