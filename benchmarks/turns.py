"""`python -m benchmarks.turns [--size tiny]`: 64 episodes with a calculator beside sampling in one turn, on one engine.

The model of the task `tools`, which has learned a call and an answer by heart, plays 64 episodes side by side; beside
them it writes 64 responses behind the same openings, once of as many tokens as an episode's turns have (`ratio`: the
tokens that are sampled a second, by those of one turn), and once as long as an episode is altogether, with what the
tool says (`ratio_as_long`: of sequences of equal lengths). What stands between is the price of turns: reading what the
tool has said, rendering it, keys and values kept and put back. The three take turns, in one process and one thread;
seconds are those of the process's own work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import tools
from benchmarks.inputs import SEED, SIZES, build
from benchmarks.job import add_line, lines_file, positive
from benchmarks.run import ROOT, cpu_model

EPISODES = 64


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    p.add_argument("--size", choices=list(SIZES), default="tiny")
    p.add_argument("--repeats", type=positive, default=9)
    p.add_argument("--cache", type=Path, default=ROOT / "benchmarks/.cache")
    p.add_argument("--out", type=lines_file, help="append the line to this file")
    args = p.parse_args(argv)
    folder = build(args.size, args.cache)
    tools.build(folder, SIZES[args.size], SEED)
    about = {"task": "turns", "impl": "heedful", "size": args.size, "threads": 1}
    add_line({**about, "cpu": cpu_model(), **measured(folder / tools.NAME, args.repeats)}, args.out)
    return 0


def measured(folder: Path, repeats: int) -> dict[str, Any]:
    """Tokens a second of the three, and their ratios."""
    import torch

    import heedful as hd
    from heedful.envs.tools import tool_env
    from heedful.rollout import rollout
    from heedful.types import Sample, Sampling

    torch.set_num_threads(1)
    model, tokenizer = hd.load_policy(folder / "model"), hd.load_tokenizer(folder / "model")
    rows = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [tuple(hd.Message(**m) for m in json.loads(row)["prompt"]) for row in rows]
    engine, batch = hd.load_engine(model), hd.tasks(tokenizer, prompts)
    env = tool_env(tools.calculate, score=lambda task, reply: 0.0)

    common: dict[str, Any] = {"n": EPISODES // len(batch), "sampling": Sampling()}

    def play(seed: int) -> list[Sample]:
        how = {"env": env, "limits": hd.Limits(turns=tools.TURNS), "max_tokens": tools.TURN}
        return asyncio.run(rollout(engine, batch, tokenizer, seed=seed, **how, **common))

    first = play(0)
    openings = {s.group: s.tokens[: s.steps[0].start] for s in first}
    alone = [replace(t, stop=(), tokens=openings[i]) for i, t in enumerate(batch)]

    def write(tokens: int) -> Callable[[int], list[Sample]]:
        how = {"max_tokens": tokens, **common}
        return lambda seed: asyncio.run(rollout(engine, alone, tokenizer, seed=seed, **how))

    own = round(sum(sum(s.mask) for s in first) / len(first))
    longer = round(sum(len(s.tokens) - s.steps[0].start for s in first) / len(first))
    sides = {"episodes": play, "one_turn": write(own), "as_long": write(longer)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    sampled = dict.fromkeys(sides, 0)
    for seed in range(repeats + 1):  # the first warms up
        for name, side in sides.items():
            began = time.process_time()
            samples = side(seed)
            seconds[name].append(time.process_time() - began)
            sampled[name] = sum(sum(s.mask) for s in samples)
    spent = {name: values[1:] for name, values in seconds.items()}
    each = zip(*spent.values(), strict=True)
    by_turn, by_length = zip(
        *((one / e * sampled["episodes"] / sampled["one_turn"], long / e) for e, one, long in each),
        strict=True,
    )
    return {
        "episodes": len(first),
        "turns": sum(len(s.steps) for s in first) / len(first),
        "opening": len(openings[0]),
        "tokens": {"own": own, "with_the_tools": longer},
        "tokens_per_second": {n: round(sampled[n] / median(v)) for n, v in spent.items()},
        "ratio": spread(by_turn),
        "ratio_as_long": spread(by_length),
        "repeats": repeats,
    }


def spread(ratios: tuple[float, ...]) -> dict[str, float]:
    return {"min": min(ratios), "median": median(ratios), "max": max(ratios)}


if __name__ == "__main__":
    sys.exit(main())
