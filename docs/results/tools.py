"""What a tool is worth after GRPO: `python docs/results/tools.py FOLDER [SEED …]`.

A small model that has seen a database asked, in another world, is fine-tuned on few demonstrations by somebody who
mostly guesses, and who calls the tool in one of ten, wrongly in a third of these. `train grpo --env lookup` then
optimises it with the tool, and the same policy without. FOLDER/tools.json has, for each seed, what `evaluate --env`
measures on people that no training has seen: the share of right answers, calls and wrong calls an episode, before and
after.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.cli import main as heedful
from heedful.data.columns import messages_of, with_template
from heedful.data.sources import write_rows
from heedful.data.templates import render
from heedful.envs.lookup import VALUES, lookup
from heedful.evals.statistics import bootstrap_ci
from heedful.models.new import new_model, train_tokenizer
from heedful.recipes.demo import machine

FIELDS = "city"
STAGES = ("read-1", "read-2", "seen-1", "seen-2")
ROUNDS, READ, SEEN, SHOWN = 40, 4500, 3000, 300
CALLS, WRONG = 0.1, 0.3  # of the demonstrations; of their calls


def main(folder: Path, seeds: list[int]) -> None:
    """Every stage through the commands, so that an interrupted seed goes on where it stopped."""
    found = [one_seed(folder / str(seed), seed) for seed in seeds]
    result = {
        "command": "python docs/results/tools.py FOLDER " + " ".join(map(str, seeds)),
        "machine": machine(),
        "seeds": found,
        "summary": {
            name: {
                what: summary([one[name][what] for one in found])
                for what in ("success", "calls", "wrong_calls")
            }
            for name in ("before", "with", "without")
        },
    }
    (folder / "tools.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


def summary(values: list[float]) -> dict[str, Any]:
    low, high = bootstrap_ci(values)
    return {"mean": round(fmean(values), 4), "ci": [round(low, 4), round(high, 4)]}


def one_seed(out: Path, seed: int) -> dict[str, Any]:
    """`before`, `with` and `without`. Every stage has a new optimiser: what is easy is learnt in the first ones, and
    its gradients are then in nobody's way."""
    begun, common = time.monotonic(), ("--seed", seed, "--quiet", "--report-to", "none")
    if not (out / "base" / "config.json").exists():
        prepared(out, seed)
    before = out / "base"
    for stage in STAGES:
        learnt(before, out / f"{stage}.jsonl", out / stage, 3e-3, 32, 1, *common)
        before = out / stage
    learnt(before, out / "shown.jsonl", out / "sft", 1e-3, 32, 4, *common)
    found: dict[str, Any] = {"seed": seed}
    for name, tool in (("with", "true"), ("without", "false")):
        run("train", "grpo", "--model", out / "sft", *played(tool), "--steps", ROUNDS,
            "--batch-size", 128, "--group-size", 8, "--learning-rate", 1e-3, "--beta", 0.01,
            "--out", out / name, *common)  # fmt: skip
        found[name] = measured(out / name, out / f"measured-{name}", tool, seed)
    found["before"] = measured(out / "sft", out / "measured-before", "true", seed)
    return found | {"minutes": round((time.monotonic() - begun) / 60, 1)}


def learnt(
    model: Path, data: Path, out: Path, rate: float, batch: int, epochs: float, *common
) -> None:
    if not (out / "config.json").exists():
        run("train", "sft", "--model", model, "--data", data, "--out", out, "--learning-rate", rate,
            "--batch-size", batch, "--epochs", epochs, "--schedule", "constant", *common)  # fmt: skip


def played(tool: str) -> tuple:
    options = (f"tool={tool}", f"fields={FIELDS}")
    return ("--env", "lookup", "--env-options", *options, "--max-tokens", 40, "--max-turns", 3)


