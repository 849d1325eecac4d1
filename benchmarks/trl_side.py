"""TRL's side, as its users run it: its trainers with its defaults, on the same rows in the same order.

Nothing here imports heedful. A compute_loss that counts and a callback that takes the time are all that is added.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import tools, trl_ppo
from benchmarks.inputs import CONTEXT, rows
from benchmarks.job import (
    BLOCKS,
    LEARNING_RATE,
    SAMPLING,
    Job,
    Measured,
    likes_short,
    per_step,
    serve,
)

# What a TRL user on a CPU would set to be fast without changing the work; each was the fastest of what was tried.
# padding_free: TRL warns that without FlashAttention documents see each other, but transformers 5 keeps them apart by
# their positions, and the losses of both sides are compared. It checks no length then, and nothing here is too long.
# DPO has it switched off in 1.16, the reward trainer never had it: there, few rows at a time have little padding.
# No faster: a static cache, continuous batching, smaller micro-batches where something is sampled. Not the same work:
# packing, and order by length. PPO's trainer has no such flags; it does not checkpoint to begin with.
BEST: dict[str, dict[str, Any]] = {
    "sft": {"padding_free": True, "max_length": None},
    "dpo": {"precompute_ref_log_probs": True},
}
# Rows or pairs of a micro-batch. In bfloat16 each new shape costs a kernel, so a few more.
PIECES = {
    "sft": {"float32": 4, "bfloat16": 4},
    "reward": {"float32": 1, "bfloat16": 2},
    "dpo": {"float32": 1, "bfloat16": 2},
}


def work(job: Job, measured: Measured) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if job.task == "generate":
        generate(job, measured)
        return
    with tempfile.TemporaryDirectory() as out:
        if job.task == "ppo":
            trainer = trl_ppo.trainer_of(job, out, measured)
        else:
            trainer = trainer_of(job, out, measured)
            watch(trainer, measured)
        trainer.train()


def flags_of(job: Job) -> dict[str, Any]:
    """Of a config, where TRL's own defaults are not what is measured."""
    if job.flags != "best":
        return {}
    found = {"gradient_checkpointing": False, **BEST.get(job.task, {})}
    if job.dtype == "bfloat16":  # as well as autocast, which alone casts every weight at every use
        found["model_init_kwargs"] = {"dtype": "bfloat16"}
    return found


def piece_of(job: Job, batch: int) -> int:
    """Rows of a micro-batch: all, or what divides the batch and is fastest."""
    return PIECES.get(job.task, {}).get(job.dtype, batch) if job.flags == "best" else batch


