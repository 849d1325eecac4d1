"""`reviews`: sentences about films to be continued, and how glad they sound by VADER (Hutto & Gilbert 2014)."""

from __future__ import annotations

import hashlib
import random
from functools import cache
from pathlib import Path

from heedful.data.files import write_rows
from heedful.data.sources import prompt_text, read_texts
from heedful.errors import of_extra
from heedful.registry import register
from heedful.types import Prompt

VOICES = ("positive", "neutral", "negative")
HELD_OUT = 0.15
PROMPT_WORDS = (3, 5)


def gold(prompt: Prompt, response: str) -> float:
    """VADER's compound score of the whole sentence, −1 (bitter) to 1 (glad)."""
    return float(_analyser().polarity_scores(prompt_text(prompt) + response)["compound"])


def voice(prompt: Prompt, response: str) -> str:
    """VADER's own thresholds: ±0.05."""
    score = gold(prompt, response)
    return "positive" if score >= 0.05 else "negative" if score <= -0.05 else "neutral"


@register("world", "reviews", help="movie reviews with a gold sentiment")
def write(out: Path, *, source: Path, seed: int) -> dict[str, Path]:
    """Split by a hash of the text; a prompt is the first 3–5 words, its completion the rest of the sentence."""
    train: list[str] = []
    held_out: list[str] = []
    for text in (" ".join(t.split()) for t in read_texts(source)):
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        (held_out if digest[0] < HELD_OUT * 256 else train).append(text)
    rng = random.Random(f"reviews/{seed}")
    parts = [p for p in (_cut(t, rng) for t in train) if p is not None]
    prompts = {prompt for prompt, _ in parts}
    unseen = [p for p in (_cut(t, rng) for t in held_out) if p is not None and p[0] not in prompts]
    rng.shuffle(parts)
    rng.shuffle(unseen)
    rows = {
        "text": ({"text": t} for t in train),
        "demonstrations": ({"prompt": p, "completion": c} for p, c in parts),
        "prompts": ({"prompt": p} for p in dict.fromkeys(p for p, _ in parts)),
        "held_out": ({"prompt": p} for p in dict.fromkeys(p for p, _ in unseen)),
    }
    paths = {name: out / f"{name}.jsonl" for name in rows}
    for name, path in paths.items():
        write_rows(path, rows[name])
    return paths


def _cut(text: str, rng: random.Random) -> tuple[str, str] | None:
    words = text.split()
    length = rng.randint(*PROMPT_WORDS)
    return (
        (" ".join(words[:length]), " " + " ".join(words[length:]))
        if len(words) > length + 2
        else None
    )


@cache
def _analyser():
    vader = of_extra("vaderSentiment.vaderSentiment", "reviews", "the world `reviews` needs")
    return vader.SentimentIntensityAnalyzer()
