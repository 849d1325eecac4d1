"""Browsing: pages answer what nobody knows by heart, and reinforcement gains on imitation and on its best of 16."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PEOPLE, TOWNS = 2000, 40
OPTIONS = (
    "questions=birthplace",
    f"people={PEOPLE}",
    f"towns={TOWNS}",
    "help=false",
    "snippet=0",
    "results=3",
)
PLAYED: dict[str, Any] = {"env": "browse", "max_turns": 12, "max_tokens": 24}
COPIED, SHOWN, ROUNDS = 1000, 3000, 450  # steps of copying, demonstrations, rounds of GRPO
# Held-out questions; episodes of each, whose mean counts, and of best of n, of which the best counts.
ASKED, TRIES, BEST_OF = 128, 4, 16


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A model of random weights learns to copy, then imitates a clumsy browser, then is optimised. What it knows by
    heart is measured by the same model, taught as many questions with their answers alone. All through heedful's
    commands; a stage that is there is not made again."""
    import heedful as hd

    few = 20 if quick else 1
    transcripts, told = demonstrations(seed, SHOWN // few)
    base, common = folder / "base", {"seed": seed, "quiet": True, "report_to": "none"}
    if not (base / "config.json").exists():
        begun(base, transcripts, seed, max(2, COPIED // few))
    models = {"imitation": taught(base, transcripts, folder / "imitation", common),
              "by heart": taught(base, told, folder / "by-heart", common)}  # fmt: skip
    models["optimised"] = folder / "optimised"
    if not (models["optimised"] / "config.json").exists():
        hd.run("train grpo", model=str(models["imitation"]), out=models["optimised"], **PLAYED, **common,
               env_options=OPTIONS, steps=max(2, ROUNDS // few), batch_size=64, minibatch_size=16,
               group_size=8, learning_rate=5e-4, beta=0.01)  # fmt: skip
    found: dict[str, float] = {}
    for name, model in models.items():
        alone = ("tool=false",) if name == "by heart" else ()
        measured(found, name, model, folder / "measured" / name, seed, ASKED // few, alone, n=TRIES)
    measured(found, "best of 16", models["imitation"], folder / "measured" / "best", seed,
             ASKED // few, best_of=BEST_OF)  # fmt: skip
    return found | {
        "pages − by heart": found["optimised: right"] - found["by heart: right"],
        "best of 16 − imitation": found["best of 16: success"] - found["imitation: success"],
        "optimised − best of 16": found["optimised: success"] - found["best of 16: success"],
    }


def demonstrations(seed: int, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Transcripts of the clumsy player on questions of training; and as many with nothing but their answers."""
    import asyncio

    from heedful.data.episodes import transcript_row
    from heedful.envs import load_env
    from heedful.envs.plain import played_by

    env: Any = load_env("browse", OPTIONS)
    rows, rng = list(env.tasks("train", seed)), random.Random(f"browse/{seed}")
    asked = [rows[i % len(rows)] for i in range(count)]
    played = [asyncio.run(played_by(env, row, env.players["clumsy"](row, rng))) for row in asked]
    transcripts = [transcript_row(e, i, "clumsy", seed) for i, e in enumerate(played)]
    answers = [{"role": "assistant", "content": f"It is {row['answer']}."} for row in asked]
    told = [{"messages": [*row["prompt"], a]} for row, a in zip(asked, answers, strict=True)]
    return [{"messages": row["messages"]} for row in transcripts], told


def begun(folder: Path, transcripts: Sequence[dict[str, Any]], seed: int, steps: int) -> None:
    """A tokenizer that has every name as a word of its own, and a model that can copy, saved."""
    from heedful.data.columns import messages_of, with_template
    from heedful.data.templates import render
    from heedful.models.new import new_model, train_tokenizer
    from heedful.worlds.encyclopedia import encyclopedia

    plain: Any = train_tokenizer(["x"], 261)
    talks: list[Any] = [
        with_template("", r, messages_of("", "messages", r["messages"])) for r in transcripts
    ]
    texts = [render(plain, talk, tokenize=False) for talk in talks]
    pages = [f"| {line}" for entry in encyclopedia(0, people=PEOPLE, towns=TOWNS).entries.values()
             for line in entry.text.split("\n")]  # fmt: skip
    tokenizer = train_tokenizer([*map(str, texts), *pages], 1300)
    model = new_model("llama", tokenizer, hidden_size=64, layers=2, heads=2, context=512, seed=seed)
    copying(model, len(tokenizer), seed, steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def copying(model: PreTrainedModel, words: int, seed: int, steps: int) -> None:
    """Random tokens twice over, whose second half is to be predicted: the shortest text from which a model of two
    layers learns to look for what it has read before (induction; Olsson et al. 2022). Lengths vary, lest it learns a
    distance; in the last third something stands between the halves. Without it a model this small remembers names,
    and has none for people it has not seen."""
    import torch
    from torch.nn.functional import cross_entropy

    rng, draw = random.Random(seed), torch.Generator().manual_seed(seed)
    adam = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0, betas=(0.9, 0.98))
    model.train()
    for step in range(steps):
        length, gap = rng.randint(8, 32), rng.randint(0, max(0, (step - 400) // 3))
        rows = max(4, 1600 // (2 * length + gap))
        half, between = (torch.randint(5, words, (rows, n), generator=draw) for n in (length, gap))
        tokens = torch.cat([half, between, half], 1)
        logits = model(tokens[:, :-1]).logits[:, length + gap :]
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, length + gap + 1 :].flatten())
        adam.param_groups[0]["lr"] = 5e-3 * min(1, (step + 1) / 20)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    model.eval()


def taught(base: Path, rows: Sequence[dict[str, Any]], out: Path, common: dict[str, Any]) -> Path:
    """The base after one epoch of these."""
    import heedful as hd
    from heedful.data.files import write_rows

    if not (out / "config.json").exists():
        write_rows(data := out.with_suffix(".jsonl"), rows)
        hd.run("train sft", model=str(base), data=str(data), out=out, learning_rate=3e-3, batch_size=32,
               epochs=1, schedule="cosine", held_out=0.0, **common)  # fmt: skip
    return out


def measured(
    found: dict[str, float], name: str, model: Path, out: Path, seed: int, limit: int,
    options: Sequence[str] = (), **how: Any,
) -> None:  # fmt: skip
    """On questions about people who were in no training: the share of answers that are right, of those that are
    supported as well, and, of answers that cite, of those whose citations support them."""
    import heedful as hd

    if not (out / "evaluation.json").exists():
        hd.run("evaluate", model=str(model), out=out, **PLAYED, env_options=(*OPTIONS, *options),
               limit=max(4, limit), seed=seed, quiet=True, **how)  # fmt: skip
    told = json.loads((out / "evaluation.json").read_text())
    rows = [json.loads(line) for line in (out / "transcripts.jsonl").read_text().splitlines()]
    cited = [row["counts"]["supported"] for row in rows if row["counts"].get("citations")]
    found |= {
        f"{name}: right": told.get("right", 0.0),
        f"{name}: success": told["success"],
        f"{name}: support": fmean(cited) if cited else 0.0,
        f"{name}: wrong commands": told.get("wrong_calls", 0.0),
    }


def figure(seeds: Sequence[Result]) -> Figure:
    """Right and supported against tries, means over seeds."""

    def mean(name: str) -> float:
        return fmean(seed[f"{name}: success"] for seed in seeds)

    tries = [(0.0, mean("imitation")), (4.0, mean("best of 16"))]
    return Figure(
        title="Answers about people in no training that are right and supported",
        x="log₂ of tries",
        y="share",
        lines={
            "imitation, the best of its tries": tries,
            "optimised": [(0.0, mean("optimised"))],
            "by heart (right)": [(0.0, fmean(seed["by heart: right"] for seed in seeds))],
        },
    )


REPRODUCTION = Reproduction(
    name="browse",
    claim="A policy that searches pages and quotes them answers what it could not by heart. Best of n improves on "
    "imitating demonstrations, and reinforcement learning reaches that without n tries.",
    source="Nakano et al. 2021 (WebGPT, arXiv:2112.09332), sections 3 and 4",
    what="The generated encyclopedia with 2,000 people: where somebody was born, who is in no question of training. A "
    "Llama of two layers, 64 wide, made on the spot; 3,000 demonstrations by a clumsy scripted browser; GRPO on "
    "whether an answer is right and supported by its quote. The best of 16 is chosen by that same measure. This is a "
    "second try, by the same criteria. In the first, of 1,000 people, GRPO took one optimiser step in each of 40 "
    "rounds and stopped .13 below the best of 16. On other seeds four steps a round gave .94 where one gave .87. What "
    "still failed were names that the policy copied into its search in none of eight tries, so that no reward told "
    "it better: hence 1,000 steps of copying (600) and imitation with a learning rate that falls (it was constant). "
    "After 300 rounds .98 of training's questions succeeded and .945 of the others: hence twice the people. Then, on "
    "two seeds, 150 rounds gave .88 and .96, 300 rounds .90 and .97: hence 450. The best of 16 is measured on as many "
    "questions as the others (128; it had 32), the others by four episodes of each (one).",
    frozen="2026-11-30",
    criteria=(
        Criterion(
            "right with pages − right by heart", "pages − by heart", "at least", 0.5, "interval"
        ),
        Criterion("best of 16 − imitation", "best of 16 − imitation", "at least", 0.0, "interval"),
        Criterion("optimised − best of 16", "optimised − best of 16", "at least", -0.05),
        Criterion(
            "of the optimised policy's cited answers, supported",
            "optimised: support",
            "at least",
            0.8,
        ),
    ),
    run=run,
    minutes=20,
    figure=figure,
)
