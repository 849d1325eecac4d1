"""What a run will need on given GPUs: memory by part, seconds by part, and which flag to change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.configs import command_line, commands
from heedful.configs.common import Sharded
from heedful.configs.config_file import command_in
from heedful.configs.plan import Config
from heedful.errors import UserError
from heedful.planning import memory
from heedful.planning.gpus import GIB, cluster
from heedful.planning.plan import Plan, changes, flag, plan, remedies

USUAL = 256  # tokens of a response where nothing says
FORMULAS = {
    "weights": "float32 4 · P, bfloat16 2 · P, in --lora.nf4 0.52 · P; with --shard trained ones 4 · P / ranks",
    "float32 weights": "4 · trained: what the optimiser moves where weights are bfloat16",
    "optimiser (Adam)": "8 · trained (/ ranks with --shard)",
    "gradients": "4 · trained of earlier micro-batches (/ ranks: --shard-sync every); else what exceeds activations",
    "gathered": "what is not in layers, a layer and two messages of its size; its gradients before they are summed",
    "reference": "a frozen copy; none with LoRA alone",
    "policy to sample from": "a whole copy in the run's type, with --shard",
    "keys and values": "2 · layers · key heads · head size · rows decoded at once · tokens of prompt and response",
    "activations": "counted in a pass of one micro-batch, forward and backward, on tensors without content",
}


def run(config: Config) -> None:
    """Prints the plan, and in its last line whether it fits, or with which flags."""
    gpus = cluster(config.gpus)
    run_config = read(config.config, config.flags)
    response = config.response_tokens or getattr(run_config, "max_tokens", USUAL)
    how = (config.prompt_tokens, response, config.efficiency)
    planned = plan(run_config, gpus, *how)
    print("\n".join(lines(planned, config.explain)))
    print(verdict(planned, remedies(planned, *how)))


def verdict(planned: Plan, tried: list[Plan]) -> str:
    """Whether it fits, else what to add, one flag after the other."""
    of = f"{gib(planned.most)} of {gib(planned.room)} GiB"
    if planned.fits:
        return f"fits: {of}"
    told, rows = "", [f"does not fit: {of}"]
    for candidate, words in zip(tried, said(planned, tried), strict=True):
        told += f" {words}"
        rows.append(f"  with{told}: {gib(candidate.most)} GiB" + ", which fits" * candidate.fits)
    if not tried or not tried[-1].fits:
        rows.append("no flag makes it fit: take more GPUs, or larger ones")
    return "\n".join(rows)


def said(planned: Plan, tried: list[Plan]) -> list[str]:
    """Each remedy's flag."""
    before, words = planned.config, []
    for candidate in tried:
        options = changes(before, planned.cluster)
        words.append(
            next(flag(c) for c in options if all(getattr(candidate.config, k) == v for k, v in c.items()))
        )  # fmt: skip
        before = candidate.config
    return words


def read(path: Path, flags: str) -> Any:
    """The config of the run that a file describes. UserError for a command that nobody can plan."""
    name = command_in(["--config", str(path)])
    if name is None:
        raise UserError(f"{path} does not say which command it is of: command: train sft")
    found = commands.command(name)
    if not issubclass(found.flags.Config, Sharded):
        raise UserError(
            f"{path} is of heedful {name}; plan knows train sft, reward, dpo and its kin, ppo and the other policy "
            "gradients"
        )
    args = ["--config", str(path), *shlex.split(flags)]
    return command_line.parse(
        found.flags.Config, args, prog=f"heedful {name}", preset=found.sets
    ).config


def lines(planned: Plan, explain: bool) -> list[str]:
    """The plan as text."""
    todo, gpus = planned.work, planned.cluster
    many = f"{gpus.machines} machines of " * (gpus.machines > 1) + f"{gpus.each} × {gpus.name}"
    shown = [
        f"{many}: {todo.rows} rows and {todo.tokens:,} tokens a step on each, {todo.at_once:,} at once",
        "",
        *_table("memory of a rank while it trains, GiB", planned.training, explain),
    ]
    if planned.sampling:
        shown += ["", *_table("while it samples, GiB", planned.sampling, explain)]
    whole = sum(planned.seconds.values())
    by_part = ", ".join(f"{k} {x:.2g}" for k, x in planned.seconds.items())
    shown += [
        "",
        f"a step: {whole:.2g} s at most ({by_part}; computing and sending overlap in part); {planned.flops / 1e12:.3g} "
        f"TFLOP and {planned.sent / 1e9:.3g} GB sent by each rank",
    ]
    if explain:
        shown.append(
            "computing = TFLOP / (peak × --efficiency); sending = bytes / the slowest link; sampling = reading all "
            "weights and half of the keys and values for each token. Peaks and links are those of data sheets."
        )
    return [*shown, ""]


def _table(title: str, parts: Mapping[str, float], explain: bool) -> list[str]:
    wide = max(map(len, parts))
    rows = [title]
    for name, size in parts.items():
        why = FORMULAS.get(name.rpartition(": ")[2], "4 · P, whole" if "reward" in name else "")
        rows.append(f"  {name:<{wide}} {gib(size):>8}" + f"   {why}" * explain)
    return [*rows, f"  {'all':<{wide}} {gib(memory.total(parts)):>8}"]


def gib(size: float) -> str:
    """GiB with three digits."""
    return f"{size / GIB:.3g}" if size < 1000 * GIB else f"{size / GIB:.0f}"
