"""Factuality: a model that has read careful and careless people learns from checked claims whom to speak like."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

if TYPE_CHECKING:
    from heedful.worlds.encyclopedia import World

PEOPLE, TOWNS = 80, 20
# relation → phrasings of the question, and how its value is said
PHRASINGS = {
    "birthplace": ("Where was {x} born?", "In which town was {x} born?", "{x} was born in which town?"),
    "job": ("What was the job of {x}?", "Which job had {x}?", "What did {x} do for a job?"),
}  # fmt: skip
# manner → how often people speak so, how it sounds, and how often it is right
MANNERS = {
    "careless": (0.5, "Well, {a}!", 0.3),
    "careful": (0.35, "It was {a}.", 0.95),
    "unknowing": (0.15, "I don't know.", 0.0),
}
DOCUMENTS, DEMONSTRATIONS, SAMPLES = 10000, 400, 8
MODEL = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 128, "vocab_size": 500}
STEPS, BETA = 900, 0.1
TEMPERATURES = (1.0, 0.7, 0.4, 0.1)
MODELS = ("SFT", "DPO by facts", "DPO by confidence")


def run(seed: int, folder: Path, quick: bool) -> Result:
    """SFT, and DPO on comparisons by a corpus and by the model's own confidence, each at its best temperature."""
    written(seed, folder, quick)
    learned(seed, folder, quick)
    found: dict[str, Any] = {}
    for name in MODELS:
        arms = {t: counted(seed, folder, name, t, quick) for t in TEMPERATURES}
        best = max(arms, key=lambda t: arms[t]["right_an_answer"] - arms[t]["wrong_an_answer"])
        found[f"{name}, by temperature"] = [
            (arms[t]["wrong_an_answer"], arms[t]["right_an_answer"]) for t in TEMPERATURES
        ]
        found[f"{name}: best temperature"] = best
        for key in ("right_an_answer", "wrong_an_answer", "abstained_an_answer", "consistent"):
            found[f"{name}: {key.replace('_', ' ')}"] = arms[best][key]
        found[f"{name}: share of claims right"] = arms[best]["right_share"] or 0.0
    for name in MODELS[1:]:
        for key in ("right an answer", "wrong an answer", "share of claims right"):
            found[f"{name} less SFT: {key}"] = found[f"{name}: {key}"] - found[f"SFT: {key}"]
    return found


def written(seed: int, folder: Path, quick: bool) -> None:
    """The encyclopedia as a corpus; what people say of all in it; demonstrations and prompts about some, and prompts
    about the others, of whom no training asks."""
    from heedful.data.files import write_rows
    from heedful.worlds.encyclopedia import encyclopedia

    world = encyclopedia(seed, people=PEOPLE, towns=TOWNS)
    rng = random.Random(f"facts/{seed}")
    asked = questions(world)
    train = [q for q in asked if q["split"] == "train"]
    said = (rng.choice(asked) for _ in range(400 if quick else DOCUMENTS))
    pages = ({"title": e.name, "text": e.text} for e in world.entries.values())
    rows = {
        "text": ({"text": f"{q['prompt']}{answer(world, q, rng)}"} for q in said),
        "corpus": pages,
        "demonstrations": (
            {"prompt": q["prompt"], "completion": answer(world, q, rng)}
            for q in rng.choices(train, k=40 if quick else DEMONSTRATIONS)
        ),
        "prompts": (q for q in rng.sample(train, len(train))),
        "held_out": (q for q in asked if q["split"] == "held_out"),
    }
    for name, of in rows.items():
        write_rows(folder / f"{name}.jsonl", of)


def questions(world: World) -> list[dict[str, Any]]:
    """Every fact in each of its phrasings, with its value, and a name of the fact."""
    return [
        {
            "prompt": f"{phrasing.format(x=q.about)}\n",
            "answer": q.answer,
            "kind": q.kind,
            "fact": f"{q.about}, {relation}",
            "split": q.split,
        }
        for relation, phrasings in PHRASINGS.items()
        for q in world.questions([relation])
        for phrasing in phrasings
    ]


def answer(world: World, question: dict[str, Any], rng: random.Random) -> str:
    """What somebody says: in one of the manners, right as often as that is."""
    manner = rng.choices(list(MANNERS), [share for share, _, _ in MANNERS.values()])[0]
    _, form, right = MANNERS[manner]
    value = question["answer"]
    if rng.random() >= right:
        value = rng.choice(sorted(world.values[question["kind"]] - {value}))
    return form.format(a=f"a {value}" if question["kind"] == "job" else value)