def measured(model: Path, out: Path, tool: str, seed: int) -> dict[str, float]:
    if not (out / "evaluation.json").exists():
        run("evaluate", "--model", model, *played(tool), "--limit", 200,
            "--out", out, "--seed", seed, "--quiet")  # fmt: skip
    told = json.loads((out / "evaluation.json").read_text())
    return {
        k: round(told.get(k, 0.0), 4)
        for k in ("success", "calls", "wrong_calls", "turns", "truncated")
    }


def prepared(out: Path, seed: int) -> None:
    """Transcripts, and a tokenizer and random weights for them."""
    rng = random.Random(f"tools/{seed}")
    tools = tool_schemas()
    # To say again what a tool has said is learnt first, and from short texts: it is one token among many.
    read = [
        {"messages": [*row["prompt"], {"role": "tool", "content": row["answer"]},
                      {"role": "assistant", "content": f"{row['answer']}."}]}
        for row in asked(rng, READ, world=None)
    ]  # fmt: skip
    seen = [transcript(row, tools, rng, 0.9, 0.1) for row in asked(rng, SEEN, world=None)]
    shown = [transcript(row, tools, rng, CALLS, WRONG) for row in asked(rng, SHOWN, world=0)]
    for rows in (seen, shown):  # and where there is no tool
        rows += [transcript(row, [], rng, 0, 0) for row in asked(rng, SHOWN // 2, world=None)]
    rng.shuffle(seen)
    parts = (read[: READ // 3], read[READ // 3 :], seen[: SEEN // 5], seen[SEEN // 5 :])
    for name, rows in zip((*STAGES, "shown"), (*parts, shown), strict=True):
        write_rows(out / f"{name}.jsonl", rows)
    plain = train_tokenizer(["x"], 261)
    talks = [with_template("", r, messages_of("", "messages", r["messages"])) for r in seen]
    texts = [render(plain, talk, tokenize=False) for talk in talks]  # type: ignore[arg-type]
    tokenizer = train_tokenizer(texts, 800)
    model = new_model("llama", tokenizer, hidden_size=64, layers=2, heads=2, context=320, seed=seed)
    model.save_pretrained(out / "base")
    tokenizer.save_pretrained(out / "base")


def asked(rng: random.Random, count: int, world: int | None) -> list[dict[str, Any]]:
    """Tasks of a world, or, without one, with answers by chance, so that nothing can be remembered."""
    rows = lookup(world=world or 0, fields=FIELDS).tasks("train", 0)  # type: ignore[attr-defined]
    rows = [rng.choice(rows) for _ in range(count)]
    return (
        rows
        if world is not None
        else [{**r, "answer": rng.choice(VALUES[r["field"]])} for r in rows]
    )


def transcript(
    task: dict[str, Any],
    tools: list,
    rng: random.Random,
    calls: float,
    wrong: float,
    taught: bool = True,
) -> dict[str, Any]:
    """Somebody who asks the database, rightly or not, or who guesses."""
    guess, messages = rng.choice(VALUES[task["field"]]), list(task["prompt"])
    if rng.random() < calls:
        bad = rng.random() < wrong
        asks = {
            "name": task["name"].split()[0] if bad else task["name"],
            "field": task["field"],
        }
        answer = f"Error: nobody is called '{asks['name']}'" if bad else task["answer"]
        call = {"type": "function", "function": {"name": "look_up", "arguments": asks}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "content": answer, "name": "look_up"})
        guess = guess if bad else answer
    return {
        "messages": [*messages, {"role": "assistant", "content": f"{guess}."}],
        **({"tools": tools} if tools else {}),
    }


def tool_schemas() -> list[dict[str, Any]]:
    """As the environment offers them."""
    offered: list[dict[str, Any]] = []

    class Listener:
        def offer(self, tools, format=None):
            offered.extend(tools)

        async def say(self):
            raise StopIteration

    with contextlib.suppress(RuntimeError):
        lookup().play(None, Listener()).send(None)  # type: ignore[arg-type]
    return offered


def run(*args) -> None:
    if code := heedful([str(a) for a in args]):
        sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(s) for s in sys.argv[2:]] or [0, 1, 2, 3])
