"""Summaries of posts: what all of them share is learned from demonstrations only, and the rest from comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

DOCUMENTS, DEMONSTRATIONS, COMPARED, RESPONSES = 16000, 1500, 500, 4
MODEL = {"hidden_size": 64, "layers": 2, "heads": 4, "context": 160, "vocab_size": 600}
STEPS, ROUNDS, HELD_OUT = 1600, 20, 300
MODELS = ("base", "SFT", "DPO without SFT", "RLHF")


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A base model that has read no TL;DR, and three that come from it."""
    learned(seed, folder, quick)
    found: dict[str, Any] = {"people: gold": 0.0}
    for name in MODELS:
        told = evaluated(seed, folder, name, quick)
        found |= {
            f"{name}: TL;DR": told["tldr"],
            f"{name}: win rate against people": told["win_rate"],
            f"{name}: at equal length": told["win_rate_length_controlled"],
            f"{name}: gold": told["gold"],
            f"{name}: ROUGE-1": told["overlap"]["rouge1"],
            f"{name}: ROUGE-L": told["overlap"]["rougeL"],
            "people: gold": told["baseline_gold"],
        }
    wins = "win rate against people"
    return found | {
        "RLHF less SFT: win rate": found[f"RLHF: {wins}"] - found[f"SFT: {wins}"],
        "RLHF less SFT: ROUGE-1": found["RLHF: ROUGE-1"] - found["SFT: ROUGE-1"],
    }


def learned(seed: int, folder: Path, quick: bool) -> None:
    """All models. The same comparisons, of summaries by SFT, teach the reward and, by DPO, the base model."""
    from heedful.api import run as heedful
    from heedful.reproductions.running import trained

    sizes = {"documents": DOCUMENTS, "demonstrations": DEMONSTRATIONS}
    small = {"documents": 400, "demonstrations": 60}
    heedful("world", name="posts", out=folder, seed=seed, **(small if quick else sizes))
    base = trained(
        "pretrain", folder / "base", seed, data=str(folder / "text.jsonl"), **MODEL, batch_size=16,
        steps=4 if quick else STEPS,
    )  # fmt: skip
    sft = trained(
        "sft", folder / "SFT", seed, model=base, data=str(folder / "demonstrations.jsonl"), epochs=3.0,
        learning_rate=2e-3,
    )  # fmt: skip
    prompts, compared = str(folder / "prompts.jsonl"), folder / "comparisons.jsonl"
    samples = folder / "samples.jsonl"
    heedful(
        "sample", model=sft, data=prompts, n=RESPONSES, max_tokens=40, limit=10 if quick else COMPARED,
        out=samples, seed=seed, quiet=True,
    )  # fmt: skip
    heedful("judge", data=str(samples), judge="posts", out=compared, seed=seed, quiet=True)
    of = {"data": str(compared)}
    trained("dpo", folder / "DPO without SFT", seed, model=base, learning_rate=3e-4, **of)
    reward = trained(
        "reward", folder / "reward", seed, model=sft, epochs=2.0, learning_rate=2e-3, **of
    )
    trained(
        "rloo", folder / "RLHF", seed, model=sft, reward=(reward,), data=prompts,
        steps=2 if quick else ROUNDS, learning_rate=5e-4, max_tokens=40,
    )  # fmt: skip


def evaluated(seed: int, folder: Path, name: str, quick: bool) -> dict[str, Any]:
    """evaluation.json of a model beside what people wrote, and how many of its summaries begin with TL;DR."""
    from heedful.api import run as heedful
    from heedful.worlds.posts import TLDR

    out = folder / "eval" / name
    told = heedful(
        "evaluate", model=str(folder / name), data=str(folder / "held_out.jsonl"), scorer="posts",
        baseline=str(folder / "people.jsonl"), overlap=True, limit=20 if quick else HELD_OUT,
        max_tokens=40, out=out, seed=1000 + seed, quiet=True,
    )  # fmt: skip
    lines = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    begun = [json.loads(line)["completion"].lstrip().startswith(TLDR) for line in lines]
    return {**told, "tldr": sum(begun) / len(begun)}


def figure(seeds: Sequence[Result]) -> Figure:
    """Win rate against people's summaries beside ROUGE to them, a point for each seed."""
    return Figure(
        title="Summaries by models, beside people's",
        x="ROUGE-1 to what people wrote",
        y="win rate against it",
        lines={
            name: [(s[f"{name}: ROUGE-1"], s[f"{name}: win rate against people"]) for s in seeds]
            for name in MODELS
        },
    )


REPRODUCTION = Reproduction(
    name="summaries",
    claim="What all summaries share, the TL;DR that they begin with, is learned from demonstrations and never from "
    "comparisons, of which both sides have it; comparisons teach the rest: RLHF's summaries win against people's more "
    "often than those of supervised fine-tuning.",
    source="Stiennon et al. 2020, figure 1 and appendix; Rafailov et al. 2023 on what cancels in a pair",
    what=f"The world `posts`: a Llama of {MODEL['layers']} layers and width {MODEL['hidden_size']} that has read "
    f"{DOCUMENTS:,} posts with replies and no TL;DR; SFT on {DEMONSTRATIONS} summaries by people of mixed care; "
    f"{COMPARED} prompts with {RESPONSES} summaries each, ranked by a noisy simulated rater; a reward model and "
    f"{ROUNDS} rounds of RLOO (RLHF), and DPO from the base model on the same comparisons. On held-out posts: wins by "
    "the world's gold score against what people wrote of the same post, ROUGE to it beside.",
    frozen="2026-11-30",
    criteria=(
        Criterion("summaries by SFT begin with TL;DR", "SFT: TL;DR", "at least", 0.9, "every seed"),
        Criterion("those by DPO without SFT do not", "DPO without SFT: TL;DR", "at most", 0.05, "every seed"),
        Criterion(
            "RLHF wins against people's more often than SFT", "RLHF less SFT: win rate", "at least", 0.0, "interval"
        ),
    ),
    run=run,
    minutes=10,
    figure=figure,
)  # fmt: skip
