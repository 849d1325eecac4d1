"""The demo: the whole loop on the embedded world, each stage by the same code as its own command.

Only the evaluations, after all training, see the gold scores; the raters that rank the samples stand
for people, and what they say is all that the reward model, DPO and PPO learn from.

A stage that is done is not done again, and each goes on as its own command does: a demo that was stopped or killed ends
in the same numbers as one that was not.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from heedful import __version__, worlds
from heedful.configs import demo_stages
from heedful.configs.demo import Config
from heedful.data.files import write_json
from heedful.data.sources import prompt_of, read_rows
from heedful.disk import PARTIAL, discard
from heedful.errors import Stopped, UserError
from heedful.evals.statistics import win_rate
from heedful.recipes import (
    demo_workspace,
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
from heedful.run import finished

MARKER = "results.json"
BEGUN = "demo.json"  # how far a demo has come, there from the beginning
RIGHT = ("right and short", "right but wordy")


def run(config: Config) -> Path:
    """Returns the folder; `results.json` in it holds every number of the report."""
    out = config.out
    begun = _begun(config)
    size = demo_stages.sizes(config.quick)
    stages = demo_stages.demo(out, seed=config.seed, quick=config.quick, quiet=config.quiet)
    commands: list[dict[str, str]] = []

    def stage(name: str, command: str, module, its_config) -> None:
        commands.append({"stage": name, "command": command_line(command, its_config)})
        makes = its_config.out.relative_to(out).as_posix()
        if makes in begun["done"] and its_config.out.exists():
            return
        print(f"── {name}: {commands[-1]['command']}", file=sys.stderr, flush=True)
        try:
            with _noted(out, begun, name, makes):
                if not finished(its_config.out):  # as it is where it died between the two
                    module.run(its_config)
        except Stopped as stop:
            sentence = f"stopped in the demo's stage {name}; the same command goes on"
            raise Stopped(sentence, stop.signal) from None

    stage("world", "world", world, stages.world)
    stage("pretrain", "train pretrain", pretrain, stages.pretrain)
    stage("sft", "train sft", sft, stages.sft)
    stage("sample", "sample", sample, stages.sample)
    stage("judge", "judge", judge, stages.judge)
    stage("sample", "sample", sample, stages.sample_held_out)
    stage("judge", "judge", judge, stages.judge_held_out)
    stage("reward", "train reward", reward_model, stages.reward)
    stage("dpo", "train dpo", preference, stages.dpo)
    stage("ppo", "train ppo", policy, stages.ppo)
    for its_config in stages.evaluations.values():
        stage("evaluate", "evaluate", evaluate, its_config)
    evaluations = {name: _evaluated(c) for name, c in stages.evaluations.items()}
    with _noted(out, begun, "evaluate", "frontier"):
        frontier = _frontier(config, stages, evaluations)
    with _noted(out, begun, "workspace", "heedful.db"):
        demo_workspace.run(out, judged=size.judged, asked=size.asked)
    rows = {
        name: [r for _, r in read_rows(c.out / "samples.jsonl")]
        for name, c in stages.evaluations.items()
    }
    seconds = {**begun["seconds"], "total": sum(begun["seconds"].values())}
    results = {
        "title": "heedful: the whole loop on capitals",
        "world": "capitals",
        "seed": config.seed,
        "quick": config.quick,
        "versions": {
            "heedful": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
        },
        "machine": machine(),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_gib": round(begun["peak_gib"], 3),
        "commands": commands,
        "stages": {name: _summary(name, evaluations[name], rows) for name in evaluations},
        "reward_model": _reward_model(out, stages),
        "frontier": frontier,
        "samples": _side_by_side(rows),
        "runs": {name: f"runs/{name}" for name in ("pretrain", "sft", "reward", "dpo", "ppo")},
    }
    write_json(out / MARKER, results)
    return out


def command_line(name: str, config: Any) -> str:
    """The command that a config stands for: its fields that differ from the defaults, as flags."""
    return " ".join(["heedful", *name.split(), *_flags(config)])


def _flags(config: Any, prefix: str = "--") -> list[str]:
    words: list[str] = []
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            words += _flags(value, f"{prefix}{field.name}.")
        elif field.name == "name":
            words.insert(0, str(value))
        elif field.name != "quiet" and value != field.default:
            flag = prefix + field.name.replace("_", "-")
            values = value if isinstance(value, tuple) else [value]
            words += [flag] if value is True else [flag, *(shlex.quote(str(v)) for v in values)]
    return words


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory, 1)}


def peak_gib() -> float:
    """The most memory this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _begun(config: Config) -> dict[str, Any]:
    """How far an unfinished demo with these options has come; any other demo in the folder, and nothing else, is
    replaced. A folder of one that was killed at its very beginning is known, too."""
    out, asked = config.out, {"heedful": __version__, "seed": config.seed, "quick": config.quick}
    there = {p.name for p in out.iterdir() if not p.name.endswith(PARTIAL)} if out.exists() else set()  # fmt: skip
    if there and not there & {MARKER, BEGUN}:
        raise UserError(f"--out {out} is not empty and holds no demo; choose another folder")
    if BEGUN in there and MARKER not in there:
        begun = json.loads((out / BEGUN).read_text(encoding="utf-8"))
        if begun.get("asked") == asked:
            print(f"continuing the demo in {out}", file=sys.stderr, flush=True)
            return begun
    if answers := demo_workspace.answers_of_people(out):
        raise UserError(
            f"people have given {answers} answers in {out}; choose another --out, or remove it yourself"
        )
    if there or not out.exists():
        discard(out)
    begun = {"asked": asked, "done": [], "seconds": {}, "peak_gib": 0.0}
    write_json(out / BEGUN, begun)
    return begun


