"""Tools: what a policy cannot know or do in its head it can with a tool, and reinforcement teaches it to ask."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

ENVS: Mapping[str, tuple[str, ...]] = {"calculator": ("digits=2",), "lookup": ("fields=city",)}
PLAYED: dict[str, Any] = {"max_turns": 4, "max_tokens": 40}
COPIED, ABLE, SHOWN = 1000, 2400, 1600  # steps of copying, right calls, what is imitated
ROUNDS, EPISODES, GROUP = 40, 128, 16  # of GRPO; of a round, and of them of one task
CALLS, WRONG = 0.2, 0.35  # share of what is imitated that calls the tool, and of these wrongly
ASKED, TRIES = 100, 2  # held-out tasks, and episodes of each
VOCABULARY = 1000
MODEL: dict[str, Any] = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 320}
# A call and an answer in which numbers, names and towns are the same tokens, behind the same ones, as where they were
# read: what a model of two layers can copy. " Oslo" and "Oslo" are two tokens.
RIGHT = {
    "calculator": lambda row: _call("calculate", expression=f" + {row['expression']}"),
    "lookup": lambda row: _call("look_up", name=row["name"], field=row["field"]),
}
ANSWER = {"calculator": "Result:{}.", "lookup": "{}."}
ASKED_AS = {
    "calculator": lambda row: f"What is + {row['expression']}?",
    "lookup": lambda row: f'Where does "{row["name"]}" live?',
}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A model of random weights learns to copy what it reads. From it one for each environment imitates somebody who
    mostly guesses and whose calls are often wrong; then GRPO with the tool, and from the same start without it. All
    through heedful's commands; a stage that is there is not made again."""
    few = 20 if quick else 1
    if not (folder / "model" / "config.json").exists():
        begun(seed, folder, few)
    found: dict[str, Any] = {}
    for env in ENVS:
        told = of(env, seed, folder, few)
        found |= {f"{env}: {name}": value for name, value in told.items()}
    return found


