"""What `heedful compare` is to do: its YAML file as complete configs, whatever is wrong told before anything runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from heedful.configs import evaluate, online, policy, preference
from heedful.configs.commands import methods
from heedful.configs.common import refuse_unread, unread
from heedful.configs.typed import made
from heedful.errors import UserError, did_you_mean
from heedful.fields import AT_LEAST_1, SEED
from heedful.tagged import all_fields
from heedful.yaml_file import read_yaml

SET_HERE = ("out", "seed", "model", "quiet")  # by compare itself, the same for every method
HABITS = ("quiet", "device", "report_to")  # do not change what a run learns
BEST_OF = re.compile(r"best_of_([1-9]\d*)")


@dataclass(frozen=True)
class Cost:
    """What a run has spent after some steps; `at_least` where it may have sampled more than can be told."""

    responses: int
    optimiser_steps: int
    at_least: bool = False


def _rollouts(config: policy.Config, step: int) -> Cost:
    return Cost(
        responses=step * config.batch_size,
        optimiser_steps=config.policy_steps(step),
        at_least=config.dynamic_sampling > 0,
    )


def _pairs_of_samples(config: online.Config, step: int) -> Cost:
    """Ties give no pair, so there may have been fewer optimiser steps."""
    pairs = config.batch_size * (1 if config.pairs == "best_worst" else math.comb(config.n, 2))
    updates = config.inner_epochs * -(-pairs // config.minibatch_size)
    return Cost(responses=step * config.batch_size * config.n, optimiser_steps=step * updates)


def _no_samples(config: Any, step: int) -> Cost:
    return Cost(responses=0, optimiser_steps=step)


# What some steps of a run cost, by the module of its config; a new recipe is a line here.
COSTS: dict[ModuleType, Callable[[Any, int], Cost]] = {
    policy: _rollouts,
    online: _pairs_of_samples,
    preference: _no_samples,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The YAML file."""

    out: Path
    """Folder for the runs, their evaluations, results.json, table.md and compare.html."""
    model: str
    """Where every method starts, and what KL is measured against."""
    reward: Any
    """What is optimised: a reward model's folder or package.module:function."""
    data: str
    """Prompts to train on."""
    methods: dict[str, Any]
    """Label → fields of its recipe, and `method` where the label is not the method's name."""
    evaluate: dict[str, Any]
    """Fields of `heedful evaluate`: data (held-out prompts), and scorer, limit, max_tokens and the like."""
    comparisons: str | None = None
    """What preference methods learn from."""
    people: str | None = None
    """What people answered to the held-out prompts: a line in the figures, and win rates are against it."""
    seeds: Annotated[tuple[int, ...], SEED] = (0, 1, 2)
    """Each method is run with each of them."""
    common: dict[str, Any] = field(default_factory=dict)
    """Fields for every method that trains."""
    checkpoints: Annotated[int, AT_LEAST_1] = 4
    """Points of a run, the finished model among them."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One label: a method with its config (but for seed and out), or best of n where n is not 0."""

    label: str
    method: str
    flags: ModuleType | None = None
    """The module of its config; None for best of n, which trains nothing."""
    config: Any = None
    best_of: int = 0
    saves: bool = False
    """Whether the file says when to save."""

    def cost(self, step: int) -> Cost:
        """What the run has spent after so many steps."""
        assert self.flags is not None
        return COSTS[self.flags](self.config, step)

    def run_config(self, plan: Plan, seed: int) -> Any:
        """The complete config of a run."""
        return replace(self.config, seed=seed, out=plan.out / "runs" / f"{self.label}-seed{seed}")


def read_file(path: Path, *, quiet: bool = False) -> tuple[Plan, list[Entry]]:
    """What the file says, with all that can be said against it before anything heavy is imported."""
    plan = made(Plan, read_yaml(path, str(path)), str(path))
    if plan.checkpoints < 1 or not plan.seeds or not plan.methods:
        raise UserError(f"{path}: needs at least one method, one seed and one checkpoint")
    if len(set(plan.seeds)) < len(plan.seeds):
        raise UserError(f"{path}: duplicate seed")
    entries = [
        _entry(plan, f"{path}: methods.{label}", str(label), given or {}, quiet)
        for label, given in plan.methods.items()
    ]
    told = {str(k).replace("-", "_"): v for k, v in plan.evaluate.items()}
    plan = replace(plan, evaluate=_sampling_of(entries) | told)
    if plan.people and not {"scorer", "judge"} & plan.evaluate.keys():
        raise UserError(f"{path}: `people` needs a scorer or a judge under `evaluate`")
    evaluation(plan, "start", plan.model, seed=plan.seeds[0], where=f"{path}: evaluate")
    return plan, entries


