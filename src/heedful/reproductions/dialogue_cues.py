"""Dialogue: what users say next teaches more than the few votes they give; and asking questions for their own sake ends
in a string of question words unless the policy is kept near its start."""

from __future__ import annotations

import asyncio
import json
import random
import re
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
# Of the arms that are rewarded for asking, which go on until it is seen what becomes of them; and their β.
LONG: dict[str, Any] = {"steps": 120, "learning_rate": 3e-3}
FIRM = 0.3
COUNTED = f"cues={__name__}:asked"
MODEL: dict[str, Any] = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 160}
# Name → (options of the environment, β, what else).
ARMS: dict[str, tuple[tuple[str, ...], float, dict[str, Any]]] = {
    "next turn": (("reward=cues", "cues=sentiment"), KL, {}),
    "votes, natural": (("reward=votes", f"density={NATURAL}"), KL, {}),
    "next turn, as dense as votes": (("reward=cues", "cues=sentiment", f"density={NATURAL}"), KL, {}),
    "votes, all": (("reward=votes",), KL, {}),
    "questions, without KL": (("reward=cues", COUNTED), 0.0, LONG),
    "questions, with KL": (("reward=cues", COUNTED), FIRM, LONG),
}  # fmt: skip


def asked(reply: str, heard: str | None, before: str) -> float:
    """Question words and marks of a reply, of as many as it may have tokens: the cue `questions` without its limit of
    four, beyond which nothing is left to optimise."""
    from heedful.envs.cues import QUESTIONS

    return len(QUESTIONS.findall(reply)) / MAX_TOKENS


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
    for name, (options, beta, how) in ARMS.items():
        out = folder / name.replace(", ", "-").replace(" ", "-")
        if not (out / "config.json").exists():
            how = {"steps": ROUNDS, "learning_rate": 1e-3, **how}
            how["steps"] = max(2, how["steps"] // few)
            hd.run("train grpo", model=str(start), out=out, env="dialogue",
                   env_options=(f"turns={TURNS}", f"kinds={KINDS}", *options), max_turns=TURNS,
                   max_tokens=MAX_TOKENS, batch_size=64, group_size=8, beta=beta, **how, **common)  # fmt: skip
        found |= measured(name, out, folder, seed, few)
    kept, lost = (found[f"questions, {how} KL: distinct-2"] for how in ("with", "without"))
    return found | {
        "next turn − natural votes": found["next turn: gold"] - found["votes, natural: gold"],
        "without KL, of the start's distinct-2": lost / found["start: distinct-2"],
        "with KL, of the start's distinct-2": kept / found["start: distinct-2"],
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
    """Of replies to held-out questions: gold, the shares that are right and rude, how much they ask, the share of
    different replies, and of different pairs among all pairs of neighbours, words or marks (distinct-2)."""
    import heedful as hd
    from heedful.evals.texts import distinct

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
    apart = [re.sub(r"([^\w\s])", r" \1 ", reply.lower()) for reply in replies]
    return {f"{name}: {what}": per_reply(what) for what in names} | {
        f"{name}: distinct": len(set(replies)) / len(replies),
        f"{name}: distinct-2": distinct(apart, 2),
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
    "of all; beside them the next turn of 1 %. Then the number of question words and marks is the reward, "
    f"without KL and with (β = {FIRM:g}), {LONG['steps']} rounds at three times the learning rate. "
    "This is a second try. In the first such replies were worth no more from the fourth question word on, and those "
    "without KL stayed as often different as at the start (1.13 of it, where .2 was allowed); now there is no limit. A "
    "pilot with another seed then showed that different replies do not tell what becomes of a policy: `what what what "
    "whom what` was another one with each `whom`, .93 of all. So now it is pairs of words, as Li et al. 2016 count "
    "them, .08 of the start's in that pilot, with the same thresholds; rounds, learning rate and β are from it.",
    frozen="2026-11-30",
    criteria=(
        Criterion("gold, next turn − votes at their natural density", "next turn − natural votes", "at least", 0.0,
                  "interval"),
        Criterion("different pairs of words without KL, of the start's", "without KL, of the start's distinct-2",
                  "at most", 0.2),
        Criterion("different pairs of words with KL, of the start's", "with KL, of the start's distinct-2",
                  "at least", 0.5),
        Criterion("asks more with KL than at the start", "with KL, asks − start", "at least", 0.0, "interval"),
    ),
    run=run,
    minutes=6,
    figure=figure,
)  # fmt: skip
