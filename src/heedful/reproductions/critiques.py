"""Critiques: judgments by who reads them, and reward models of these judgments, with a critic who helps and one who
misleads."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

NAMES = ("Ada", "Bao", "Eve", "Ian", "Kit", "Lou")
LIKES = ("tea", "jam", "rice", "soup", "corn", "milk")
TRUTH: dict[str, str] = dict(zip(NAMES, LIKES, strict=True))
CLAIMS = 2
MODEL = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 160, "vocab_size": 500}
READ, STEPS, CRITICISED, ASKED, ROUNDS = 8000, 500, 3000, 400, 30
# Of imitation: to compare a claim with what one knows takes some 450 steps to learn, all at once; with 4 epochs (375
# steps) the critic called right and wrong claims wrong equally often.
EPOCHS = 24.0
COMPARED, HELD_OUT = 600, 400
SEES, POINTED, MISLED = (
    0.5,
    0.9,
    0.35,
)  # how often who judges sees what is wrong: alone, told, told something else
IMAGINES, CLEARED = (
    0.1,
    0.05,
)  # how often somebody sees what is not there: alone, told that nothing is wrong
FINDS, INVENTS = (
    0.6,
    0.2,
)  # how often the people find what is wrong from whom the critic learns, and make something up
FINE = "Nothing is wrong."
JUDGE = "heedful.reproductions.critiques:reads"
HELPS = f"heedful.raters.critics:helps(judge={JUDGE})"
SAID = "\n\nA critic says of this response: "


def reads(prompt: Any, response: str) -> float:
    """The taste of a rater of known limits, who reads the critique that stands behind a response: 0 where they see no
    wrong claim, −10 where they do. What somebody sees of the same words is always the same."""
    text, _, critique = response.partition(SAID)
    claims = text.strip().rstrip(".").split(". ")
    wrong = [c for c in claims if not _true(c)]
    accused = [c for c in claims if f"“{c}”" in critique]
    if wrong:
        chance = POINTED if set(accused) & set(wrong) else MISLED if critique else SEES
    else:
        chance = MISLED if accused else CLEARED if critique else IMAGINES
    drawn = hashlib.sha256(f"{prompt}|{response}".encode()).digest()
    return -10.0 * (int.from_bytes(drawn[:8], "big") < chance * 2**64)


def _true(claim: str) -> bool:
    who, _, what = claim.partition(" likes ")
    return TRUTH.get(who) == what


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A critic that learned from people, then from whether it helps; judgments without, with, and with a wrong one."""
    less = 20 if quick else 1
    written(seed, folder, less)
    models(seed, folder, less)
    critics: dict[str, Callable[[list[dict[str, Any]]], Mapping[tuple[int, int], str]] | None] = {
        "alone": None,
        "imitating critic": lambda pairs: asked(seed, folder, "imitating", pairs),
        "critic": lambda pairs: asked(seed, folder, "helpful", pairs),
        "wrong critic": lambda pairs: misled(seed, pairs),
    }
    found: dict[str, Any] = {}
    for name, critic in critics.items():
        right, data = judgments(seed, folder, name, critic)
        found[f"{name}: judgments right"] = right
        found[f"{name}: reward model"] = rewarded(seed, folder, name, data)
    alone = found["alone: reward model"]
    return found | {
        "critic less alone": found["critic: reward model"] - alone,
        "alone less wrong critic": alone - found["wrong critic: reward model"],
        "critic less alone, judgments": found["critic: judgments right"] - found["alone: judgments right"],
    }  # fmt: skip


# ── what there is to read and to judge ───────────────────────────────────────────────────────────


def answers(rng: random.Random) -> tuple[str, str, str]:
    """A question, the right answer, and one with one wrong claim."""
    who = rng.sample(NAMES, CLAIMS)
    right = [f"{name} likes {TRUTH[name]}" for name in who]
    wrong, k = list(right), rng.randrange(CLAIMS)
    other = rng.choice([what for what in LIKES if what != TRUTH[who[k]]])
    wrong[k] = f"{who[k]} likes {other}"
    return f"What do {', '.join(who)} like?\n", f"{'. '.join(right)}.", f"{'. '.join(wrong)}."