def _sampling_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """How the methods sample, for evaluations that do not say otherwise: one number means the same in both.

    Where methods differ, the longest response counts, and of other things the usual value.
    """
    configs = [e.config for e in entries if hasattr(e.config, "max_tokens")]
    if not configs:
        return {}
    same = {
        name: values[0]
        for name in ("temperature", "top_p", "top_k")
        if len(set(values := [getattr(c, name) for c in configs])) == 1
    }
    return same | {"max_tokens": max(c.max_tokens for c in configs)}


def _entry(plan: Plan, where: str, label: str, given: Any, quiet: bool) -> Entry:
    if not re.fullmatch(r"\w[\w.+= -]*", label):
        raise UserError(f"{where}: a label names folders; use letters, digits, _ . + = - only")
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: expected keys and values")
    own = {str(k).replace("-", "_"): v for k, v in given.items()}
    method = str(own.pop("method", label))
    if match := BEST_OF.fullmatch(method):
        if own:
            raise UserError(
                f"{where}: {method} samples from the start; it takes no {next(iter(own))}"
            )
        if int(match[1]) < 2:
            raise UserError(f"{where}: best of 1 is the initial model; take 2 or more")
        return Entry(label=label, method=method, best_of=int(match[1]))
    known = methods()
    if method not in known:
        hint = did_you_mean(method, [*known, "best_of_16"])
        raise UserError(f"{where}: there is no method '{method}'{hint}")
    flags, sets = known[method][0], known[method][1].sets
    common = {str(k).replace("-", "_"): v for k, v in plan.common.items()}
    wanted = {**sets, **common, **own}
    takes = all_fields(flags.Config)
    for key in common:
        if key not in takes:
            raise UserError(
                f"{where}: {method} has no field '{key}'{did_you_mean(key, takes)}; take it out "
                "of `common` and put it under the methods that have it"
            )
    for key in SET_HERE:
        if key in {**common, **own}:
            raise UserError(f"{where}: '{key}' is the same for every method; do not set it here")
    source = plan.comparisons if flags is preference else plan.data
    if source is None and "data" not in wanted:
        raise UserError(
            f"{where}: {method} learns from comparisons, and `comparisons` is not given"
        )
    ours = {"data": source, "model": plan.model, "out": plan.out, "quiet": quiet}
    ours["command"] = f"train {method}"
    ours |= {"reward": plan.reward} if "reward" in takes else {}
    try:
        # What stands in `common` is for those who read it.
        config = made(flags.Config, {**ours, "report_to": "none", **wanted}, where, ignore=common)
        flags.refuse_nonsense(config)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(where) else f"{where}: {message}") from None
    theirs = {k: v for k, v in unread(flags, config).items() if k in own}
    refuse_unread(config, sets, theirs, f"{where}: ")
    saves = "save_every" in wanted
    return Entry(label=label, method=method, flags=flags, config=config, saves=saves)


def evaluation(
    plan: Plan, name: str, model: str, *, seed: int, where: str = "evaluate", **other: Any
) -> evaluate.Config:
    """The complete config of one evaluation; KL is to the start, unless `other` says that there is none."""
    own = {str(k).replace("-", "_"): v for k, v in plan.evaluate.items()}
    if name == "start" and not plan.people:
        own.pop("judge", None)  # there is nobody to compare it with
    for key in (*SET_HERE, "reference", "baseline", "best_of"):
        if key in own:
            raise UserError(f"{where}: '{key}' is set by compare itself")
    given = {"reward": plan.reward, **own, "model": model, "seed": seed, "quiet": True}
    given |= {"reference": plan.model, "out": plan.out / "eval" / name, **other}
    if plan.people:
        given["baseline"] = plan.people
    elif "judge" in own:  # compares with the start's responses
        given["baseline"] = str(plan.out / "eval" / "start" / "samples.jsonl")
    return made(evaluate.Config, given, where)
