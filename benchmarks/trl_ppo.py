"""TRL's side of `ppo`: the trainer of TRL 1.12, the last release that had one, as its users run it.

It samples one response to a row, so each prompt is given `group` times, in the order of the other side. It shuffles,
so its loader is replaced by one that does not. Its reward has to be a model: it gets one that only counts tokens and
takes no time, as the other side's function does; the critic starts, as there, from the policy's layers and a new head.
Sampled tokens, rows, inner epochs, minibatches, reference and critic are then the same. What differs is the trainer's
own way: one optimiser moves policy and critic together, on one loss and at one learning rate (a step of it counts as
a step of both), gradients are not clipped, and entropies of all tokens are taken for its log.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.inputs import rows
from benchmarks.job import LEARNING_RATE, PPO_EPOCHS, Job, Measured


def trainer_of(job: Job, out: str, measured: Measured) -> Any:
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental import ppo  # pyright: ignore[reportAttributeAccessIssue] of TRL 1.12

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            measured.end()

    class Length(torch.nn.Module):
        """Less for every token: of a reward model, what the trainer calls."""

        base_model_prefix = "body"

        def body(self, attention_mask, **_):
            return SimpleNamespace(hidden_states=[attention_mask.cumsum(1).unsqueeze(-1)])

        def score(self, tokens):
            return -0.01 * tokens

    name, size = job.clock, job.sizes
    dtype = getattr(torch, job.dtype)
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    critic = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=dtype)
    asked = prompts(job)
    data: Any = Dataset.from_dict({"input_ids": [tokenizer(text)["input_ids"] for text in asked]})
    config = ppo.PPOConfig(
        output_dir=out,
        seed=job.seed,
        learning_rate=LEARNING_RATE["ppo"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        per_device_train_batch_size=size.responses,
        total_episodes=len(asked),
        num_ppo_epochs=PPO_EPOCHS,
        response_length=size.max_tokens,
        stop_token="eos",
        temperature=1.0,
        bf16=job.dtype == "bfloat16",  # which alone does nothing here: weights have the type
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = ppo.PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=Length(),
        value_model=critic,
        train_dataset=data,
        callbacks=[Clock()],
    )
    trainer.dataloader = torch.utils.data.DataLoader(
        data, batch_size=size.responses, collate_fn=trainer.data_collator
    )
    count(trainer, measured, ppo.ppo_trainer)
    return trainer


def prompts(job: Job) -> list[str]:
    """One for each response, in the order in which they are asked."""
    read = rows(Path(job.folder), "prompts.jsonl")
    return [row["prompt"] for row in read for _ in range(job.sizes.group)]


def count(trainer: Any, measured: Measured, module: Any) -> None:
    """Steps of its optimiser, and the tokens of what it keeps of the responses, the end token included."""
    truncate = module.truncate_response

    def truncated(stop: int, pad: int, responses: Any) -> Any:
        kept = truncate(stop, pad, responses)
        measured.sampled += int((kept != pad).sum())
        return kept

    def stepped(*_: Any) -> None:
        measured.updates += 2  # policy and critic

    module.truncate_response = truncated
    trainer.optimizer.optimizer.register_step_post_hook(stepped)