def remark(response: str, rng: random.Random) -> str:
    """What one of the people says of a response, who overlook some errors and make up others."""
    claims = response.rstrip(".").split(". ")
    wrong = [c for c in claims if not _true(c)]
    if wrong and rng.random() < FINDS:
        return f"“{wrong[0]}” is wrong."
    right = [c for c in claims if _true(c)]
    return f"“{rng.choice(right)}” is wrong." if rng.random() < INVENTS else FINE


def written(seed: int, folder: Path, less: int) -> None:
    """Text in which most claims are true and critiques say nothing, people's critiques, and comparisons."""
    from heedful.data.critiques import asked as question
    from heedful.data.files import write_rows

    rng = random.Random(f"critiques/{seed}")

    def document() -> str:
        prompt, right, wrong = answers(rng)
        said = right if rng.random() < 0.7 else wrong
        if rng.random() < 0.75:
            return prompt + said
        claim = rng.choice([FINE, *(f"“{c}” is wrong." for c in said.rstrip(".").split(". "))])
        return f"{question(prompt, said)} {claim}"

    def criticised() -> dict[str, str]:
        prompt, *both = answers(rng)
        said = rng.choice(both)
        return {"prompt": prompt, "completion": said, "critique": remark(said, rng)}

    def pair() -> dict[str, str]:
        prompt, right, wrong = answers(rng)
        return {"prompt": prompt, "chosen": right, "rejected": wrong}

    write_rows(folder / "text.jsonl", [{"text": document()} for _ in range(READ // less)])
    write_rows(folder / "people.jsonl", [criticised() for _ in range(CRITICISED // less)])
    for name, number in (("asked", ASKED), ("compared", COMPARED), ("held_out", HELD_OUT)):
        write_rows(folder / f"{name}.jsonl", [pair() for _ in range(number // less)])


def models(seed: int, folder: Path, less: int) -> None:
    """A language model; a critic that imitates people; and one that has learned what helps a judge besides."""
    from heedful.api import run as heedful
    from heedful.reproductions.running import trained

    base = trained(
        "pretrain", folder / "base", seed, data=str(folder / "text.jsonl"), **MODEL, batch_size=16,
        learning_rate=3e-3, steps=STEPS // less,
    )  # fmt: skip
    imitating = trained(
        "sft", folder / "imitating", seed, model=base, data=str(folder / "people.jsonl"), epochs=EPOCHS, batch_size=32,
        learning_rate=2e-3,
    )  # fmt: skip
    questions = folder / "questions.jsonl"
    heedful("critique", data=str(folder / "asked.jsonl"), out=questions)
    trained(
        "grpo", folder / "helpful", seed, model=imitating, data=str(questions), reward=(HELPS,),
        steps=max(1, ROUNDS // less), max_tokens=24, learning_rate=3e-4,
    )  # fmt: skip


# ── critics, judgments, and what is learned from these ───────────────────────────────────────────


def asked(
    seed: int, folder: Path, name: str, pairs: list[dict[str, Any]]
) -> dict[tuple[int, int], str]:
    """The likeliest critique of each response by a model."""
    from heedful.api import run as heedful
    from heedful.data.files import read_rows

    out = folder / f"by {name}.jsonl"
    heedful(
        "critique", model=str(folder / name), data=str(folder / "compared.jsonl"), max_tokens=24, out=out, seed=seed,
        quiet=True,
    )  # fmt: skip
    said = {(r["prompt"], r["completion"]): r["critique"] for _, r in read_rows(out)}
    return {
        (i, k): said.get((pair["prompt"], pair[side]), "")
        for i, pair in enumerate(pairs)
        for k, side in enumerate(("chosen", "rejected"))
    }


def misled(seed: int, pairs: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    """Of every response a claim that is right is called wrong."""
    rng = random.Random(f"misled/{seed}")
    return {
        (
            i,
            k,
        ): f"“{rng.choice([c for c in pair[side].rstrip('.').split('. ') if _true(c)])}” is wrong."
        for i, pair in enumerate(pairs)
        for k, side in enumerate(("chosen", "rejected"))
    }


def judgments(
    seed: int,
    folder: Path,
    name: str,
    critic: Callable[[list[dict[str, Any]]], Mapping[tuple[int, int], str]] | None,
) -> tuple[float, Path]:
    """One judgment of each pair by raters in turn, who read the critiques; how often it is right, and the file."""
    import asyncio

    from heedful.data.critiques import shown
    from heedful.data.files import read_rows, write_rows
    from heedful.raters.panel import judge_all, judges

    pairs = [row for _, row in read_rows(folder / "compared.jsonl")]
    said = critic(pairs) if critic else {}
    items = [
        (p["prompt"], [shown(p[s], said.get((i, k), "")) for k, s in enumerate(("chosen", "rejected"))])
        for i, p in enumerate(pairs)
    ]  # fmt: skip
    told = asyncio.run(judge_all(judges(JUDGE, seed), items))
    right = [c.places[0] < c.places[1] for c in told]
    rows = [
        {"prompt": p["prompt"], "responses": [p["chosen"], p["rejected"]], "ranking": [*c.ranking]}
        for p, c in zip(pairs, told, strict=True)
    ]
    write_rows(folder / f"{name}.jsonl", rows)
    return sum(right) / len(right), folder / f"{name}.jsonl"


def rewarded(seed: int, folder: Path, name: str, data: Path) -> float:
    """Accuracy on held-out pairs of a reward model of these judgments."""
    from heedful.api import run as heedful
    from heedful.reproductions.running import trained

    model = trained(
        "reward", folder / f"reward {name}", seed, model=str(folder / "base"), data=str(data),
        eval_data=str(folder / "asked.jsonl"), epochs=8.0, batch_size=16, learning_rate=1e-3,
    )  # fmt: skip
    out = folder / "eval" / name
    heedful("evaluate reward", reward=(model,), data=str(folder / "held_out.jsonl"), out=out, quiet=True)  # fmt: skip
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["accuracy"]


ARMS = ("wrong critic", "alone", "imitating critic", "critic")


def figure(seeds: Sequence[Result]) -> Figure:
    """Accuracy of the reward model against that of the judgments, a point for each seed."""
    return Figure(
        title="What critiques do to judgments, and these to reward models",
        x="share of judgments that are right",
        y="accuracy of the reward model",
        lines={n: sorted((s[f"{n}: judgments right"], s[f"{n}: reward model"]) for s in seeds) for n in ARMS},
    )  # fmt: skip


REPRODUCTION = Reproduction(
    name="critiques",
    claim="Raters who read what a critic says judge better, and a reward model of as many judgments is more accurate; "
    "a critic that misleads makes both worse.",
    source="Saunders et al. 2022, §4",
    what=f"Answers of {CLAIMS} claims, one of which may be wrong. A Llama of {MODEL['layers']} layers and width "
    f"{MODEL['hidden_size']} imitates {CRITICISED:,} critiques ({EPOCHS:g} epochs) by people who find {FINDS:.0%} of "
    "errors and make up others, then learns by GRPO from whether a simulated rater decides rightly who reads it. Such "
    f"a rater sees an error with chance {SEES} alone, {POINTED} where the critique names it, {MISLED} where it says "
    f"something else. {COMPARED} judgments alone, with critiques, and with those of a critic that calls right claims "
    "wrong; a reward model of each, on held-out pairs of which it is known what is right. This is a third try, by"
    " the same criteria. The first imitated for 4 epochs, and its critic called right and wrong claims wrong "
    "equally often; the second, of 12 epochs and 300 judgments, had a gain of .11 [−.0075, .22]: on one seed the "
    "critic was still on that plateau, on another the reward model of 300 judgments erred more than the "
    "judgments. Chosen by one pilot with another seed.",
    frozen="2026-11-30",
    criteria=(
        Criterion("more accurate with the critic", "critic less alone", "at least", 0.0, "interval"),
        Criterion("less with the wrong one", "alone less wrong critic", "at least", 0.0, "interval"),
    ),
    run=run,
    minutes=3,
    figure=figure,
)  # fmt: skip
