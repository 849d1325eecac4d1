"""Several methods over several seeds on one task: train, evaluate every checkpoint, and say what it cost.

For each seed and each method: train once, then sample from some of its checkpoints to the same held-out prompts,
score, and take the KL to where all of them began. What is there already is not made again, so the same
command goes on after an interruption; a run that cannot be is told of in the table, and the others go on.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from heedful import __version__
from heedful.configs import preference
from heedful.configs.compare import Config
from heedful.configs.compare_plan import HABITS, Cost, Entry, Plan, evaluation, read_file
from heedful.data.files import write_json
from heedful.data.reading import read_table
from heedful.data.sources import read_samples
from heedful.disk import DiskError, write_text
from heedful.errors import UserError
from heedful.evals.frontier import hypervolume
from heedful.evals.statistics import crossed_ci, wins
from heedful.recipes import evaluate, recipe_of
from heedful.recipes.demo import machine
from heedful.remote.journal import ANSWERS
from heedful.remote.sources import sources
from heedful.run import alarms_of, finished, flat, metrics_of, plain, settings
from heedful.transfer.sources import materialise

SOURCES = "sources.json"  # what the user's functions were when a comparison was begun
Values = dict[str, list[float]]  # gold, reward, kl, length, win_rate → a number for each prompt


@dataclass(frozen=True)
class Point:
    """One checkpoint of one run: what its responses are worth, and what it took to get there."""

    step: int
    values: Values
    seconds: float
    cost: Cost


@dataclass(frozen=True)
class Trial:
    """One run: its points, the alarms that it raised, and in one sentence why it failed, if it did."""

    label: str
    seed: int
    points: Sequence[Point] = ()
    alarms: Sequence[Mapping[str, Any]] = ()
    failed: str | None = None


def run(config: Config) -> Path:
    """Returns the folder; `results.json` in it holds every number of the table and the figures."""
    plan, entries = read_plan(config.config, quiet=config.quiet)
    refuse_edited(plan)
    start = measured(evaluation(plan, "start", plan.model, seed=plan.seeds[0], reference=None))
    start["kl"] = [0.0]
    trials: list[Trial] = []
    for seed in plan.seeds:
        for entry in entries:
            _say(f"{entry.label}, seed {seed}")
            try:
                trials.append(tried(plan, entry, seed, start))
            except DiskError:
                raise  # no method's fault, and the next one's as well
            except UserError as error:
                _say(f"{entry.label}, seed {seed} failed: {error}")
                trials.append(Trial(entry.label, seed, failed=str(error)))
    areas = hypervolumes(trials, start)
    results = {
        "title": f"heedful: {_count(entries, 'method')}, {_count(plan.seeds, 'seed')}",
        "model": plan.model,
        "seeds": list(plan.seeds),
        "prompts": len(start["length"]),
        "start": {name: _measure([values]) for name, values in start.items()},
        **_people(plan),
        "methods": [
            {
                "label": e.label,
                "method": e.method,
                **alike_but_beta(e, entries),
                **summary([t for t in trials if t.label == e.label], areas.get(e.label)),
            }
            for e in entries
        ],
        "versions": {n: version(n) for n in ("torch", "transformers")} | {"heedful": __version__},
        "machine": machine() | {"python": platform.python_version()},
        "config": config.config.read_text(encoding="utf-8"),
    }
    write_json(plan.out / "results.json", results)
    return plan.out


def alike_but_beta(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    """A method's β, if it has one, and the first method that differs from it by β alone: a line of KL against β."""
    beta, same = of_beta(entry.config)
    if beta is None:
        return {}
    return {"beta": beta, "beta_of": next(e.label for e in entries if of_beta(e.config)[1] == same)}


def of_beta(config: Any) -> tuple[float | None, Any]:
    """The β of a config or of its part for KL, and the config as it would be at β = 1."""
    if hasattr(config, "beta"):
        return config.beta, replace(config, beta=1.0)
    part: Any = getattr(config, "kl", None)
    if hasattr(part, "beta"):
        return part.beta, replace(config, kl=replace(part, beta=1.0))
    return None, config


def read_plan(path: Path, *, quiet: bool = False) -> tuple[Plan, list[Entry]]:
    """The file's plan and its entries, in the order of the file; raises `UserError` for whatever is wrong."""
    plan, entries = read_file(path, quiet=quiet)
    entries = [_with_data(plan, entry, f"{path}: methods.{entry.label}") for entry in entries]
    for entry in entries:
        if entry.flags:
            for seed in plan.seeds:
                refuse_changed(entry.run_config(plan, seed))
    return plan, entries


