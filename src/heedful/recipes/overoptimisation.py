"""How far a reward can be trusted: sample once, score twice, and read best-of-n for every n off the samples."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful import __version__
from heedful.configs import sample as sampling
from heedful.configs.overoptimisation import OF_SAMPLING, Config, refuse_nonsense
from heedful.data.files import write_json
from heedful.data.samples import facts_of_sample
from heedful.data.sources import read_questions, read_samples
from heedful.errors import UserError
from heedful.evals import overoptimisation as over
from heedful.recipes import sample
from heedful.recipes.demo import machine
from heedful.recipes.evaluate import scored_by
from heedful.recipes.score import score_rows
from heedful.report import instruments
from heedful.rewards import Part, Parts, load_rewards
from heedful.run import settings
from heedful.transfer.sources import materialise
from heedful.yaml_file import read_yaml

Scores = list[NDArray[np.float64]]  # of each prompt's responses
MEMBER = "watched/{}"  # the scores of one of several rewards that watch


def run(config: Config) -> Path:
    """Returns the page's path; overoptimisation.json beside it has every number."""
    refuse_nonsense(config)
    given = read_samples(config.samples) if config.samples else None
    proxy_parts = load_rewards(config.reward, weights=config.reward_weights, device=config.device)
    others = {
        name: scored_by(spec, config.device)
        for name, spec in (("gold", config.gold), ("watched", config.watch_reward))
        if spec is not None
    }
    swept = {spec: load_rewards((spec,), device=config.device) for spec in config.sweep}
    parts = {"proxy": proxy_parts, **others, **{f"sweep {s}": of for s, of in swept.items()}}
    rows = given or read_samples(drawn(config, parts))
    ensemble = ensemble_of(others.get("watched"))
    if ensemble is not None:
        parts["watched"] = one_by_one(ensemble)
    columns = {
        name: asyncio.run(score_rows(of, rows, quiet=config.quiet)) for name, of in parts.items()
    }
    if ensemble is not None:
        columns |= by_member(ensemble, columns["watched"])
    scores, left_out = by_prompt(rows, columns)
    result = {
        "model": config.model or str(config.samples),
        "reward": " ".join(config.reward),
        "gold": config.gold,
        "watch_reward": config.watch_reward,
        **measured({n: of for n, of in scores.items() if not n.startswith("sweep ")}),
        "sweep": {s: by_another(scores[f"sweep {s}"], scores, next(iter(others))) for s in swept},
        "left_out": left_out,
        "version": __version__,
        "machine": machine(),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / "overoptimisation.json", result)
    print(instruments.trust(result))
    return instruments.overoptimisation(result, config.out / "overoptimisation.html")