@contextmanager
def _noted(out: Path, begun: dict[str, Any], name: str, makes: str) -> Iterator[None]:
    """Keeps that something is made, how long it took (this process: one that was killed tells nothing), and the most
    memory so far."""
    before = time.monotonic()
    yield
    begun["seconds"][name] = begun["seconds"].get(name, 0.0) + time.monotonic() - before
    begun["peak_gib"] = max(begun["peak_gib"], peak_gib())
    begun["done"].append(makes)
    write_json(out / BEGUN, begun)


def _evaluated(config: evaluate.Config) -> dict[str, Any]:
    """What an evaluation found, made unless it is there."""
    file = config.out / "evaluation.json"
    if not file.exists():
        evaluate.run(config)
    return json.loads(file.read_text(encoding="utf-8"))


def _frontier(config: Config, stages: demo_stages.Demo, evaluations: dict) -> list[dict[str, Any]]:
    """Every checkpoint of PPO and DPO, and best-of-n, as points of KL against gold."""
    size = demo_stages.sizes(config.quick)
    points = [_point("sft", evaluations["sft"] | {"kl": 0.0}, step=0)]
    for method in ("ppo", "dpo"):
        base = stages.evaluations[method]
        for folder in sorted((Path(base.model) / "checkpoints").iterdir()):
            out = base.out.with_name(f"{method}-{folder.name}")
            at = replace(
                base, model=str(folder), out=out, limit=size.probes, baseline=None, quiet=True
            )
            points.append(_point(method, _evaluated(at), step=int(folder.name)))
    points += [
        {"method": "best_of_n", "step": None, **row} for row in evaluations["best_of_16"]["curve"]
    ]
    return points


def _point(method: str, evaluation: dict[str, Any], step: int) -> dict[str, Any]:
    keys = ("kl", "gold", "gold_ci", "reward")
    return {"method": method, "step": step, "n": None, **{k: evaluation[k] for k in keys}}


def _summary(name: str, evaluation: dict[str, Any], rows: dict[str, list[dict]]) -> dict[str, Any]:
    voices = {
        voice: evaluation["voices"].get(voice, 0.0) for voice in worlds.get("capitals").VOICES
    }
    rate, interval = evaluation.get("win_rate"), evaluation.get("win_rate_ci")
    if name == "base":  # its prompts are written as raw text, so they are paired by position
        rate, interval = win_rate(*([r["gold"] for r in rows[n]] for n in ("base", "sft")))
    return {
        "gold": evaluation["gold"],
        "gold_ci": evaluation["gold_ci"],
        "accuracy": sum(voices[v] for v in RIGHT),
        "rude": voices["rude"],
        "length": evaluation["length"],
        "kl": 0.0 if name == "sft" else evaluation.get("kl"),
        "win_rate": 0.5 if name == "sft" else rate,
        "win_rate_ci": interval,
        "voices": voices,
        "n": evaluation["prompts"],
    }


def _reward_model(out: Path, stages: demo_stages.Demo) -> dict[str, Any]:
    """Accuracy on comparisons of held-out prompts, as the recipe measured it."""
    evaluation = json.loads((stages.reward.out / "evaluation.json").read_text(encoding="utf-8"))
    comparisons = sum(1 for _ in read_rows(out / "comparisons.jsonl"))
    # `loss` is the name of what was fitted; evaluation.json has its value on held-out pairs under the same key.
    return {**evaluation, "loss": stages.reward.loss, "train_comparisons": comparisons}


def _side_by_side(rows: dict[str, list[dict]], most: int = 24) -> list[dict[str, Any]]:
    """The same held-out prompts through every stage."""
    answer = worlds.get("capitals").answer
    table = []
    for i, row in enumerate(rows["sft"][:most]):
        prompt = prompt_of("samples", row)
        responses = {
            name: {
                "text": rs[i]["completion"],
                "gold": rs[i]["gold"],
                "reward": rs[i].get("reward"),
                "voice": rs[i]["voice"],
            }
            for name, rs in rows.items()
        }
        text = prompt if isinstance(prompt, str) else prompt[-1].content
        table.append({"prompt": text, "answer": answer(prompt), "responses": responses})
    return table