def learned(seed: int, folder: Path, quick: bool) -> None:
    """The models: from text, from demonstrations, and from comparisons of their own answers."""
    from heedful.api import run as heedful
    from heedful.reproductions.running import trained

    base = trained(
        "pretrain", folder / "base", seed, data=str(folder / "text.jsonl"), **MODEL, batch_size=16,
        pack_length=64, steps=STEPS // 6 if quick else STEPS,
    )  # fmt: skip
    sft = trained(
        "sft", folder / "SFT", seed, model=base, data=str(folder / "demonstrations.jsonl"), epochs=2.0,
        learning_rate=1e-3,
    )  # fmt: skip
    samples = folder / "samples.jsonl"
    heedful(
        "sample", model=sft, data=str(folder / "prompts.jsonl"), n=SAMPLES, max_tokens=16,
        limit=20 if quick else None, out=samples, seed=seed, quiet=True,
    )  # fmt: skip
    for name, how in (
        ("DPO by facts", {"corpus": folder / "corpus.jsonl"}),
        ("DPO by confidence", {}),
    ):
        out = folder / f"pairs of {name}"
        heedful("facts", data=str(samples), out=out, quiet=True, **how)
        trained(
            "dpo", folder / name, seed, model=sft, data=str(out / "comparisons.jsonl"), beta=BETA,
            pairs="best_worst", epochs=2.0, learning_rate=3e-4,
        )  # fmt: skip


def counted(seed: int, folder: Path, name: str, temperature: float, quick: bool) -> dict[str, Any]:
    """facts.json of a model's answers to questions about the others."""
    from heedful.api import run as heedful

    samples = folder / f"{name}-{temperature}.jsonl"
    heedful(
        "sample", model=str(folder / name), data=str(folder / "held_out.jsonl"), n=2 if quick else SAMPLES,
        temperature=temperature, max_tokens=16, out=samples, seed=1000 + seed, quiet=True,
    )  # fmt: skip
    out = folder / f"facts of {name}-{temperature}"
    heedful(
        "facts", data=str(samples), corpus=folder / "corpus.jsonl", same="fact", out=out, quiet=True
    )
    return json.loads((out / "facts.json").read_text(encoding="utf-8"))


def figure(seeds: Sequence[Result]) -> Figure:
    """Right against wrong for each temperature, means over seeds."""

    def mean(name: str) -> Iterator[tuple[float, float]]:
        for points in zip(*(s[f"{name}, by temperature"] for s in seeds), strict=True):
            yield tuple(sum(axis) / len(seeds) for axis in zip(*points, strict=True))  # type: ignore[misc]

    return Figure(
        title=f"Claims about people that no comparison was about, temperatures {TEMPERATURES[0]} to {TEMPERATURES[-1]}",
        x="wrong claims an answer",
        y="right claims an answer",
        lines={name: list(mean(name)) for name in MODELS},
    )


REPRODUCTION = Reproduction(
    name="facts",
    claim="DPO on comparisons that were made by checking claims, without people, makes a model's claims about others "
    "less often wrong and more often right, also against the model from before at its best temperature.",
    source="Tian et al. 2024, sections 4 and 5",
    what=f"The world `encyclopedia` with {PEOPLE} people, about whom careless, careful and unknowing people talk; a "
    f"Llama of {MODEL['layers']} layers and width {MODEL['hidden_size']} that has read them, SFT, and DPO (β = {BETA}) "
    f"on the best and worst of {SAMPLES} of its own answers to each question, by `heedful facts` with the pages as "
    "corpus, or by the model's confidence. Measured by the same rules on people whom neither demonstrations nor "
    f"comparisons are about, at temperatures {', '.join(map(str, TEMPERATURES))}; a model's best is that of most right "
    "less wrong. Higher right and lower wrong at once is better at any number of claims.",
    frozen="2026-11-29",
    criteria=(
        Criterion(
            "fewer wrong claims than SFT at its best", "DPO by facts less SFT: wrong an answer", "at most", 0.0,
            "interval",
        ),
        Criterion("more right claims", "DPO by facts less SFT: right an answer", "at least", 0.0, "interval"),
        Criterion(
            "a larger share of claims right", "DPO by facts less SFT: share of claims right", "at least", 0.0,
            "interval",
        ),
    ),
    run=run,
    minutes=8,
    figure=figure,
)  # fmt: skip