def drawn(config: Config, parts: Mapping[str, Parts]) -> Path:
    """The file of samples: of an earlier call with the same settings, or sampled now, once it is known that every
    prompt has what its responses will be scored by."""
    out, noted = config.out / "samples.jsonl", config.out / "sampling.yaml"
    fields = {name: getattr(config, name) for name in ("model", "data", "n", *OF_SAMPLING)}
    wanted = sampling.Config(**fields, out=out, device=config.device, quiet=config.quiet)
    told = {k: v for k, v in settings(wanted).items() if k not in ("device", "quiet", "out")}
    if out.exists() and noted.exists():
        if read_yaml(noted, str(noted)) == told:
            return out
        raise UserError(
            f"{out} was sampled with other settings ({noted}): choose another --out, or remove it"
        )
    import yaml

    from heedful.disk import write_text

    if config.on_bad_row == "stop":
        source = materialise(config.data, "prompts", split="all")
        for prompt, facts in islice(read_questions(source, config.columns), config.limit):
            for part in parts.values():
                part.check(prompt, facts)
    sample.run(wanted)
    write_text(noted, yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
    return out


def ensemble_of(watched: Parts | None) -> Part | None:
    """What watches, where it is the mean of several rewards. Where their spread is charged it is no error besides."""
    part = watched.parts[0] if watched is not None and len(watched.parts) == 1 else None
    if part is None:
        return None
    return part if len(part.members) > 1 and part.by == "mean" and part.k == 0 else None


def one_by_one(ensemble: Part) -> Parts:
    """Each member as a part of its own, called 1, 2, …"""
    members = enumerate(ensemble.members, start=1)
    return Parts(
        [replace(ensemble, name=f"{k}", members=(m,), by="mean", k=0.0) for k, m in members]
    )


def by_member(ensemble: Part, column: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What was scored one by one → the ensemble's score as `watched`, and each member's as `watched/1`, ….; no score
    where one abstains."""
    names = [f"{k}" for k in range(1, len(ensemble.members) + 1)]
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("watched", *map(MEMBER.format, names))
    }
    for row in column:
        told = [row.get("reward_parts", {}).get(name) for name in names]
        known = [v for v in told if v is not None]
        found["watched"].append({"reward": ensemble.combine(known)} if known else {})
        for name, value in zip(names, told, strict=True):
            found[MEMBER.format(name)].append({} if value is None else {"reward": value})
    return found


def by_prompt(
    rows: Sequence[dict[str, Any]], columns: dict[str, list[dict[str, Any]]]
) -> tuple[dict[str, Scores], int]:
    """Each score of each prompt's responses; and how many were left out because one of the scores abstains."""
    groups: dict[str, list[int]] = {}
    left_out = 0
    for i, row in enumerate(rows):
        if all("reward" in column[i] for column in columns.values()):
            facts = sorted(facts_of_sample(row).items(), key=repr)
            groups.setdefault(repr((row["prompt"], facts)), []).append(i)
        else:
            left_out += 1
    several = [members for members in groups.values() if len(members) > 1]
    if not several:
        raise UserError("no prompt has two responses that can be scored: more --n")
    return {
        name: [np.array([column[i]["reward"] for i in members]) for members in several]
        for name, column in columns.items()
    }, left_out


def measured(scores: dict[str, Scores]) -> dict[str, Any]:
    """Curves of all scores over n, KL, the laws' fits and the alarm. n goes as far as every prompt has samples."""
    most = min(len(values) for values in scores["proxy"])
    ns = over.sizes(most)
    kl = [float(np.mean([over.best_kl(values, n) for values in scores["proxy"]])) for n in ns]
    matrices = {
        name: np.stack(
            [over.best_scores(p, s, ns) for p, s in zip(scores["proxy"], of, strict=True)]
        )
        for name, of in scores.items()
    }
    members = [matrix for name, matrix in matrices.items() if name.startswith(MEMBER.format(""))]
    curves: dict[str, dict[str, Any]] = {}
    for name, matrix in matrices.items():
        if name.startswith(MEMBER.format("")):
            continue
        curve = over.curve(matrix)
        d, gain = [math.sqrt(x) for x in kl], [m - curve.mean[0] for m in curve.mean]
        curves[name] = {
            "mean": curve.mean,
            "ci": curve.ci,
            "peak_n": ns[curve.peak],
            "peak_kl": kl[curve.peak],
            "lost": curve.lost,
            "fall_ci": curve.fall_ci,
            "best_of_n_law": asdict(over.fit_best_of_n(d, gain)),
            "rl_law": asdict(over.fit_rl(d, gain)),
        }
        if name != "proxy":
            several = name == "watched" and bool(members)
            where = over.alarm(np.stack(members) if several else matrix)
            curves[name]["alarm_n"] = None if where is None else ns[where]
            curves[name]["correlation"] = within_prompts(scores["proxy"], scores[name])
    prompts = len(scores["proxy"])
    return {"prompts": prompts, "samples": most, "ns": ns, "kl": kl, "curves": curves}


def by_another(proxy: Scores, scores: dict[str, Scores], judge: str) -> dict[str, Any]:
    """KL and the judge's curve of the best of n by another reward: `judge` is gold where there is one, else watched."""
    judges = {name: of for name, of in scores.items() if name.startswith(judge)}
    found = measured({"proxy": proxy, **judges})
    return {"kl": found["kl"], **found["curves"][judge]}


def within_prompts(proxy: Scores, other: Scores) -> float | None:
    """Pearson's correlation of two scores over the responses to a prompt, mean over prompts in which both vary."""
    both = [(p, s) for p, s in zip(proxy, other, strict=True) if p.std() > 0 and s.std() > 0]
    return float(np.mean([np.corrcoef(p, s)[0, 1] for p, s in both])) if both else None
