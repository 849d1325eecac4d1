"""Evaluation: sample responses to held-out prompts, score them, estimate KL, and compare with a baseline."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from heedful.configs.evaluate import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.episodes import transcript_row
from heedful.data.files import write_json
from heedful.data.samples import Drawn, all_rewards, best, sample_row
from heedful.data.sources import write_rows
from heedful.errors import UserError
from heedful.evals import best_of_n, calibration, texts
from heedful.evals.refusals import harm_of, refusals
from heedful.evals.statistics import bootstrap_ci
from heedful.learner.local import predict
from heedful.models.load import load_reference, refuse_other_ids
from heedful.raters.panel import judges
from heedful.recipes.evaluate_against import against, read_baseline
from heedful.recipes.policy import policy_forward
from heedful.recipes.sample import Ready, draw_as_told, episodes_as_told, made_ready
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.remote.sources import sources
from heedful.report import instruments
from heedful.rewards import Group, Part, Parts, load_rewards
from heedful.rewards.functions import as_reward
from heedful.rewards.heads import Attributes
from heedful.transfer.sources import materialise
from heedful.types import Demonstration, Rater, Sampling
from heedful.worlds import is_world, scorer, voices


def run(config: Config) -> dict[str, Any]:
    """Writes the folder and returns what evaluation.json holds."""
    refuse_nonsense(config)
    source = materialise(config.data, "prompts", split="held_out")
    gold = None if config.scorer is None else scored_by(config.scorer, config.device)
    ready = made_ready(config, source, "held_out", gold)
    if ready.env is not None:
        with recorded_until_done(config.out / ANSWERS, sources(config)):
            return played_out(config, ready)
    if config.overlap or config.variety:  # what is missing is told before anything is sampled
        texts.package("sacrebleu")
    if config.overlap:
        texts.package("rouge_score.rouge_scorer")
    for task in ready.todo:
        harm_of(task.facts)
    if config.reference is not None:
        refuse_other_ids(config.model, config.reference)
    theirs = read_baseline(config, ready.todo)
    raters = judges(config.judge, config.seed) if config.judge else []
    with recorded_until_done(config.out / ANSWERS, sources(config)):
        return _measured(config, ready, gold, theirs, raters)


def _measured(
    config: Config,
    ready: Ready,
    gold: Parts | None,
    theirs: Sequence[Sequence[Demonstration]],
    raters: Sequence[Rater],
) -> dict[str, Any]:
    drawn = draw_as_told(config, ready, n=config.best_of or 1)
    picks = [best(d) if config.best_of else 0 for d in drawn]
    result: dict[str, Any] = {"model": config.model, "prompts": len(drawn)}
    chosen = [d.samples[k] for d, k in zip(drawn, picks, strict=True)]
    kls: list[float] = []
    result["length"] = fmean(sum(s.mask) for s in chosen)
    result["eos_rate"] = fmean(s.stop_reason == "stop" for s in chosen)
    if config.reward:
        result |= _of_reward(drawn, picks) | _of_heads(ready.reward, drawn, picks)
    if config.best_of:
        kl, interval = best_of_n.mean_kl(all_rewards(drawn), config.best_of)
        result |= {"kl": kl, "kl_ci": interval, "best_of": config.best_of}
    elif config.reference is not None:
        kls = sequence_kls(config, drawn, config.sampling)
        result |= {"kl": fmean(kls), "kl_ci": bootstrap_ci(kls)}
    said = [d.texts[k] for d, k in zip(drawn, picks, strict=True)]
    result |= refusals([harm_of(d.facts) for d in drawn], said)
    rows = [sample_row(d, k, config.model, config.seed) for d, k in zip(drawn, picks, strict=True)]
    ours = [_group(d, [k]) for d, k in zip(drawn, picks, strict=True)]
    if gold is not None:
        result |= _score(config, gold, ours, rows)
        if config.best_of:
            result["curve"] = best_of_curve(config, gold, drawn)
    if config.calibration:
        result["calibration"] = _calibration(config, rows)
    if theirs:
        result |= against(config, gold, raters, ours, theirs, rows)
    if config.variety:
        result["variety"] = texts.variety([group.responses[0] for group in ours], seed=config.seed)
    for row, kl in zip(rows, kls, strict=False):  # none where no KL was asked for
        row["kl"] = round(kl, 6)
    config.out.mkdir(parents=True, exist_ok=True)
    write_rows(config.out / "samples.jsonl", rows)
    write_json(config.out / "evaluation.json", result)
    if config.calibration:
        print(instruments.calibration(result, config.out / "calibration.html"))
    return result


def played_out(config: Config, ready: Ready) -> dict[str, Any]:
    """What episodes are worth: with --best-of the best of each task. Intervals are over tasks, whose episodes are not
    independent of each other."""
    n = config.best_of or config.n
    groups = [group for group in episodes_as_told(config, ready, n=n) if group]
    if config.best_of:
        groups = [[max(group, key=lambda e: e.score)] for group in groups]
    every = [e for group in groups for e in group]
    if not every:
        raise UserError("every episode was dropped, so there is nothing to measure")
    returns = [fmean(e.score for e in group) for group in groups]
    successes = [fmean(e.score >= config.success for e in group) for group in groups]
    names = dict.fromkeys(name for e in every for name in e.parts)
    counted = dict.fromkeys(name for e in every for name in e.counts)
    result: dict[str, Any] = {
        "model": config.model,
        "env": config.env or " ".join(config.tools),
        "tasks": len(groups),
        "episodes": len(every),
        "success": fmean(successes),
        "success_ci": bootstrap_ci(successes),
        "return": fmean(returns),
        "return_ci": bootstrap_ci(returns),
        "reward_parts": {name: fmean(e.parts.get(name, 0.0) for e in every) for name in names},
        "turns": fmean(len(e.turns) for e in every),
        "truncated": fmean(e.ended == "truncated" for e in every),
        "dropped": len(ready.todo) * (1 if config.best_of else n) - len(every),
        **{name: fmean(e.counts.get(name, 0) for e in every) for name in counted},
    }
    rows = [
        transcript_row(e, k, config.model, config.seed)
        for group in groups
        for k, e in enumerate(group)
    ]
    config.out.mkdir(parents=True, exist_ok=True)
    write_rows(config.out / "transcripts.jsonl", rows)
    write_json(config.out / "evaluation.json", result)
    return result


def scored_by(spec: str, device: str) -> Parts:
    """A world's gold score, or whatever --reward takes."""
    if is_world(spec):
        return Parts([Part(name="gold", members=(as_reward(scorer(spec), "gold"),))])
    return load_rewards(spec, device=device)


