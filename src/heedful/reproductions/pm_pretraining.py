"""Preference-model pre-training: votes that nobody was paid for, before the few comparisons that somebody was."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

VOICES = ("right and short", "right but wordy", "evasive", "wrong", "rude")
MODEL = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 128, "vocab_size": 600}
DOCUMENTS, STEPS, VOTED, HELD_OUT = 10000, 500, 1500, 400
LABELS = (16, 32, 64, 128, 256)  # comparisons to be fitted to
TARGET = 128  # labels without votes whose accuracy is to be reached with fewer
TEMPERATURE = 0.5  # of who compares
WORDS, LOUD = 0.05, 1.5  # voters like a long answer, and how far votes follow what they like


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Reward models that start from the language model, from votes, and from votes with the LM loss."""
    from heedful.reproductions.running import trained

    less = 20 if quick else 1
    written(seed, folder, less)
    base = trained(
        "pretrain", folder / "base", seed, data=str(folder / "text.jsonl"), **MODEL, batch_size=16,
        learning_rate=3e-3, steps=STEPS // less,
    )  # fmt: skip
    starts = {"alone": base}
    for name, coefficient in (("votes", 0.0), ("votes and LM", 1.0)):
        starts[name] = trained(
            "reward", folder / name, seed, model=base, data=str(folder / "votes.jsonl"), lm_coef=coefficient,
            learning_rate=1e-3, batch_size=32, on_bad_row="drop",
        )  # fmt: skip
    curves = {name: [] for name in starts}
    for name, start in starts.items():
        for labels in LABELS[:2] if quick else LABELS:
            curves[name].append((labels, fitted(seed, folder, start, name, labels)))
    found: dict[str, Any] = {f"{name}: {n} labels": y for name, c in curves.items() for n, y in c}
    target = dict(curves["alone"]).get(TARGET, curves["alone"][-1][1])
    for name in ("votes", "votes and LM"):
        found[f"labels saved, {name}"] = TARGET / labels_for(target, curves[name])
    return found | {"curves": curves}


def labels_for(accuracy: float, curve: Sequence[tuple[int, float]]) -> float:
    """The labels with which a curve reaches an accuracy, linear between points in log labels and never falling; its
    first where that is enough already, twice its last where it is never reached."""
    best = -math.inf
    for k, (labels, reached) in enumerate(curve):
        if reached >= accuracy:
            if k == 0:
                return float(labels)
            before = curve[k - 1][0]
            share = (accuracy - best) / (reached - best)
            return math.exp(math.log(before) + share * math.log(labels / before))
        best = max(best, reached)
    return 2.0 * curve[-1][0]


def fitted(seed: int, folder: Path, start: str, name: str, labels: int) -> float:
    """Accuracy on held-out comparisons, whose better answer is known, after fitting to so many."""
    import shutil

    from heedful.api import run as heedful
    from heedful.reproductions.running import trained

    out = folder / f"{name} {labels}"
    model = trained(
        "reward", out, seed, model=start, data=str(folder / f"labels-{labels}.jsonl"), epochs=4.0,
        learning_rate=3e-4, batch_size=16, eval_data=str(folder / "few.jsonl"),
    )  # fmt: skip
    told = heedful(
        "evaluate reward", reward=(model,), data=str(folder / "held_out.jsonl"), out=folder / "eval" / out.name,
        quiet=True,
    )  # fmt: skip
    shutil.rmtree(out / "states", ignore_errors=True)
    return told["accuracy"]


def written(seed: int, folder: Path, less: int) -> None:
    """Text, votes, comparisons by somebody who errs, and held-out pairs of which it is known what is better."""
    from heedful.data.files import write_rows
    from heedful.worlds.capitals import gold, questions
    from heedful.worlds.capitals.voices import speak

    rng = random.Random(f"pm/{seed}")
    known = {split: questions(split) for split in ("train", "held_out")}

    def answers(split: str, number: int) -> tuple[str, list[str]]:
        question = rng.choice(known[split])
        said = {speak(question, voice, rng): None for voice in rng.sample(VOICES, number)}
        return f"{question.text}\n", [*said]

    def pair(split: str, errs: bool) -> dict[str, Any]:
        while True:
            prompt, said = answers(split, 2)
            if len(said) == 2 and (d := gold(prompt, said[0]) - gold(prompt, said[1])):
                break
        wrong = errs and rng.random() >= 1 / (1 + math.exp(-min(abs(d) / TEMPERATURE, 50.0)))
        better, worse = said if (d > 0) != wrong else said[::-1]
        return {"prompt": prompt, "chosen": better, "rejected": worse}

    def voted() -> dict[str, Any]:
        prompt, said = answers("train", 4)
        likes = [max(-2.0, gold(prompt, text)) + WORDS * len(text.split()) for text in said]
        votes = [round(math.exp(LOUD * like + rng.gauss(0.0, 1.0))) for like in likes]
        return {"prompt": prompt, "responses": said, "votes": votes}

    def document() -> str:
        prompt, (said,) = answers("train", 1)
        return prompt + said

    write_rows(folder / "text.jsonl", [{"text": document()} for _ in range(DOCUMENTS // less)])
    write_rows(folder / "votes.jsonl", [voted() for _ in range(VOTED // less)])
    labelled = [pair("train", errs=True) for _ in range(max(LABELS))]
    for labels in LABELS:
        write_rows(folder / f"labels-{labels}.jsonl", labelled[:labels])
    held = [pair("held_out", errs=False) for _ in range(HELD_OUT // less)]
    write_rows(folder / "held_out.jsonl", held)
    write_rows(folder / "few.jsonl", held[:16])


def figure(seeds: Sequence[Result]) -> Figure:
    """Accuracy by labels, each start's mean over seeds."""
    names = list(seeds[0]["curves"])

    def mean(name: str) -> list[tuple[float, float]]:
        of = [s["curves"][name] for s in seeds]
        return [
            (math.log2(at[0][0]), sum(y for _, y in at) / len(of)) for at in zip(*of, strict=True)
        ]

    return Figure(
        title="What votes are worth",
        x="log2 of the number of comparisons",
        y="accuracy on held-out comparisons",
        lines={name: mean(name) for name in names},
    )


REPRODUCTION = Reproduction(
    name="pm-pretraining",
    claim="A preference model that has learned from votes, with the LM loss beside, needs at most two thirds of the "
    "comparisons of one that starts from the language model.",
    source="Askell et al. 2021, §4",
    what=f"The world `capitals`: a Llama of {MODEL['layers']} layers and width {MODEL['hidden_size']}; {VOTED:,} "
    "questions whose up to four answers have votes, noisy, by voters who like long answers more than those do whose "
    f"comparisons count; then {', '.join(map(str, LABELS))} comparisons by somebody who errs. Accuracy on held-out "
    f"questions by the world's gold; labels saved: {TARGET} divided by the labels that reach what {TARGET} reach "
    "without votes, interpolated; votes without the LM loss beside it.",
    frozen="2026-11-30",
    criteria=(
        Criterion("votes and LM loss save 1.5×", "labels saved, votes and LM", "at least", 1.5, "interval"),
    ),
    run=run,
    minutes=3,
    figure=figure,
)  # fmt: skip
