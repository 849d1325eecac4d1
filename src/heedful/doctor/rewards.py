"""Checks of a reward model: its head, where its score is read, and what its scores go by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch

from heedful.data.collate import collate
from heedful.data.tokens import encode_prompt
from heedful.doctor.context import Context, tolerance
from heedful.doctor.finding import (
    Finding,
    NotApplicable,
    failed,
    graded,
    passed,
    share,
    warned,
)
from heedful.errors import UserError
from heedful.learner.local import predict
from heedful.models.scores import at_last_token, one_by_one, scores_of
from heedful.rewards.model import SHIFT, score_forward
from heedful.types import Comparison, Sample

FEW = 8  # responses below which a correlation says nothing
PAIRS = 20  # pairs below which an accuracy says nothing


def head(context: Context) -> Finding:
    """The model has a trained scalar head: none had to be invented on loading."""
    if reason := context.refused.get("reward model"):
        return failed(reason, "name the folder that `heedful train reward` wrote")
    outputs = context.reward.model.config.num_labels
    return passed("has a trained head with one output", float(outputs or 1))


def formatting(context: Context) -> Finding:
    """The reward model reads the prompts in the form that it was trained on: its own template, its own tokens."""
    own, chats = context.reward.tokenizer, [p for e in context.examples if (p := e.prompt)]
    refused, reason = 0, ""
    for prompt in chats:
        try:
            encode_prompt(own, prompt)
        except UserError as error:
            refused, reason = refused + 1, reason or str(error)
    if refused:
        return failed(
            f"{share(refused, len(chats))} prompts cannot be read by the reward model: {reason}",
            "give its tokenizer the chat template it was trained with",
            float(refused),
        )
    if all(isinstance(p, str) for p in chats):
        return passed("reads the prompts as plain text, as they are", 0.0)
    if own.get_vocab() == context.tokenizer.get_vocab() and (
        own.chat_template != context.tokenizer.chat_template
    ):
        return warned(
            "has the policy's vocabulary, but another chat template",
            "make sure that it is the template it was trained with",
            1.0,
        )
    return passed("reads the chats through a template of its own", 0.0)


def padding_changes_no_score(context: Context) -> Finding:
    """A response has the same score alone, among longer ones, and padded with another id."""
    samples, _ = _responses(context, 16)
    together = context.reward.score(samples)
    alone = [context.reward.score([s])[0] for s in samples]
    pad = max(max(s.tokens) for s in samples)
    model = context.reward.model
    batch = collate([replace(s, group=None) for s in samples], pad)
    other = (predict(model, score_forward, batch, 1 << 14).score - context.reward.shift).tolist()
    gap = max(abs(a - b) for x in (alone, other) for a, b in zip(together, x, strict=True))
    low, high = tolerance(model)
    return graded(
        f"padding and batch mates move scores by {gap:.1g} ({len(samples)} responses)",
        gap,
        warn=low,
        fail=high,
        remedy="the model looks at padding or at batch mates; train one of another architecture",
    )


def scoring(context: Context) -> Finding:
    """The reward model scores texts in batches, at their last token or by its own forward."""
    way = scores_of(context.reward.model)
    if way is one_by_one:
        return warned(
            "texts are scored one by one, slowly: in a batch scores are others",
            "nothing is wrong: the faster ways would give other numbers than transformers",
        )
    at = "at its last token" if way is at_last_token else "by the model's own forward"
    return passed(f"a text is scored {at}")


@torch.no_grad()
def last_token(context: Context) -> Finding:
    """transformers reads the score at the same token as heedful: the last real one."""
    model, samples = context.reward.model, _responses(context, 8)[0]
    pad: Any = model.config.get_text_config().pad_token_id
    ours = [s + context.reward.shift for s in context.reward.score(samples)]
    low, _ = tolerance(model)

    def theirs(rows: list[Sample], fill: int) -> list[float]:
        batch = collate([replace(r, group=None) for r in rows], fill)
        real = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
        out = model(
            input_ids=batch.tokens.to(model.device), attention_mask=real.long().to(model.device)
        )
        return out.logits.squeeze(-1).float().tolist()

    single = max(abs(theirs([s], 0)[0] - o) for s, o in zip(samples, ours, strict=True))
    remedy = "set pad_token_id in its config.json to a token that no response ends with"
    if pad is None:
        return warned(
            "its config has no pad token, so transformers scores one response at a time only",
            remedy,
            single,
        )
    batched = max(abs(a - b) for a, b in zip(theirs(samples, pad), ours, strict=True))
    off = max(single, batched)
    if off > low or math.isnan(off):
        ends = sum(s.tokens[-1] == pad for s in samples)
        return warned(
            f"transformers scores differ by {off:.2g}; {share(ends, len(samples))} responses end with the pad id",
            remedy + ", or score with heedful, which goes by length",
            off,
        )
    return passed(f"scores are within {off:.1g} of transformers' own, single and in a batch", off)


def scale(context: Context) -> Finding:
    """Scores have a mean near 0 and a spread near 1, so that β means the same for every reward model."""
    _, scores = _responses(context)
    if len(scores) < 2:
        raise NotApplicable("one response has no spread")
    mean, std = float(np.mean(scores)), float(np.std(scores))
    shifted = getattr(context.reward.model.config, SHIFT, None) is not None
    says = f"scores have mean {mean:.2g} and standard deviation {std:.2g} ({len(scores)} responses)"
    if not math.isfinite(mean) or std < 1e-6:
        return failed(f"{says}: they say nothing", "train the reward model again", std)
    if not shifted or not 0.1 < std < 10 or abs(mean) > 3 * max(1.0, std):
        stored = "" if shifted else "; its config stores no shift"
        return warned(
            says + stored,
            "choose β by this spread, or train with `heedful train reward`, which standardises",
            std,
        )
    return passed(says, std)


def longer_is_better(context: Context) -> Finding:
    """The score does not go by length: correlation within prompts where there are several responses."""
    lengths, scores = [], []
    for _, samples, values in context.rated:
        sizes = [float(sum(s.mask)) for s in samples]
        many = len(sizes) > 1
        lengths += [n - (np.mean(sizes) if many else 0) for n in sizes]
        scores += [v - (np.mean(values) if many else 0) for v in values]
    if len(scores) < FEW or np.std(lengths) == 0 or np.std(scores) == 0:
        raise NotApplicable(f"needs {FEW} responses of different lengths and scores")
    r = float(np.corrcoef(lengths, scores)[0, 1])
    return graded(
        f"score and length correlate with {r:+.2f} ({len(scores)} responses)",
        abs(r),
        warn=0.5,
        remedy=f"it {'rewards' if r > 0 else 'punishes'} length: compare responses of like length, "
        "watch completions/mean_length",
    )


def agrees_with_data(context: Context) -> Finding:
    """The model orders the data's comparisons as people did."""
    right: list[float] = []
    rated = context.rated
    wanted = {(c.prompt, c.responses): c for c in context.comparisons}
    for example, _, scores in rated:
        if c := wanted.get((example.prompt, example.responses)):
            right += list(_right(c, scores))
    if len(right) < PAIRS:
        raise NotApplicable(f"{len(right)} ranked pairs are too few; {PAIRS} say something")
    accuracy = float(np.mean(right))
    sure = 1.96 * math.sqrt(0.25 / len(right))
    says = f"orders {100 * accuracy:.0f} % of {len(right)} pairs as people did"
    if accuracy < 0.5 - sure:
        return failed(f"{says}: the wrong way round", "are the labels swapped?", accuracy)
    if accuracy < 0.5 + sure:
        return warned(
            f"{says}: no better than chance",
            "train it on comparisons like these; 60 to 75 % is usual for people's data",
            accuracy,
        )
    return passed(says, accuracy)