def _group(d: Drawn, rows: Sequence[int]) -> Group:
    """Some of the responses to a prompt as a reward sees them."""
    samples = [d.samples[k] for k in rows]
    return Group(
        d.prompt,
        [d.texts[k] for k in rows],
        [s.stop_reason == "stop" for s in samples],
        d.facts,
        tokens=[[t for t, m in zip(s.tokens, s.mask, strict=True) if m] for s in samples],
        prefilled=d.prefilled,
    )


def _of_reward(drawn: Sequence[Drawn], picks: Sequence[int]) -> dict[str, Any]:
    """The mean reward and its parts, of those responses that they do not abstain from."""
    rewards = [d.rewards[k] for d, k in zip(drawn, picks, strict=True)]
    scored = [r.total for r in rewards if r.total is not None]
    if not scored:
        raise UserError("--reward: every term abstains from every response")
    result: dict[str, Any] = {"reward": fmean(scored)}
    if len(scored) < len(rewards):
        result["reward_unscored"] = len(rewards) - len(scored)
    if len(rewards[0].parts) > 1:
        values = {
            name: [v for r in rewards if (v := r.parts[name]) is not None]
            for name in rewards[0].parts
        }
        result["reward_parts"] = {name: fmean(v) if v else None for name, v in values.items()}
    return result