def of(env: str, seed: int, whole: Path, few: int) -> Result:
    """One environment's numbers."""
    import heedful as hd

    folder, common = whole / env, {"seed": seed, "quiet": True, "report_to": "none"}
    taught: dict[str, Any] = {"epochs": 1, "batch_size": 32, "schedule": "cosine", "held_out": 0.01}
    start, able = folder / "start", folder / "able"
    if not (able / "config.json").exists():
        hd.run("train sft", model=str(whole / "model"), data=str(folder / "right.jsonl"), out=able, **taught,
               learning_rate=4e-3, **common)  # fmt: skip
    if not (start / "config.json").exists():
        hd.run("train sft", model=str(able), data=str(folder / "shown.jsonl"), out=start, **taught,
               learning_rate=7e-4, **common)  # fmt: skip
    models = {
        "start": (start, True),
        "with": (folder / "with", True),
        "without": (folder / "without", False),
    }
    found: dict[str, float] = {}
    for name, (model, tool) in models.items():
        options = (*ENVS[env], f"tool={str(tool).lower()}")
        if not (model / "config.json").exists():
            hd.run("train grpo", model=str(start), out=model, env=env, env_options=options, **PLAYED, **common,
                   data=str(folder / "train.jsonl"),
                   steps=max(2, ROUNDS // few), batch_size=EPISODES, group_size=GROUP,
                   learning_rate=1e-3, beta=0.001)  # fmt: skip
        found |= measured(name, model, folder / "measured" / name, env, options, seed, few)
    return found | {
        "with − without": found["with: right"] - found["without: right"],
        "wrong calls, after − before": found["with: wrong"] - found["start: wrong"],
    }


def measured(
    name: str, model: Path, out: Path, env: str, options: Sequence[str], seed: int, few: int
) -> dict[str, float]:
    """On held-out tasks: the share of right answers, of episodes that call, and of calls that are wrong."""
    import heedful as hd

    if not (out / "evaluation.json").exists():
        hd.run("evaluate", model=str(model), out=out, env=env, env_options=options, **PLAYED, n=TRIES,
               data=str(out.parents[1] / "held_out.jsonl"),
               limit=max(4, ASKED // few), seed=seed, quiet=True)  # fmt: skip
    rows = [json.loads(line) for line in (out / "transcripts.jsonl").read_text().splitlines()]
    calls = sum(row["counts"].get("calls", 0) for row in rows)
    wrong = sum(row["counts"].get("wrong_calls", 0) for row in rows)
    return {
        f"{name}: right": fmean(row["reward"] for row in rows),
        f"{name}: calling": fmean(row["counts"].get("calls", 0) > 0 for row in rows),
        f"{name}: wrong": wrong / calls if calls else 0.0,
    }


def begun(seed: int, folder: Path, few: int) -> None:
    """What is imitated, and a model whose tokens are its words and numbers, which has learned to copy tokens."""
    from heedful.data.columns import messages_of, with_template
    from heedful.data.files import write_rows
    from heedful.data.templates import render
    from heedful.models.new import new_model, train_tokenizer
    from heedful.models.save import save_model
    from heedful.reproductions.browse import copying

    plain: Any = train_tokenizer(["x"], 261)
    texts = []
    for env in ENVS:
        right = shown(env, seed, ABLE // few, calls=1.0, wrong=0.0)
        rows = shown(env, seed, SHOWN // few, calls=CALLS, wrong=WRONG)
        for split in ("train", "held_out"):
            write_rows(folder / env / f"{split}.jsonl", asked(env, split, seed))
        write_rows(folder / env / "right.jsonl", right)
        write_rows(folder / env / "shown.jsonl", rows)
        for row in [*right[:400], *rows[:400]]:
            talk: Any = with_template("", row, messages_of("", "messages", row["messages"]))
            texts.append(str(render(plain, talk, tokenize=False)))
    tokenizer = train_tokenizer(texts, VOCABULARY)
    model = new_model("llama", tokenizer, **MODEL, seed=seed)
    copying(model, len(tokenizer), seed, max(2, COPIED // few))
    (folder / "model").mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, folder / "model")


def asked(env: str, split: Any, seed: int) -> list[dict[str, Any]]:
    """The environment's tasks, in words out of which a call can be copied: of products the first number has a sign as
    the second has, a name stands in quotes."""
    from heedful.envs import load_env

    made: Any = load_env(env, ENVS[env])
    rows = [dict(row) for row in made.tasks(split, seed)]
    for row in rows:
        row["prompt"] = [{"role": "user", "content": ASKED_AS[env](row)}]
    return rows


def shown(env: str, seed: int, count: int, *, calls: float, wrong: float) -> list[dict[str, Any]]:
    """Transcripts of somebody who calls the tool in a share of the tasks, of these wrongly in another, and who guesses
    where nothing tells the answer."""
    import asyncio

    from heedful.data.episodes import transcript_row
    from heedful.envs import load_env
    from heedful.envs.plain import played_by

    made: Any = load_env(env, ENVS[env])
    rng = random.Random(f"tools/{env}/{seed}/{calls}")
    tasks = [task for k in range(4) for task in asked(env, "train", 4 * seed + k)]
    rows = []
    for i in range(count):
        task, guess = tasks[i % len(tasks)], rng.choice(tasks)["answer"]
        call = RIGHT[env](task) if rng.random() < calls else None
        if call and rng.random() < wrong:
            call = rng.choice(wrongly(call))
        episode = asyncio.run(played_by(made, task, guesser(call, guess, ANSWER[env])))
        rows.append(transcript_row(episode, i, "guesser", seed))
    return rows


def guesser(call: str | None, guess: str, answer: str) -> Any:
    """Who makes this call, and says what it told them, or else a guess."""

    async def says(heard: Sequence[Any], tools: Any) -> str:
        if heard[-1].role != "tool":
            return call or answer.format(guess)
        known = not heard[-1].content.startswith("Error: ")
        return answer.format(heard[-1].content if known else guess)

    return says


def wrongly(call: str) -> list[str]:
    """A call of a tool that is not there, with an argument that it does not have, and one that is no JSON."""
    name = re.sub(r'"name": "\w+"', '"name": "ask"', call, count=1)
    argument = re.sub(r'"arguments": {"\w+"', '"arguments": {"of"', call)
    return [name, argument, call.replace('"arguments": {', '"arguments": ')]


def _call(tool: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': tool, 'arguments': arguments})}</tool_call>"


def figure(seeds: Sequence[Result]) -> Figure:
    """Right answers about held-out tasks at the start and after GRPO, means over seeds."""

    def mean(name: str) -> float:
        return fmean(seed[name] for seed in seeds)

    return Figure(
        title="Right answers to held-out tasks",
        x="before and after GRPO",
        y="share",
        lines={
            f"{env}, {how} the tool": [
                (0.0, mean(f"{env}: start: right")),
                (1.0, mean(f"{env}: {how}: right")),
            ]
            for env in ENVS
            for how in ("with", "without")
        },
    )


REPRODUCTION = Reproduction(
    name="tools",
    claim="A policy that may call a tool answers what it cannot know or work out by itself, once reinforcement has "
    "taught it to call; and its wrong calls fall, though nothing but the answer is rewarded.",
    source="Nakano et al. 2021 (WebGPT, arXiv:2112.09332), Schick et al. 2023 (Toolformer, arXiv:2302.04761); trained "
    "as by Shao et al. 2024 (GRPO, arXiv:2402.03300)",
    what="`calculator` (products of two numbers of two digits) and `lookup` (where somebody lives, as only a database "
    "knows). A Llama of two layers, 64 wide, made on the spot, first learns to copy, from random tokens and "
    f"{ABLE:,} right calls, as larger models can; then it imitates {SHOWN:,} answers by somebody who guesses in "
    f"{1 - CALLS:.0%} of them and whose calls are wrong in {WRONG:.0%}; {ROUNDS} rounds of GRPO, {EPISODES} "
    f"episodes in groups of {GROUP}, on whether the answer is right, with the tool, and from the same start without "
    "it. Measured on tasks of no training. This is a third try, after a look at two. In the first, towns and names had "
    "other tokens where they were to be said than where they were read, so that after 2,400 right look-ups 3 % of the "
    "answers were right. In the second, of 25 rounds in groups of 8, two policies of eight did not come to call: right "
    "with the tool less without was .65 [.22, .88] and .70 [.28, .91]. Now rounds and groups are larger and copying is "
    "learned for longer, each chosen on other seeds and not tried together before; the criteria are the same.",
    frozen="2026-11-29",
    criteria=(
        Criterion("the start rarely calls: calculator", "calculator: start: calling", "at most", 0.35),
        Criterion("the start rarely calls: lookup", "lookup: start: calling", "at most", 0.35),
        Criterion("right with the tool − without: calculator", "calculator: with − without", "at least", 0.5,
                  "interval"),
        Criterion("right with the tool − without: lookup", "lookup: with − without", "at least", 0.5, "interval"),
        Criterion("share of wrong calls, after − before: calculator", "calculator: wrong calls, after − before",
                  "at most", -0.1, "interval"),
        Criterion("share of wrong calls, after − before: lookup", "lookup: wrong calls, after − before", "at most",
                  -0.1, "interval"),
    ),
    run=run,
    minutes=7,
    figure=figure,
)  # fmt: skip
