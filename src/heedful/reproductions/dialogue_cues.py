"""Dialogue: what users say next teaches more than the few votes they give; and asking questions for their own sake ends
in a string of question words unless the policy is kept near its start."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

KINDS = "opposite animal"
TURNS, MAX_TOKENS = (
    1,
    24,
)  # of one: else a rude reply, after which users leave, spares the next bad one its reward
SHOWN, ROUNDS = 4000, 40  # conversations that are imitated, rounds of GRPO
NATURAL = 0.01  # the share of replies that get a vote
ASKED = 68  # held-out tasks
KL = 0.1  # β where the policy is kept near its start
MODEL: dict[str, Any] = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 160}
# Name → (options of the environment, β).
ARMS: dict[str, tuple[tuple[str, ...], float]] = {
    "next turn": (("reward=cues", "cues=sentiment"), KL),
    "votes, natural": (("reward=votes", f"density={NATURAL}"), KL),
    "next turn, as dense as votes": (("reward=cues", "cues=sentiment", f"density={NATURAL}"), KL),
    "votes, all": (("reward=votes",), KL),
    "questions, without KL": (("reward=cues", "cues=questions"), 0.0),
    "questions, with KL": (("reward=cues", "cues=questions"), KL),
}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A model of random weights imitates replies of every kind; from there each arm is optimised in as many
    conversations, and measured on questions of no training. A stage that is there is not made again."""
    import heedful as hd

    few = 20 if quick else 1
    common = {"seed": seed, "quiet": True, "report_to": "none"}
    start = folder / "start"
    if not (start / "config.json").exists():
        begun(seed, folder, SHOWN // few)
        hd.run("train sft", model=str(folder / "model"), data=str(folder / "shown.jsonl"), out=start, epochs=1,
               learning_rate=4e-3, batch_size=32, schedule="cosine", held_out=0.01, **common)  # fmt: skip
    found: dict[str, float] = measured("start", start, folder, seed, few)
    for name, (options, beta) in ARMS.items():
        out = folder / name.replace(", ", "-").replace(" ", "-")
        if not (out / "config.json").exists():
            hd.run("train grpo", model=str(start), out=out, env="dialogue",
                   env_options=(f"turns={TURNS}", f"kinds={KINDS}", *options), max_turns=TURNS,
                   max_tokens=MAX_TOKENS, steps=max(2, ROUNDS // few), batch_size=64, group_size=8,
                   learning_rate=1e-3, beta=beta, **common)  # fmt: skip
        found |= measured(name, out, folder, seed, few)
    kept, lost = (found[f"questions, {how} KL: distinct"] for how in ("with", "without"))
    return found | {
        "next turn − natural votes": found["next turn: gold"] - found["votes, natural: gold"],
        "without KL, of the start's different replies": lost / found["start: distinct"],
        "with KL, of the start's different replies": kept / found["start: distinct"],
        "with KL, asks − start": found["questions, with KL: asks"] - found["start: asks"],
    }


def begun(seed: int, folder: Path, count: int) -> None:
    """Conversations by a player of every voice, and a model of random weights whose tokens are their words."""
    from heedful.data.episodes import transcript_row
    from heedful.data.files import write_rows
    from heedful.envs import load_env
    from heedful.envs.plain import played_by
    from heedful.models.new import new_model, train_tokenizer
    from heedful.models.save import save_model

    env: Any = load_env("dialogue", [f"turns={TURNS}", f"kinds={KINDS}", "reward=votes"])
    tasks, rng = list(env.tasks("train", seed)), random.Random(f"dialogue-cues/{seed}")
    rows = []
    for i in range(count):
        task = tasks[i % len(tasks)]
        work = played_by(env, task, env.players["mixed"](task, rng), seed=i)
        rows.append(transcript_row(asyncio.run(work), i, "mixed", seed))
    write_rows(folder / "shown.jsonl", rows)
    tokenizer = train_tokenizer((m["content"] for row in rows for m in row["messages"]), 900)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    save_model(new_model("llama", tokenizer, **MODEL, seed=seed), tokenizer, folder / "model")


def measured(name: str, model: Path, folder: Path, seed: int, few: int) -> dict[str, float]:
    """Of replies to held-out questions: gold, the shares that are right and rude, how much they ask, and the share of
    replies that no other one repeats word by word."""
    import heedful as hd

    out = folder / "measured" / name.replace(", ", "-").replace(" ", "-")
    if not (out / "evaluation.json").exists():
        hd.run("evaluate", model=str(model), out=out, env="dialogue", max_turns=TURNS, max_tokens=MAX_TOKENS,
               env_options=(f"turns={TURNS}", f"kinds={KINDS}", "reward=votes"), n=4, limit=max(8, ASKED // few),
               seed=seed, quiet=True)  # fmt: skip
    rows = [json.loads(line) for line in (out / "transcripts.jsonl").read_text().splitlines()]
    replies = [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"]
    count = sum(row["counts"].get("replies", 0) for row in rows) or 1

    def per_reply(what: str) -> float:
        return sum(row["counts"].get(what, 0) for row in rows) / count

    names = ("gold", "right", "rude", "asks")
    return {f"{name}: {what}": per_reply(what) for what in names} | {
        f"{name}: distinct": len(set(replies)) / len(replies)
    }


def figure(seeds: Sequence[Result]) -> Figure:
    """Gold of each arm, over the seeds."""
    names = ("start", *(name for name in ARMS if not name.startswith("questions")))
    return Figure(
        title="What replies to held-out questions are worth",
        x="seed",
        y="mean gold of a reply",
        lines={n: [(float(s["seed"]), s[f"{n}: gold"]) for s in seeds] for n in names},
    )


REPRODUCTION = Reproduction(
    name="dialogue-cues",
    claim="A reward from how users take a reply, read from their next turn, gains more than the votes that few of "
    "them give. Rewarded for asking questions, a policy ends in repeating them, unless KL keeps it near its start.",
    source="Jaques et al. 2019 (arXiv:1907.00456), sections 5 and 6; votes at 1 % of the replies",
    what="`dialogue`: simulated users ask about opposites and animals, and show their mood in words; a tenth of what "
    "they say is in another mood's. A Llama of two layers, 64 wide, made on the spot, imitates conversations in every "
    f"voice, from right to rude; {ROUNDS} rounds of GRPO, 64 conversations of a question, a reply and the next turn "
    "each. The reward is VADER's score of the next turn, or a thumb by what the reply was worth, of 1 % of replies or "
    "of all; beside them the next turn of 1 %. Then question words and marks as the reward, without KL and with.",
    frozen="2026-11-29",
    criteria=(
        Criterion("gold, next turn − votes at their natural density", "next turn − natural votes", "at least", 0.0,
                  "interval"),
        Criterion("different replies without KL, of the start's", "without KL, of the start's different replies",
                  "at most", 0.2),
        Criterion("different replies with KL, of the start's", "with KL, of the start's different replies",
                  "at least", 0.5),
        Criterion("asks more with KL than at the start", "with KL, asks − start", "at least", 0.0, "interval"),
    ),
    run=run,
    minutes=6,
    figure=figure,
)  # fmt: skip
