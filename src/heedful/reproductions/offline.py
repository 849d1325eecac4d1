"""Learning from the same logged episodes in several ways: cloning all of them or the best, values (ILQL), playing for a
return; and reinforcement in the environment itself, which logs do without, as the most that there is to reach."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.reproductions import Criterion, Figure, Result

BEST = 0.3  # share of the episodes that filtered cloning learns from
MODEL = {"layers": 2, "heads": 4}
CRITERIA = (
    Criterion("BC at T = 1 no worse than the data", "BC at T = 1 less data", "at least", -0.25),
    Criterion("and no better: it clones", "BC at T = 1 less data", "at most", 0.25),
    Criterion("filtered BC above BC", "filtered BC less BC", "at least", 0.0, "interval"),
    Criterion("ILQL above filtered BC", "ILQL less filtered BC", "at least", 0.0, "interval"),
)
VALUES = {"q_weight": 0.1, "v_weight": 0.1, "cql_weight": 0.01, "polyak": 0.2}


@dataclass(frozen=True)
class Stage:
    """A model that is trained, and the arms at which it is sampled."""

    command: str
    start: str
    """The stage it begins with, or `model`, of random weights."""
    data: str
    """`all` or `best` of the episodes; empty where it plays itself."""
    how: Mapping[str, Any]
    arm: str
    """The flag of `sample` that the arms are values of."""
    arms: Sequence[float]
    sampled: Mapping[str, Any] | None = None
    """More flags of `sample`."""


def cloning(
    start: str, data: str, rate: float, epochs: int, temperatures: Sequence[float], batch: int = 16
) -> Stage:
    """The likelihood of episodes and nothing else: by `train ilql` without values, which takes them whole."""
    how = {
        "q_weight": 0.0,
        "v_weight": 0.0,
        "cql_weight": 0.0,
        "learning_rate": rate,
        "epochs": epochs,
        "batch_size": batch,
    }
    return Stage("train ilql", start, data, how, "temperature", temperatures, {"value_weight": 0.0})


@dataclass(frozen=True)
class Logs:
    """What is logged and how often, and what learns from it."""

    env: Mapping[str, Any]
    """`env` and `env_options`."""
    player: str
    """The scripted one whose episodes are logged."""
    episodes: int
    turns: int
    """After so many an episode is over; one that a limit ended has cost 1 for each."""
    width: int
    """Of the model."""
    vocabulary: int
    """At most so many tokens."""
    context: int
    longest: int
    """Tokens of a turn in an evaluation."""
    repeats: int
    """Episodes from each beginning in an evaluation."""
    stages: Mapping[str, Stage]


def compared(logs: Logs, seed: int, folder: Path, quick: bool) -> dict[str, Any]:
    """The mean return of the episodes and of each stage at its best arm, and by arm; what cloning at T = 1 has more
    than the data. `quick` is a few episodes, an epoch, two steps."""
    from heedful.data.files import write_rows

    count = 40 if quick else logs.episodes
    rows = played(logs, seed, folder / "all.jsonl", count)
    best = sorted(rows, key=lambda row: worth(row, logs.turns), reverse=True)
    write_rows(folder / "best.jsonl", best[: round(BEST * count)])
    made(logs, seed, folder, rows)
    data = fmean(worth(row, logs.turns) for row in rows)
    found: dict[str, Any] = {"data": data}
    for name, stage in logs.stages.items():
        trained(logs, seed, folder, name, quick)
        returns = {str(arm): evaluated(logs, seed, folder, name, arm, quick) for arm in stage.arms}
        found |= {f"{name}, by arm": returns, name: max(returns.values())}
        if name == "BC":
            found["BC at T = 1 less data"] = returns["1.0"] - data
    return found | {
        "filtered BC less BC": found["filtered BC"] - found["BC"],
        "ILQL less filtered BC": found["ILQL"] - found["filtered BC"],
        "online RL less ILQL": found["online RL"] - found["ILQL"],
    }


def played(logs: Logs, seed: int, path: Path, count: int) -> list[dict[str, Any]]:
    """So many episodes by the scripted player, anew in a file."""
    from heedful.api import run as heedful

    path.unlink(missing_ok=True)
    heedful(
        "play", **logs.env, player=logs.player, limit=count, max_turns=logs.turns, out=path, seed=seed
    )  # fmt: skip
    return rows_of(path)


def made(logs: Logs, seed: int, folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A model of random weights, whose tokens are the words of the episodes."""
    from heedful.models.new import new_model, train_tokenizer
    from heedful.models.save import save_model

    texts = [message["content"] for row in rows for message in row["messages"]]
    tokenizer = train_tokenizer(texts, logs.vocabulary)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    size = {**MODEL, "hidden_size": logs.width, "context": logs.context}
    model = new_model("llama", tokenizer, **size, seed=seed)
    save_model(model, tokenizer, folder / "model")


def trained(logs: Logs, seed: int, folder: Path, name: str, quick: bool) -> None:
    """One of the stages."""
    from heedful.api import run as heedful

    stage = logs.stages[name]
    how = dict(stage.how)
    if stage.data:
        how |= {"data": str(folder / f"{stage.data}.jsonl"), "held_out": 0.0}
        how |= {"epochs": 1} if quick else {}
    else:
        how |= {**logs.env, "max_turns": logs.turns, "max_tokens": logs.longest}
        # Without it the policy learns to say too much in its first turn, which ends a game before it has cost anything.
        how |= {"missing_eos_penalty": float(logs.turns)}
        how |= {"steps": 2} if quick else {}
    heedful(
        stage.command, model=str(folder / stage.start), out=folder / name, seed=seed, schedule="cosine",
        quiet=True, report_to="none", **how,
    )  # fmt: skip


def evaluated(logs: Logs, seed: int, folder: Path, name: str, arm: float, quick: bool) -> float:
    """The mean return from all beginnings of the episodes."""
    from heedful.api import run as heedful

    stage, out = logs.stages[name], folder / f"{name}-{arm}.jsonl"
    heedful(
        "sample", model=str(folder / name), **logs.env, n=2 if quick else logs.repeats, max_turns=logs.turns,
        max_tokens=logs.longest, seed=1000 + seed, out=out, quiet=True, **{stage.arm: arm}, **(stage.sampled or {}),
    )  # fmt: skip
    return fmean(worth(row, logs.turns) for row in rows_of(out))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The transcripts of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def worth(row: Mapping[str, Any], turns: int) -> float:
    """The return of an episode; one that a limit ended, also by too long an answer, has cost every turn."""
    return row["reward"] if row["ended"] == "terminated" else -float(turns)


def drawn(seeds: Sequence[Result], title: str, cost: str, most: str) -> Figure:
    """Each way's return at its best arm, over the seeds; `most` is what there is to reach. What every seed measured."""
    names = ("data", "BC", "filtered BC", "return-conditioned", "ILQL", "online RL", most)
    return Figure(
        title=title,
        x="seed",
        y=f"mean return ({cost})",
        lines={
            name: [(float(s["seed"]), s[name]) for s in seeds]
            for name in names
            if all(name in s for s in seeds)
        },
    )