def _with_data(plan: Plan, entry: Entry, where: str) -> Entry:
    """An entry whose functions are there, with its data as a file and checkpoints in that measure."""
    if entry.flags is None:
        return entry
    recipe, config = recipe_of(entry.config), entry.config
    try:
        recipe.refuse_what_cannot_be(config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    what = "prompts"
    if entry.flags is preference:
        single = recipe.objective_of(config).reads == "LabelledLogps"
        what = "unpaired" if single else "rankings"
    config = replace(config, data=materialise(config.data, what))
    if not entry.saves:
        config = replace(config, save_every=save_every(config, plan.checkpoints))
    return replace(entry, config=config)


def save_every(config: Any, checkpoints: int) -> int:
    """Steps between checkpoints that give at least so many of them, the finished model included.

    The steps of a run on comparisons are known once its pairs are made. Each row is counted as one pair,
    which is too few where rankings of K give all their pairs: then there are more checkpoints than are
    evaluated, and `save_every` under the method saves the disk.
    """
    if checkpoints == 1:
        return 0
    steps = config.steps
    if isinstance(config, preference.Config):
        rows = sum(1 for _ in read_table(materialise(config.data, "rankings"), broken=True))
        held = rows * (1 - config.held_out) * config.epochs / max(1, config.batch_size)
        steps = min(held, steps or held)
    return max(1, math.floor(steps / checkpoints))


def refuse_changed(config: Any) -> None:
    """A finished run that was made otherwise does not answer this file's question."""
    if not finished(config.out):
        return
    old = flat(yaml.safe_load((config.out / "config.yaml").read_text(encoding="utf-8")))
    now = flat(settings(config))
    # When to save follows from the number of steps, which is then what has changed.
    for key in sorted(now, key=lambda name: name == "save_every"):
        new = now[key]
        if key in old and key not in HABITS and old[key] != new:
            raise UserError(
                f"{config.out} was made with {key} {old[key]}, not {new}: choose another out or another "
                "label, or remove that folder"
            )


def refuse_edited(plan: Plan) -> None:
    """Runs and evaluations by other code of the user's do not stand beside these in one table."""
    noted, now = plan.out / SOURCES, sources(plan)
    before = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    if edited := [module for module in now if before.get(module, now[module]) != now[module]]:
        raise UserError(
            f"{edited[0]} was edited since what is in {plan.out} was made: undo that, choose another out, or remove "
            f"that folder; where the change makes no difference, remove {noted}"
        )
    if now:
        write_json(noted, before | now)


def failures(out: Path) -> int:
    """The exit code: 1, and a line that says so, where a method has failed with some seed."""
    methods = json.loads((out / "results.json").read_text(encoding="utf-8"))["methods"]
    failed = [m for m in methods if m["failed"]]
    if failed:
        reasons = "; ".join(f"{m['label']}: {m['failed'][0]['why']}" for m in failed)
        _say(f"{len(failed)} of {_count(methods, 'method')} failed: {reasons}")
    return int(bool(failed))


def tried(plan: Plan, entry: Entry, seed: int, start: Values) -> Trial:
    """Train, unless that is done, and evaluate; best of n trains nothing, its points are n, n/2, n/4, …"""
    name = f"{entry.label}-seed{seed}"
    if entry.flags is None:
        sizes = [entry.best_of >> k for k in range(plan.checkpoints) if entry.best_of >> k > 1]
        points = []
        for n in reversed(sizes):
            what = evaluation(plan, f"{name}-{n}", plan.model, seed=seed, reference=None, best_of=n)
            points.append(Point(n, against(start, measured(what)), 0.0, Cost(0, 0)))
        return Trial(entry.label, seed, points)
    config = entry.run_config(plan, seed)
    if not finished(config.out):
        for stale in (plan.out / "eval").glob(f"{name}-[0-9]*"):
            shutil.rmtree(stale)
        recipe_of(config).run(config)
    metrics = metrics_of(config.out)
    points = []
    for step, folder in evaluated_checkpoints(config.out, metrics[-1]["step"], plan.checkpoints):
        values = measured(evaluation(plan, f"{name}-{step}", str(folder), seed=seed))
        seconds = next(row["seconds"] for row in metrics if row["step"] >= step)
        points.append(Point(step, against(start, values), seconds, entry.cost(step)))
    alarms = [{"seed": seed, **row} for row in alarms_of(config.out)]
    return Trial(entry.label, seed, points, alarms)


def evaluated_checkpoints(out: Path, last: int, count: int) -> list[tuple[int, Path]]:
    """`count` of a run's checkpoints, as evenly spread over its steps as they are; the last is the finished model."""
    saved = {int(f.name): f for f in (out / "checkpoints").glob("[0-9]*")} | {last: out}
    wanted = (last * (k + 1) / count for k in range(count))
    nearest = {min(saved, key=lambda step: (abs(step - target), step)) for target in wanted}
    return [(step, saved[step]) for step in sorted(nearest)]


def measured(config: evaluate.Config) -> Values:
    """What an evaluation found for each prompt. It is made once, and again where its settings have changed."""
    settings, noted = plain(config), config.out / "config.yaml"
    done = noted.exists() and (config.out / "evaluation.json").exists()
    old = yaml.safe_load(noted.read_text(encoding="utf-8")) if done else None
    if old is None or any(old.get(k) != v for k, v in settings.items() if k not in HABITS):
        _empty(config.out)
        evaluate.run(config)
        # Last: an evaluation without it is made again.
        write_text(noted, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    rows = read_samples(config.out / "samples.jsonl")
    values: Values = {}
    for name in ("gold", "reward", "kl", "win"):
        numbers = [float(row[name]) for row in rows if name in row]
        if numbers and len(numbers) < len(rows):
            raise UserError(
                f"{config.out}: {len(rows) - len(numbers)} of {len(rows)} responses have no {name}, since what "
                "measures it abstains; compare needs it of each prompt"
            )
        if numbers:
            values["win_rate" if name == "win" else name] = numbers
    values["length"] = [float(len(row["tokens"])) for row in rows]
    overall = json.loads((config.out / "evaluation.json").read_text(encoding="utf-8"))
    if "kl" not in values and "kl" in overall:  # one estimate from all prompts together
        values["kl"] = [overall["kl"]]
    return values


def _empty(folder: Path) -> None:
    """All but the answers that an interrupted evaluation has paid for."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != ANSWERS:
            path.unlink()


def against(start: Values, values: Values) -> Values:
    """Adds the wins against the start's response to the same prompt, where there is a gold score and no judge."""
    if "gold" not in values or "win_rate" in values:  # a judge has said who wins
        return values
    return values | {"win_rate": wins(values["gold"], start["gold"])}


def hypervolumes(trials: Sequence[Trial], start: Values) -> dict[str, list[float]]:
    """Label → of each run, the area of score (gold, else reward) above the start's under all budgets of KL, the largest
    being the most that any point of this comparison spent."""
    y = "gold" if "gold" in start else "reward"
    runs = [(t.label, [(fmean(p.values["kl"]), fmean(p.values[y])) for p in t.points])
            for t in trials if t.points and all({"kl", y} <= p.values.keys() for p in t.points)]  # fmt: skip
    budget = max((kl for _, points in runs for kl, _ in points), default=0.0)
    found: dict[str, list[float]] = {}
    for label, points in runs:
        area = hypervolume(points, budget, fmean(start[y])) if budget > 0 else 0.0
        found.setdefault(label, []).append(area)
    return found


def summary(trials: Sequence[Trial], areas: Sequence[float] | None = None) -> dict[str, Any]:
    """A label's points as means over seeds with intervals, its alarms and its failures; the last point has the area
    under the label's frontier."""
    by_step: dict[int, list[Point]] = {}
    for point in (p for t in trials for p in t.points):
        by_step.setdefault(point.step, []).append(point)
    points = [_summary(by_step[step]) for step in sorted(by_step)]
    if points and areas:
        points[-1]["hypervolume"] = _measure([[area] for area in areas])
    return {
        "points": points,
        "runs": sum(t.failed is None for t in trials),
        "alarms": [alarm for t in trials for alarm in t.alarms],
        "failed": [{"seed": t.seed, "why": t.failed} for t in trials if t.failed is not None],
    }


def _summary(points: Sequence[Point]) -> dict[str, Any]:
    measures = {name: _measure([p.values[name] for p in points]) for name in points[0].values}
    measures["seconds"] = _measure([[p.seconds] for p in points])
    return {"step": points[0].step, **asdict(points[0].cost), **measures}


def _measure(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """`seeds` are the means of the runs; `ci` is of their mean, over seeds and prompts; none of a single number."""
    means = [fmean(v) for v in values]
    alone = len(values) * len(values[0]) == 1
    return {"mean": fmean(means), "ci": None if alone else crossed_ci(values), "seeds": means}


def _people(plan: Plan) -> dict[str, Any]:
    """Gold of what people answered, where that was asked for and there is gold."""
    if plan.people is None:
        return {}
    told = json.loads((plan.out / "eval" / "start" / "evaluation.json").read_text(encoding="utf-8"))
    gold = (
        {"mean": told["baseline_gold"], "ci": told["baseline_gold_ci"]}
        if "baseline_gold" in told
        else None
    )
    return {"people": {"gold": gold} if gold else {}}


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _say(sentence: str) -> None:
    print(f"compare: {sentence}", file=sys.stderr, flush=True)