def room(context: Context) -> Finding:
    """Prompt and response fit into the reward model's context, which may be shorter than the policy's."""
    limit, most = context.reward.context, context.max_tokens
    reasons, total = context.without_room(lambda prompt: context.reward.room(prompt, most))
    such = f", the first: {reasons[0]}" if reasons else ""
    return graded(
        f"{share(len(reasons), total)} prompts leave no room for {most} tokens in {limit:,}{such}",
        len(reasons) / max(1, total),
        warn=0.0,
        fail=0.0,
        remedy="it would score truncated responses: shorten prompts, or train one with a longer context",
    )


def repeatable(context: Context) -> Finding:
    """The same response twice gets the same score: dropout is off."""
    samples, scores = _responses(context, 16)
    gap = max(abs(a - b) for a, b in zip(context.reward.score(samples), scores, strict=True))
    training = any(m.training for m in context.reward.model.modules())
    return graded(
        f"scored twice, a response's scores differ by {gap:.1g}{' in training mode' if training else ''}",
        gap,
        warn=tolerance(context.reward.model)[0],
        fail=tolerance(context.reward.model)[0],
        remedy="switch off what is random in the reward model: model.eval()",
    )


def _responses(context: Context, most: int | None = None) -> tuple[list[Sample], list[float]]:
    rated = context.rated
    samples = [s for _, group, _ in rated for s in group]
    scores = [v for _, _, values in rated for v in values]
    return samples[:most], scores[:most]


def _right(c: Comparison, scores: list[float]) -> Iterable[float]:
    place = c.places
    for i, j in combinations(range(len(scores)), 2):
        if place[i] != place[j]:
            better, worse = (i, j) if place[i] < place[j] else (j, i)
            yield 0.5 if scores[i] == scores[j] else float(scores[better] > scores[worse])
