"""Functions that return configs: the demo's stages, at full and at quick size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heedful.configs import (
    evaluate,
    judge,
    policy,
    preference,
    pretrain,
    reward_model,
    sample,
    sft,
    world,
)
from heedful.tagged import compose

DPO_EPOCHS = 1.5


@dataclass(frozen=True)
class Sizes:
    """How much of everything the demo does."""

    documents: int = 60000
    demonstrations: int = 4000
    pretrain_steps: int = 1200
    hidden_size: int = 128
    compared: int = 2800
    responses: int = 6
    ppo_steps: int = 21
    held_out: int = 465
    checkpoints: int = 4
    probes: int = 150
    judged: int = 200
    asked: int = 300


FULL = Sizes()
QUICK = Sizes(
    documents=3000,
    demonstrations=300,
    pretrain_steps=60,
    hidden_size=64,
    compared=100,
    ppo_steps=6,
    held_out=40,
    checkpoints=2,
    probes=20,
    judged=20,
    asked=30,
)


def sizes(quick: bool) -> Sizes:
    return QUICK if quick else FULL


@dataclass(frozen=True)
class Demo:
    """The configs of all stages of the demo."""

    world: world.Config
    pretrain: pretrain.Config
    sft: sft.Config
    sample: sample.Config
    judge: judge.Config
    sample_held_out: sample.Config
    judge_held_out: judge.Config
    reward: reward_model.Config
    dpo: preference.Config
    ppo: policy.Config
    evaluations: dict[str, evaluate.Config]


def demo(out: Path, *, seed: int, quick: bool, quiet: bool) -> Demo:
    """Each stage's config is complete: its command, typed by hand, does the same."""
    size = sizes(quick)
    data, runs = out / "data", out / "runs"
    dpo_steps = max(2, round(DPO_EPOCHS * size.compared / 64))  # a pair of every prompt

    def evaluation(name: str, **other) -> evaluate.Config:
        return evaluate.Config(
            **{
                "model": str(runs / name),
                "data": str(data / "held_out.jsonl"),
                "out": out / "eval" / name,
                "scorer": "capitals",
                "reward": (str(runs / "reward"),),
                "reference": str(runs / "sft"),
                "limit": size.held_out,
                "seed": seed,
                "quiet": quiet,
            }
            | other
        )

    def sampling(prompts: str, samples: str, limit: int) -> sample.Config:
        return sample.Config(
            model=str(runs / "sft"),
            data=str(data / f"{prompts}.jsonl"),
            out=out / f"{samples}.jsonl",
            n=size.responses,
            limit=limit,
            seed=seed,
            quiet=quiet,
        )

    def judging(samples: str, comparisons: str) -> judge.Config:
        return judge.Config(
            quiet=quiet,
            data=str(out / f"{samples}.jsonl"),
            judge="capitals",
            out=out / f"{comparisons}.jsonl",
            seed=seed,
        )

    against_sft = {"baseline": str(out / "eval" / "sft" / "samples.jsonl")}
    return Demo(
        world=world.Config(
            name="capitals",
            out=data,
            seed=seed,
            documents=size.documents,
            demonstrations=size.demonstrations,
        ),
        pretrain=pretrain.Config(
            data=str(data / "text.jsonl"),
            out=runs / "pretrain",
            hidden_size=size.hidden_size,
            steps=size.pretrain_steps,
            seed=seed,
            quiet=quiet,
        ),
        sft=sft.Config(
            model=str(runs / "pretrain"),
            data=str(data / "demonstrations.jsonl"),
            out=runs / "sft",
            epochs=2.0,
            learning_rate=1e-3,
            seed=seed,
            quiet=quiet,
        ),
        sample=sampling("prompts", "samples", size.compared),
        judge=judging("samples", "comparisons"),
        sample_held_out=sampling("held_out", "samples_held_out", size.held_out),
        judge_held_out=judging("samples_held_out", "comparisons_held_out"),
        reward=reward_model.Config(
            model=str(runs / "sft"),
            data=str(out / "comparisons.jsonl"),
            eval_data=str(out / "comparisons_held_out.jsonl"),
            out=runs / "reward",
            epochs=2.0,
            learning_rate=2e-3,
            seed=seed,
            quiet=quiet,
        ),
        dpo=preference.Config(
            model=str(runs / "sft"),
            data=str(out / "comparisons.jsonl"),
            out=runs / "dpo",
            beta=0.2,
            pairs="best_worst",
            epochs=DPO_EPOCHS,
            learning_rate=3e-4,
            save_every=max(1, dpo_steps // size.checkpoints),
            seed=seed,
            quiet=quiet,
        ),
        ppo=compose(
            policy.Config,
            dict(
                model=str(runs / "sft"),
                reward=(str(runs / "reward"),),
                data=str(data / "prompts.jsonl"),
                out=runs / "ppo",
                steps=size.ppo_steps,
                inner_epochs=2,
                beta=0.1,
                learning_rate=5e-4,
                critic_learning_rate=1e-3,
                save_every=max(1, size.ppo_steps // size.checkpoints),
                seed=seed,
                quiet=quiet,
            ),
        ),
        evaluations={
            "base": evaluation(
                "base",
                model=str(runs / "pretrain"),
                data=str(data / "held_out_plain.jsonl"),
                reference=None,
            ),
            "sft": evaluation("sft"),
            "dpo": evaluation("dpo", **against_sft),
            "ppo": evaluation("ppo", **against_sft),
            "best_of_16": evaluation(
                "best_of_16",
                model=str(runs / "sft"),
                best_of=16,
                seed=seed + 1,
                reference=None,
                **against_sft,
            ),
        },
    )
