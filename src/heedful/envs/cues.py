"""What a user's next turn says of the reply before it: implicit feedback, of which there is much where votes are rare.

sentiment                    VADER's compound score of the next turn, −1 to 1
words                        how much the user writes, up to 20 words as 1
thanks, laughs               1 where they do
rephrases                    −1 where they ask again what they have asked, in much the same words
leaves                       −1 where nothing follows
questions                    of the reply itself: question words and marks, up to four as 1
package.module:function      yours: of the next turn's text, or of (reply, next turn, asked before)
runs/model, runs/model#joy   a text classifier: P(positive) − P(negative), or the probability of a label

Several with their weights: `sentiment thanks=0.5 leaves=2`. Source: Jaques et al. 2019 (arXiv:1907.00456), section 5.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import UserError, did_you_mean, of_extra
from heedful.registry import load_function

THANKS = re.compile(r"\b(thanks?|thank you|thx|cheers|much appreciated)\b", re.IGNORECASE)
LAUGHS = re.compile(r"\b(ha(ha)+h?|he(he)+|lol|rofl|lmao)\b|[😂🤣😄😆]", re.IGNORECASE)
QUESTIONS = re.compile(r"\b(who|whom|whose|what|when|where|why|which|how)\b|\?", re.IGNORECASE)
LONG, MOST_QUESTIONS, SAME = 20, 4, 0.6  # words; questions; share of words that two turns have
POSITIVE, NEGATIVE = ("positive", "pos", "label_1"), ("negative", "neg", "label_0")


@dataclass(frozen=True)
class Exchange:
    """A reply and what came of it: the user's next turn, None where they left, and what they had said before."""

    reply: str
    heard: str | None
    asked: str = ""


Cue = Callable[[Exchange], float]


def sentiment(one: Exchange) -> float:
    """VADER's compound score (Hutto & Gilbert 2014)."""
    return 0.0 if one.heard is None else _vader().polarity_scores(one.heard)["compound"]


def words(one: Exchange) -> float:
    return min(len((one.heard or "").split()), LONG) / LONG


def thanks(one: Exchange) -> float:
    return float(bool(THANKS.search(one.heard or "")))


def laughs(one: Exchange) -> float:
    return float(bool(LAUGHS.search(one.heard or "")))


def rephrases(one: Exchange) -> float:
    """Words of both turns by those of either (Jaccard), as sets, case apart."""
    now, before = (set(re.findall(r"\w+", t.lower())) for t in (one.heard or "", one.asked))
    return -float(bool(now and before) and len(now & before) >= SAME * len(now | before))


def leaves(one: Exchange) -> float:
    return -float(one.heard is None)


def questions(one: Exchange) -> float:
    return min(len(QUESTIONS.findall(one.reply)), MOST_QUESTIONS) / MOST_QUESTIONS


CUES: Mapping[str, Cue] = {
    cue.__name__: cue for cue in (sentiment, words, thanks, laughs, rephrases, leaves, questions)
}


def read(spec: str) -> list[tuple[str, Cue, float]]:
    """(name, cue, weight) of a spec such as `sentiment thanks=0.5`; UserError with the nearest name."""
    found = []
    for part in spec.split():
        name, equals, weight = part.rpartition("=")
        name, number = (name, weight) if equals else (part, "1")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"cues: the weight of {name} must be a number, not '{number}'")
        found.append((name, cue_of(name), value))
    if not found:
        raise UserError(f"cues: name at least one of {', '.join(CUES)}")
    return found


def cue_of(name: str) -> Cue:
    """A cue by its name, a function of the user's own, or a classifier's folder."""
    if name in CUES:
        if name == "sentiment":
            _vader()  # or a sentence, before anything is played
        return CUES[name]
    folder, _, label = name.partition("#")
    if Path(folder).is_dir():
        return classifier(folder, label)
    if ":" in name:
        return _yours(name, load_function(name))
    raise UserError(
        f"there is no cue '{name}'{did_you_mean(name, CUES)}: {', '.join(CUES)}, package.module:function, or the "
        "folder of a text classifier"
    )


def worth(cues: Sequence[tuple[str, Cue, float]], one: Exchange) -> dict[str, float]:
    """What each cue gives, by its name and times its weight."""
    return {name: weight * cue(one) for name, cue, weight in cues}


def _yours(name: str, function: Callable[..., Any]) -> Cue:
    takes = len(inspect.signature(function).parameters)
    if takes not in (1, 3):
        raise UserError(f"the cue {name} must take (text) or (reply, heard, asked)")

    def cue(one: Exchange) -> float:
        if takes == 1 and one.heard is None:
            return 0.0
        value = function(one.heard) if takes == 1 else function(one.reply, one.heard, one.asked)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise UserError(f"the cue {name} returned {value!r:.40}, which is no finite number")
        return float(value)

    return cue


def classifier(folder: str, label: str = "") -> Cue:
    """Of a sequence-classification model: the probability of a label, or of its positive label less its negative one;
    of one with a single output that output."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = {str(v).lower(): int(k) for k, v in (model.config.id2label or {}).items()}
    plus, minus = _labels(folder, names, label.lower(), model.config.num_labels)

    def cue(one: Exchange) -> float:
        if one.heard is None:
            return 0.0
        with torch.no_grad():
            logits = model(**tokenizer(one.heard, truncation=True, return_tensors="pt")).logits[0]
        if len(logits) == 1:
            return float(logits[0])
        share = logits.float().softmax(-1)
        return float(share[plus] - (share[minus] if minus is not None else 0.0))

    return cue


def _labels(
    folder: str, names: Mapping[str, int], label: str, count: int
) -> tuple[int, int | None]:
    if count == 1:
        return 0, None
    if label:
        if label not in names:
            raise UserError(f"the classifier {folder} has no label '{label}': {', '.join(names)}")
        return names[label], None
    plus = next((names[n] for n in POSITIVE if n in names), None)
    minus = next((names[n] for n in NEGATIVE if n in names), None)
    if plus is None or minus is None:
        raise UserError(
            f"which label of {folder} is good? name it, {folder}#LABEL: {', '.join(names)}"
        )
    return plus, minus


@functools.cache
def _vader() -> Any:
    vader = of_extra("vaderSentiment.vaderSentiment", "reviews", "the cue sentiment needs")
    return vader.SentimentIntensityAnalyzer()
