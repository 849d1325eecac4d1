"""Evaluation: sample responses to held-out prompts, score them, estimate KL, and compare with a baseline."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from statistics import fmean
from typing import Any

from heedful.configs.evaluate import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.files import write_json
from heedful.data.samples import Drawn, best, rewards_of, sample_row
from heedful.data.sources import (
    prompt_of,
    read_questions,
    read_samples,
    write_rows,
)
from heedful.errors import UserError
from heedful.evals import best_of_n
from heedful.evals.statistics import bootstrap_ci, win_rate
from heedful.learner.local import predict
from heedful.models.load import load_policy
from heedful.recipes.policy import policy_forward
from heedful.recipes.sample import draw_as_told
from heedful.rewards import numbers
from heedful.transfer.sources import materialise
from heedful.types import Sampling
from heedful.worlds import scorer, voices


def run(config: Config) -> dict[str, Any]:
    """Writes the folder and returns what evaluation.json holds."""
    refuse_nonsense(config)
    questions = read_questions(materialise(config.data, "prompts", split="held_out"))
    drawn = draw_as_told(config, questions[: config.limit], n=config.best_of or 1)
    picks = [best(d) if config.best_of else 0 for d in drawn]
    result: dict[str, Any] = {"model": config.model, "prompts": len(drawn)}
    chosen = [d.samples[k] for d, k in zip(drawn, picks, strict=True)]
    kls: list[float] = []
    result["length"] = fmean(sum(s.mask) for s in chosen)
    result["eos_rate"] = fmean(s.stop_reason == "stop" for s in chosen)
    if config.reward:
        result["reward"] = fmean(s.reward for s in chosen)
        parts = [d.parts[k] for d, k in zip(drawn, picks, strict=True)]
        if len(parts[0]) > 1:
            result["reward_parts"] = {name: fmean(p[name] for p in parts) for name in parts[0]}
    if config.best_of:
        kl, interval = best_of_n.mean_kl(rewards_of(drawn), config.best_of)
        result |= {"kl": kl, "kl_ci": interval, "best_of": config.best_of}
    elif config.reference is not None:
        kls = sequence_kls(config, drawn, config.sampling)
        result |= {"kl": fmean(kls), "kl_ci": bootstrap_ci(kls)}
    rows = [sample_row(d, k, config.model, config.seed) for d, k in zip(drawn, picks, strict=True)]
    if config.scorer is not None:
        result |= _score(config, rows)
        if config.best_of:
            result["curve"] = best_of_curve(config, drawn)
    for row, kl in zip(rows, kls, strict=False):  # none where no KL was asked for
        row["kl"] = round(kl, 6)
    config.out.mkdir(parents=True, exist_ok=True)
    write_rows(config.out / "samples.jsonl", rows)
    write_json(config.out / "evaluation.json", result)
    return result


def sequence_kls(config: Config, drawn: list[Drawn], sampling: Sampling) -> list[float]:
    """log π − log π_ref of each sampled response: their mean estimates the KL per response without bias."""
    assert config.reference is not None
    reference = load_policy(config.reference, device=config.device)
    samples = [replace(d.samples[0], group=i) for i, d in enumerate(drawn)]
    batch = collate(samples)
    ref_logp = predict(reference, policy_forward(sampling), batch, 16384).logp
    return ((batch.old_logp - ref_logp) * batch.mask).sum(1).tolist()


def best_of_curve(config: Config, drawn: list[Drawn]) -> list[dict[str, Any]]:
    """KL, gold and reward of best-of-1, 2, 4, … from the same samples, by their laws under ties."""
    assert config.scorer is not None
    gold, curve, n = scorer(config.scorer), [], 1
    rewards = rewards_of(drawn)
    scores = [[float(gold(d.prompt, text)) for text in d.texts] for d in drawn]
    while n <= config.best_of:
        means = [best_of_n.mean_score(r, g, n) for r, g in zip(rewards, scores, strict=True)]
        curve.append(
            {
                "n": n,
                "kl": best_of_n.mean_kl(rewards, n)[0],
                "gold": fmean(means),
                "gold_ci": bootstrap_ci(means),
                "reward": fmean(best_of_n.mean_score(r, r, n) for r in rewards),
            }
        )
        n *= 2
    return curve


def _score(config: Config, rows: list[dict]) -> dict[str, Any]:
    """Adds `gold` (and `voice`, where the world has voices) to the rows; returns their summary."""
    assert config.scorer is not None
    gold, voice_of = scorer(config.scorer), voices(config.scorer)
    for row in rows:
        prompt = prompt_of("samples", row)
        response = row["completion"]
        (row["gold"],) = numbers([gold(prompt, response)], config.scorer, prompt, [response])
        if voice_of is not None:
            row["voice"] = voice_of(prompt, row["completion"])
    scores = [row["gold"] for row in rows]
    result: dict[str, Any] = {"gold": fmean(scores), "gold_ci": bootstrap_ci(scores)}
    if voice_of is not None:
        counts = Counter(row["voice"] for row in rows)
        result["voices"] = {name: counts[name] / len(rows) for name in sorted(counts)}
    if config.baseline is not None:
        theirs = {prompt_of(str(config.baseline), r): r for r in read_samples(config.baseline)}
        prompts = [prompt_of("samples", row) for row in rows]
        missing = [p for p in prompts if "gold" not in theirs.get(p, {})]
        if missing:
            raise UserError(
                f"--baseline {config.baseline} has no scored response to {len(missing)} of "
                f"{len(rows)} prompts; evaluate it on the same --data with the same --scorer"
            )
        rate, interval = win_rate(scores, [theirs[p]["gold"] for p in prompts])
        result |= {"win_rate": rate, "win_rate_ci": interval}
    return result
