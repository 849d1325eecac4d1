"""KL control: rules of music are maximised by a model of folk tunes, with and without something that holds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

SIMPLE = ("music_key", "music_step", "music_tonic")
TUTOR = ("sequence_tutor",)
WORDS, SAMPLES, BATCH = 24, 256, 64
PRIOR = {
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "context": 32,
    "pack_length": 128,
    "batch_size": 32,
}
# Of the prior; of what is optimised by simple rules; of what comes to its end slowly.
STEPS, ROUNDS, LONG = 400, 60, 150
RLOO = {"group_size": 8, "learning_rate": 2e-3}
PSI = {"updates": 2, "replay": 4, "learning_rate": 7e-4}
# Name → (command, what else, rewards, β, rounds).
ARMS: dict[str, tuple[str, dict[str, Any], Sequence[str], float, int]] = {
    "simple, β = 0": ("train rloo", RLOO, SIMPLE, 0.0, ROUNDS),
    "simple, KL": ("train rloo", RLOO, SIMPLE, 4.5, ROUNDS),
    "simple, Ψ": ("train psi_learning", PSI, SIMPLE, 4.5, ROUNDS),
    "tutor, β = 0": ("train rloo", RLOO, TUTOR, 0.0, LONG),
    "tutor, KL": ("train rloo", RLOO, TUTOR, 0.4, LONG),
}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A prior of folk tunes, and from it each arm; then the same numbers of samples of all. A stage that is there is
    not made again. `quick` makes tunes up, a few."""
    import heedful as hd

    world, few = folder / "world", 40 if quick else 1
    common = {"seed": seed, "quiet": True, "report_to": "none", "schedule": "cosine"}
    if not (world / "tokenizer").exists():
        hd.run(
            "world", name="music", out=world, seed=seed, source=None if quick else Path("music21")
        )
    models = {"prior": folder / "prior"}
    if not (models["prior"] / "config.json").exists():
        hd.run("train pretrain", data=str(world / "text.jsonl"), tokenizer=str(world / "tokenizer"), start_token=True,
               out=models["prior"], steps=STEPS // few, **PRIOR, **common)  # fmt: skip
    for name, (command, how, reward, beta, rounds) in ARMS.items():
        models[name] = folder / name.replace(" ", "").replace(",", "-")
        if not (models[name] / "config.json").exists():
            hd.run(command, model=str(models["prior"]), data=str(world / "prompts.jsonl"), out=models[name],
                   reward=tuple(reward), beta=beta, steps=max(1, rounds // few), batch_size=BATCH, max_tokens=WORDS,
                   missing_eos_penalty=0.0, **how, **common)  # fmt: skip
    found: dict[str, Any] = {}
    for name, model in models.items():
        rows = samples(model, world, folder / f"{name}.jsonl", seed, SAMPLES // min(few, 8))
        found |= {f"{name}: {k}": v for k, v in measured(rows, models["prior"]).items()}
    texts = [json.loads(line)["text"] for line in (world / "text.jsonl").open(encoding="utf-8")]
    found["data: runs"] = fmean(runs_of(text) for text in texts)
    return found | compared(found)


def compared(found: dict[str, Any]) -> dict[str, float]:
    """The numbers that criteria are about."""
    tutor, free, prior = "tutor, KL: ", "tutor, β = 0: ", "prior: "
    return {
        "simple, KL: runs / data's": found["simple, KL: runs"] / found["data: runs"],
        "simple, KL: score / prior's": found["simple, KL: simple"] / found[prior + "simple"],
        "tutor, KL: score / prior's": found[tutor + "tutor"] / found[prior + "tutor"],
        "tutor, KL: NLL / prior's": found[tutor + "NLL"] / found[prior + "NLL"],
        "tutor, β = 0: distinct-3 / prior's": found[free + "distinct-3"]
        / found[prior + "distinct-3"],
    }


def samples(model: Path, world: Path, out: Path, seed: int, count: int) -> list[dict[str, Any]]:
    """So many tunes from nothing."""
    import heedful as hd

    hd.run("sample", model=str(model), data=str(world / "prompts.jsonl"), n=count, max_tokens=WORDS, seed=1000 + seed,
           out=out, quiet=True)  # fmt: skip
    return [json.loads(line) for line in out.open(encoding="utf-8")]


def measured(rows: Sequence[dict[str, Any]], prior: Path) -> dict[str, float]:
    """Means over tunes: both scores, NLL by the prior in nats a token, KL to it in nats a tune, share of notes in runs;
    and the shares of different melodies and of different trigrams, by pitch."""
    from heedful.rewards import music

    logp = prior_logps([row["tokens"] for row in rows], prior)
    melodies = [tuple(music.pitches_of(row["completion"])) for row in rows]
    trigrams = [m[i : i + 3] for m in melodies for i in range(len(m) - 2)]
    simple = (music.music_key(), music.music_step(), music.music_tonic())
    return {
        "simple": fmean(sum(rule("", row["completion"]) for rule in simple) for row in rows),
        "tutor": fmean(music.sequence_tutor()("", row["completion"]) for row in rows),
        "NLL": -sum(logp) / sum(len(row["tokens"]) for row in rows),
        "KL": fmean(row["logprob"] - p for row, p in zip(rows, logp, strict=True)),
        "runs": fmean(runs_of(row["completion"]) for row in rows),
        "distinct": len(set(melodies)) / len(melodies),
        "distinct-3": len(set(trigrams)) / max(1, len(trigrams)),
    }


def prior_logps(written: Sequence[Sequence[int]], prior: Path) -> list[float]:
    """log p of whole tunes by the prior."""
    import torch

    from heedful.data.collate import collate
    from heedful.data.tokens import encode_prompt
    from heedful.models.forward import token_logps
    from heedful.models.load import load_policy, load_tokenizer
    from heedful.types import Sample

    begin = encode_prompt(load_tokenizer(prior), "")
    whole = [(*begin, *ids) for ids in written]
    batch = collate([Sample(t, (False,) + (True,) * (len(t) - 1), (0.0,) * len(t)) for t in whole])
    with torch.no_grad():
        return token_logps(load_policy(prior), batch.tokens, batch.mask).sum(1).tolist()


def runs_of(text: str) -> float:
    """The share of notes in runs of three or more."""
    from heedful.worlds.music import in_runs

    return in_runs(text)


def figure(seeds: Sequence[Result]) -> Figure:
    """Where each arm is: how far from the prior, and how varied."""
    return Figure(
        title="Different melodies of 256, against KL to the prior",
        x="KL (nats a tune)",
        y="share of different melodies",
        lines={
            name: [(s[f"{name}: KL"], s[f"{name}: distinct"]) for s in seeds]
            for name in ("prior", *ARMS)
        },
    )


REPRODUCTION = Reproduction(
    name="kl-control",
    claim="A model of melodies that maximises rules of music alone forgets what it has learned and repeats itself; "
    "held to its prior by KL it keeps to the rules better than before and stays as varied.",
    source="Jaques et al. 2017, Sequence Tutor",
    what=f"A Llama of {PRIOR['layers']} layers and width {PRIOR['hidden_size']} learns the first {WORDS} notes of "
    "7,000 folk tunes that music21 ships, in C major, a token a note. RLOO maximises two rewards, simple rules (key, "
    "small steps, tonic) and Sequence Tutor's, with β = 0 and with KL in the reward at β = "
    f"{ARMS['simple, KL'][3]:g} in {ROUNDS} rounds and {ARMS['tutor, KL'][3]:g} in {LONG}; Ψ-learning stands beside "
    f"it. {SAMPLES} tunes of each from nothing; melodies are told apart by pitch, NLL is the prior's per token. This "
    "is a second try, after a look at a first: 60 rounds at β = .6 raised Sequence Tutor's score to 1.69 times the "
    "prior's, where 2 was asked, at 1.02 of its NLL, where 1.1 is allowed. Rounds and β are from a pilot with another "
    "seed (3.7 times, 1.02); all else, and the criteria, are the same.",
    frozen="2026-11-29",
    criteria=(
        Criterion("simple rules, β = 0: notes in runs of three or more", "simple, β = 0: runs", "at least", 0.9),
        Criterion("simple rules, β = 0: different melodies", "simple, β = 0: distinct", "at most", 0.05),
        Criterion("simple rules, KL: runs against the data's", "simple, KL: runs / data's", "at most", 1.6),
        Criterion("simple rules, KL: different melodies", "simple, KL: distinct", "at least", 0.99),
        Criterion("simple rules, KL: score against the prior's", "simple, KL: score / prior's", "at least", 1.15),
        Criterion("Sequence Tutor, KL: score against the prior's", "tutor, KL: score / prior's", "at least", 2.0),
        Criterion("Sequence Tutor, KL: NLL against the prior's", "tutor, KL: NLL / prior's", "at most", 1.1),
        Criterion("Sequence Tutor, KL: different melodies", "tutor, KL: distinct", "at least", 0.995),
        Criterion("Sequence Tutor, β = 0: distinct-3 against the prior's", "tutor, β = 0: distinct-3 / prior's",
                  "at most", 0.25),
    ),
    run=run,
    minutes=7,
    figure=figure,
)  # fmt: skip
