"""Reward against KL on text that people wrote: DPO at several β beside what learns from the same comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.pipeline_reviews import (
    HELD_OUT,
    JUDGED,
    MOST,
    SMALL,
    instructed,
    rewarded,
)

BETAS = (0.05, 0.1, 0.3, 1.0)
PAIRS: dict[str, Any] = {"pairs": "best_worst", "epochs": 2.0, "learning_rate": 3e-4}
ROUNDS: dict[str, Any] = {
    "steps": 24, "inner_epochs": 2, "learning_rate": 5e-4, "critic_learning_rate": 1e-3, "max_tokens": MOST,
}  # fmt: skip
POINTS = 4  # checkpoints of each run
GOLD, COMPARED = "PPO on gold", "PPO 0.1 on compared prompts"
METHODS: dict[str, dict[str, Any] | None] = {
    **{f"DPO {beta:g}": {"method": "dpo", "beta": beta, **PAIRS} for beta in BETAS},
    "preferred-FT": {"method": "preferred_ft", **PAIRS},
    "unlikelihood": {"method": "unlikelihood", **PAIRS, "learning_rate": 1e-4},
    **{f"PPO {beta:g}": {"method": "ppo", "beta": beta, **ROUNDS} for beta in BETAS[1:3]},
    COMPARED: {"method": "ppo", "beta": 0.1, **ROUNDS},
    GOLD: {"method": "ppo", "reward": "heedful.worlds.reviews:gold", "beta": 0.1, **ROUNDS},
    "best_of_16": None,
}
OURS, AGAINST = "DPO 0.1", ("preferred-FT", "unlikelihood", "PPO 0.1", GOLD)
FAMILIES = ("DPO", "preferred-FT", "unlikelihood", "PPO", GOLD, "best_of_16")


def run(seed: int, folder: Path, quick: bool) -> Result:
    """All methods from one SFT model and one set of comparisons, by `heedful compare`."""
    from heedful.api import run as heedful
    from heedful.evals.frontier import hypervolume
    from heedful.evals.statistics import rank_correlation
    from heedful.reproductions.running import film_reviews

    files = {name: str(file) for name, file in film_reviews(folder / "data").items()}
    sft = instructed(seed, folder, quick, files, "SFT", SMALL)
    reward, comparisons = rewarded(seed, folder, quick, files, sft), folder / "comparisons.jsonl"
    methods = short(METHODS) if quick else METHODS
    alone = {"data": prompts_of(comparisons, folder / "compared.jsonl")}
    plan = {
        "out": str(folder / "compare"), "model": sft, "reward": reward, "data": files["prompts"],
        "comparisons": str(comparisons), "seeds": [seed], "checkpoints": POINTS, "common": {},
        "methods": methods | {COMPARED: (methods[COMPARED] or {}) | alone},
        "evaluate": {
            "data": files["held_out"], "scorer": "reviews", "limit": 20 if quick else HELD_OUT,
        },
    }  # fmt: skip
    # A file of JSON is one of YAML.
    (folder / "compare.yaml").write_text(json.dumps(plan), encoding="utf-8")
    heedful("compare", config=folder / "compare.yaml", quiet=True)
    told = json.loads((folder / "compare" / "results.json").read_text(encoding="utf-8"))
    points = {
        one["label"]: [(p["kl"]["mean"], p["gold"]["mean"]) for p in one["points"]]
        for one in told["methods"]
    }
    start = told["start"]["gold"]["mean"]
    budget = max(kl for found in points.values() for kl, _ in found)
    area = {label: hypervolume(found, budget, start) for label, found in points.items()}
    ends = [points[f"DPO {beta:g}"][-1][0] for beta in BETAS]
    return {
        "start: gold": start,
        **{f"{label}: hypervolume": value for label, value in area.items()},
        **{f"{label}: KL": found[-1][0] for label, found in points.items()},
        **{f"{label}: gold": found[-1][1] for label, found in points.items()},
        **{f"DPO less {other}": area[OURS] - area[other] for other in AGAINST},
        "PPO 0.1 less PPO 0.1 on compared prompts": area["PPO 0.1"] - area[COMPARED],
        "DPO: Spearman(β, KL)": rank_correlation(BETAS, ends),
        **{f"{name}, points": sorted(of(name, points)) for name in FAMILIES},
    }


def prompts_of(comparisons: Path, file: Path) -> str:
    """A file of the prompts that were compared, each once."""
    from heedful.data.sources import read_rows, write_rows

    asked = dict.fromkeys(row["prompt"] for _, row in read_rows(comparisons))
    write_rows(file, ({"prompt": prompt} for prompt in asked))
    return str(file)


def of(family: str, points: Mapping[str, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """KL and gold of all checkpoints of a method, at whatever β."""
    alone = points.get(family)
    if alone is not None:
        return alone
    runs = (found for label, found in points.items() if label in (f"{family} {b:g}" for b in BETAS))
    return [point for found in runs for point in found]


def short(methods: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any] | None]:
    """A few steps of each."""
    few: dict[str, dict[str, Any] | None] = {}
    for label, fields in methods.items():
        few[label] = fields and {k: v for k, v in fields.items() if k != "epochs"} | {"steps": 4}
    return few


def figure(seeds: Sequence[Result]) -> Figure:
    """Of the first seed, each method's best checkpoint within each KL: those that none with less KL beats."""
    lines = {}
    for name in FAMILIES:
        best = float("-inf")
        lines[name] = [
            (kl, best := gold) for kl, gold in seeds[0][f"{name}, points"] if gold > best
        ]
    return Figure(
        title="The best gold within each KL on film reviews, seed 0",
        x="KL to the SFT model, nats per response",
        y="gold",
        lines=lines,
    )


REPRODUCTION = Reproduction(
    name="frontier-reviews",
    claim="From the same comparisons DPO buys more reward at every KL than learning the preferred response, or "
    "unlearning the other, does; and β sets how much KL it spends.",
    source="Rafailov et al. 2023, figure 2 and section 6.1",
    what="Film reviews as in `pipeline-reviews`: its small SFT model, its reward model and comparisons; by `heedful "
    f"compare` DPO with β of {', '.join(map(str, BETAS))}, preferred-FT, unlikelihood, PPO with β of .1 and .3 on the "
    "reward model and of .1 on the gold score, and best of 16. PPO samples from all openings, DPO has the "
    f"{JUDGED:,} that were compared; beside it PPO on these alone. {POINTS} checkpoints of each on {HELD_OUT} "
    "held-out openings. Gold is VADER. A run's hypervolume is the area above the start's gold of its best checkpoint "
    "within each budget of KL, up to the most that any spent; DPO with β = .1 stands for DPO, since the best of more "
    "checkpoints would be better by chance. KL is the mean over samples, for best of 16 estimated with its ties.",
    frozen="2026-11-30",
    criteria=(
        Criterion("DPO's hypervolume above preferred-FT's", "DPO less preferred-FT", "at least", 0.0, "interval"),
        Criterion("and above unlikelihood's", "DPO less unlikelihood", "at least", 0.0, "interval"),
        Criterion("Spearman of β and DPO's KL", "DPO: Spearman(β, KL)", "at most", -0.9, "every seed"),
    ),
    run=run,
    minutes=7,
    figure=figure,
)  # fmt: skip