def _of_heads(reward: Parts | None, drawn: Sequence[Drawn], picks: Sequence[int]) -> dict[str, Any]:
    """What the heads of a reward model say: the mean rating on an axis; of a rule the share of responses that break it,
    those that it is more likely than not broken by."""
    told: dict[str, Any] = {}
    for heads in (getattr(member, "heads", None) for member in (reward.members if reward else ())):
        if not isinstance(heads, Attributes):
            continue
        for name, rule in zip(heads.names, heads.rules, strict=True):
            values = [d.rewards[k].extra[name] for d, k in zip(drawn, picks, strict=True)]
            values = [float(v < 0.5) for v in values] if rule else values
            told[name] = {"broken" if rule else "mean": fmean(values), "ci": bootstrap_ci(values)}
    return {"heads": told} if told else {}


def sequence_kls(config: Config, drawn: list[Drawn], sampling: Sampling) -> list[float]:
    """log π − log π_ref of each sampled response: their mean estimates the KL per response without bias."""
    assert config.reference is not None
    reference = load_reference(config.reference, config.model, device=config.device)
    samples = [replace(d.samples[0], group=i) for i, d in enumerate(drawn)]
    batch = collate(samples)
    ref_logp = predict(reference, policy_forward(sampling), batch, 16384).logp
    return ((batch.old_logp - ref_logp) * batch.mask).sum(1).tolist()


def best_of_curve(config: Config, gold: Parts, drawn: list[Drawn]) -> list[dict[str, Any]]:
    """KL, gold and reward of best-of-1, 2, 4, … from the same samples, by their laws under ties.

    Of those prompts whose every response has a reward and a score.
    """
    groups = [_group(d, range(len(d.samples))) for d in drawn]
    flat = iter(asyncio.run(gold.score(groups)).total)
    worth = [[next(flat) for _ in d.samples] for d in drawn]
    whole = [
        ([r.total for r in d.rewards if r.total is not None], [s for s in scores if s is not None])
        for d, scores in zip(drawn, worth, strict=True)
    ]
    whole = [(r, g) for r, g in whole if len(r) == len(g) == config.best_of]
    if not whole:
        return []
    rewards, scores = [r for r, _ in whole], [g for _, g in whole]
    curve, n = [], 1
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


def _score(
    config: Config, gold: Parts, ours: Sequence[Group], rows: Sequence[dict]
) -> dict[str, Any]:
    """Adds `gold` (and `voice`, where the world has voices) to the rows; returns their summary."""
    assert config.scorer is not None
    voice_of = voices(config.scorer)
    for row, group, score in zip(rows, ours, asyncio.run(gold.score(ours)).total, strict=True):
        if score is not None:
            row["gold"] = score
        if voice_of is not None:
            row["voice"] = voice_of(group.prompt, group.responses[0])
    scores = [row["gold"] for row in rows if "gold" in row]
    if not scores:
        raise UserError(f"--scorer {config.scorer} abstains from every response")
    result: dict[str, Any] = {"gold": fmean(scores), "gold_ci": bootstrap_ci(scores)}
    if len(scores) < len(rows):
        result["gold_unscored"] = len(rows) - len(scores)
    if voice_of is not None:
        counts = Counter(row["voice"] for row in rows)
        result["voices"] = {name: counts[name] / len(rows) for name in sorted(counts)}
    return result


def _calibration(config: Config, rows: Sequence[dict]) -> dict[str, Any]:
    """Confidence is the probability of the answer under the policy it was drawn from, whole or a token's (the geometric
    mean), which long answers do not lower."""
    scored = [row for row in rows if "gold" in row]
    if len(scored) < calibration.LEAST:
        raise UserError(
            f"--calibration needs {calibration.LEAST} answers with a score at least, not {len(scored)}"
        )
    right = [row["gold"] >= config.right for row in scored]
    tokens = [max(1, len(row["tokens"])) for row in scored]
    logprobs = [row["logprob"] for row in scored]
    return {
        "answer": calibration.summary([math.exp(x) for x in logprobs], right),
        "token": calibration.summary(
            [math.exp(x / n) for x, n in zip(logprobs, tokens, strict=True)], right
        ),
        "words": calibration.doubts([row["completion"] for row in scored], right),
        "right_from": config.right,
    }
