"""What a lead may set of a training job: names out of lists, and numbers.

Not a config as YAML: that could name any function of any package as its reward, and whoever leads a project on the web
need not be who may run code on the server.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from heedful.errors import UserError, did_you_mean

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
# The methods of `heedful train` that learn from comparisons or against a reward model, as `configs.commands` knows
# them; a test compares. The server cannot ask there, since what computes is imported beside it.
METHODS = (
    "a2c", "apo_down", "apo_zero", "apo_zero_unpaired", "bco", "cdpo", "cpl", "cpo", "dapo", "dpo",
    "dr_grpo", "exo", "grpo", "gspo", "importance", "ipo", "kto", "orpo", "plackett_luce_dpo", "ppo",
    "preferred_ft", "raft", "reinforce", "reinforce_pp", "rloo", "robust", "rso", "simpo", "slic",
    "unlikelihood",
)  # fmt: skip
Rate = Field(None, gt=0, le=1)


class Round(BaseModel):
    """A loop of rounds: sample, ask the project's raters, refit the reward model, optimise the policy."""

    command: Literal["iterate"]
    name: str = Field(max_length=61)
    model: str = Field(max_length=400)
    method: str = Field("dpo", max_length=60)
    rounds: int = Field(1, ge=1, le=100)
    prompts_per_round: int = Field(100, ge=1, le=100_000)
    responses: int = Field(2, ge=2, le=12)
    overlap: int = Field(1, ge=1, le=20)
    max_tokens: int = Field(256, ge=1, le=32_768)
    weights: Literal["equal", "raters"] = "equal"  # of comparisons; see docs/raters.md
    keep: bool = True  # learn from what the project's raters have said before, too
    learning_rate: float | None = Rate
    beta: float | None = Field(None, ge=0, le=100)
    epochs: float | None = Field(None, gt=0, le=100)
    steps: int | None = Field(None, ge=1, le=10**7)
    reward_learning_rate: float | None = Rate
    seed: int = Field(0, ge=0, le=10**6)
    device: Literal["cpu", "cuda", "auto"] = "auto"


class Comparison(BaseModel):
    """Several methods over several seeds, from one model, at equal cost."""

    command: Literal["compare"]
    name: str = Field(max_length=61)
    model: str = Field(max_length=400)
    reward: str = Field(max_length=400)
    methods: list[str] = Field(min_length=1, max_length=20)
    seeds: int = Field(3, ge=1, le=20)
    checkpoints: int = Field(4, ge=1, le=50)
    learning_rate: float | None = Rate
    steps: int | None = Field(
        None, ge=1, le=10**7
    )  # of each run; the methods' own are for a real study
    max_tokens: int | None = Field(None, ge=1, le=32_768)


def iterate(job: Round, project: str) -> tuple[dict[str, Any], str]:
    """The config of `heedful iterate`, run in the workspace's folder, and the folder of its rounds."""
    out = _out(job.name)
    source = f"db:.#{project}"
    how = {"method": _method(job.method), "learning_rate": job.learning_rate, "beta": job.beta}
    how |= {"epochs": job.epochs, "steps": job.steps}
    config: dict[str, Any] = {
        "workspace": ".", "project": project, "model": job.model, "prompts": source, "out": out,
        "rounds": job.rounds, "prompts_per_round": job.prompts_per_round, "responses": job.responses,
        "overlap": job.overlap, "max_tokens": job.max_tokens, "keep": [source] if job.keep else [],
        "optimise": _given(how), "reward": _given({"learning_rate": job.reward_learning_rate}),
        "weights": job.weights, "seed": job.seed, "device": job.device,
    }  # fmt: skip
    return config, out


def compare(job: Comparison, project: str) -> tuple[dict[str, Any], str]:
    """The config of `heedful compare` on a project's prompts and comparisons, and the folder of its runs."""
    out, source = _out(job.name), f"db:.#{project}"
    common = _given({"learning_rate": job.learning_rate, "steps": job.steps})
    config: dict[str, Any] = {
        "out": out, "model": job.model, "reward": job.reward, "data": source, "comparisons": source,
        "seeds": list(range(job.seeds)), "checkpoints": job.checkpoints, "common": common,
        "methods": {_method(name): {} for name in job.methods},
        "evaluate": {"data": source, **_given({"max_tokens": job.max_tokens})},
    }  # fmt: skip
    return config, out


def refuse_taken(workspace: Path, job: Round | Comparison) -> None:
    """UserError where the name is another command's folder; a loop with the same name goes on."""
    if job.command == "compare" and (workspace / _out(job.name) / "round-1").exists():
        raise UserError(f"'{job.name}' is the name of a loop of rounds; choose another")


def _out(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UserError(
            f"a run is named by 1 to 61 of a–z, 0–9, '.', '_' and '-', and begins with a letter or digit, not '{name}'"
        )
    return f"runs/{name}"


def _method(name: str) -> str:
    if name not in METHODS:
        raise UserError(f"unknown method '{name}'{did_you_mean(name, METHODS)}")
    return name


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