def trainer_of(job: Job, out: str, measured: Measured) -> Any:
    import trl
    from datasets import Dataset

    folder, size = Path(job.folder), job.sizes
    calling = job.task == tools.NAME
    sampling = job.task in SAMPLING or calling
    batch = size.responses if sampling else size.batch
    flags, piece = flags_of(job), piece_of(job, batch)
    common: dict[str, Any] = dict(
        output_dir=out,
        seed=job.seed,
        learning_rate=LEARNING_RATE.get(job.task, 1e-8),
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        per_device_train_batch_size=piece,
        gradient_accumulation_steps=batch // piece,
        max_steps=size.rounds if sampling else size.steps,
        bf16=job.dtype == "bfloat16",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if sampling:
        common |= dict(
            num_generations=size.group,
            max_completion_length=size.max_tokens,
            shuffle_dataset=False,
            beta=0.05 if job.task == "rloo" else 0.04,
        )
        if calling:
            return calling_trainer(job, trl, common, flags, measured)
        prompts = Dataset.from_list(rows(folder, "prompts.jsonl"))
        config, kind = {
            "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
            "grpo": (
                partial(trl.GRPOConfig, loss_type="grpo"),
                trl.GRPOTrainer,
            ),  # heedful's preset
        }[job.task]
        return kind(
            model=job.clock,
            reward_funcs=likes_short,
            args=config(**common, **flags),
            train_dataset=prompts,
        )
    common |= {"max_length": CONTEXT, "train_sampling_strategy": "sequential", **flags}
    if job.task == "sft":
        data = Dataset.from_list(rows(folder, "demonstrations.jsonl"))
        return trl.SFTTrainer(
            model=str(folder / "base"), args=trl.SFTConfig(**common), train_dataset=data
        )
    data = Dataset.from_list(rows(folder, "pairs.jsonl"))
    if job.task == "reward":
        return trl.RewardTrainer(
            model=str(folder / "reward"), args=trl.RewardConfig(**common), train_dataset=data
        )
    precompute = trl.DPOTrainer._precompute_ref_logps

    def timed(*args, **kwargs):
        began, cpu = time.perf_counter(), time.process_time()
        found = precompute(*args, **kwargs)
        measured.before += time.perf_counter() - began
        measured.cpu_before += time.process_time() - cpu
        return found

    trl.DPOTrainer._precompute_ref_logps = timed
    return trl.DPOTrainer(
        model=str(folder / "base"), args=trl.DPOConfig(**common), train_dataset=data
    )


def calling_trainer(job: Job, trl: Any, common: Any, flags: Any, measured: Measured) -> Any:
    """GRPO with `tools`, whose own metric says how often they were called."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    folder = Path(job.folder) / tools.NAME
    # AutoTokenizer takes a Llama's for a LlamaTokenizer, which splits words in another way than the file says.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder / "model"), padding_side="left")
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    common |= {"max_completion_length": tools.TURN * tools.TURNS, "max_tool_calling_iterations": 2}

    class Counted(trl.GRPOTrainer):
        def _generate(self, *args, **kwargs):
            generated = super()._generate(*args, **kwargs)
            measured.extra["calls"] = float(self._metrics["train"]["tools/call_frequency"][-1])
            return generated

    return Counted(
        model=str(folder / "model"),
        processing_class=tokenizer,
        reward_funcs=tools.short,
        args=trl.GRPOConfig(loss_type="grpo", logging_steps=1, **common, **flags),
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        tools=[tools.calculate],
    )


def watch(trainer: Any, measured: Measured) -> None:
    from transformers import TrainerCallback

    inner = trainer.compute_loss
    pieces: list[
        tuple[int, float]
    ] = []  # tokens of the micro-batches of a step, their shares of its loss

    def counted(model, inputs, *args, **kwargs):
        loss = inner(model, inputs, *args, **kwargs)
        tokens = 0
        if "completion_ids" in inputs:
            own = inputs["completion_mask"]  # of which tools have said some
            measured.sampled += int((own * inputs.get("tool_mask", own)).sum())
        elif "attention_mask" in inputs:
            tokens = int(inputs["attention_mask"].sum())
        else:
            tokens = int(inputs["input_ids"].numel())
        share = float(loss[0] if isinstance(loss, tuple) else loss)
        if kwargs.get("num_items_in_batch") is None:  # else it is by the tokens of the whole step
            share /= trainer.args.gradient_accumulation_steps
        pieces.append((tokens, share))
        return loss

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            measured.end()
            measured.updates = state.global_step
            measured.tokens.append(sum(tokens for tokens, _ in pieces))
            measured.losses.append(sum(share for _, share in pieces))
            pieces.clear()

    trainer.compute_loss = counted
    trainer.add_callback(Clock())


def generate(job: Job, measured: Measured) -> None:
    """`transformers.generate` as TRL calls it, with the log-probs of what it sampled, under either cache."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    name, size = job.clock, job.sizes
    model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, job.dtype)).eval()
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    prompts = [row["prompt"] for row in rows(Path(job.folder), "prompts.jsonl")]
    per_block = size.responses // size.group

    @torch.no_grad()
    def block(number: int, n: int, cache: str, do_sample: bool = True):
        at = (number * per_block) % len(prompts)
        texts = [p for p in prompts[at : at + per_block] for _ in range(n)]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        out = model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=size.max_tokens,
                do_sample=do_sample,
                top_k=0,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                cache_implementation=cache,
                return_dict_in_generate=True,
                output_logits=True,
                disable_compile=True,
            ),
        )
        model.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)
        written = out.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        end = tokenizer.eos_token_id
        return [row[: row.index(end) + 1] if end in row else row for row in written]

    measured.extra["greedy"] = block(0, 1, "dynamic", do_sample=False)
    torch.manual_seed(job.seed)
    of_cache = {"dynamic": Measured(), "static": Measured()}
    for cache, counted in of_cache.items():
        for number in range(BLOCKS):
            written = block(number, size.group, cache)
            counted.end()
            counted.sampled += sum(map(len, written))
    medians = {c: median(per_step(m.ends, 0.0)) for c, m in of_cache.items()}
    best = min(medians, key=lambda cache: medians[cache])
    measured.extra |= {"caches": medians, "cache": best}
    measured.ends, measured.cpu_ends = of_cache[best].ends, of_cache[best].cpu_ends
    measured.sampled = of_cache[best].sampled


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    serve(work, ("trl",))
