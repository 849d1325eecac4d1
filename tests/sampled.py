"""What engines that have a copy of a model's weights are asked, and a short run that samples by them."""

from __future__ import annotations

import asyncio
import json
from itertools import chain
from pathlib import Path

import pytest
import torch

import tiny
from changed import changed
from heedful.cli import main
from heedful.models.load import copy_model
from heedful.types import Sampling

HOW = {"max_tokens": 6, "sampling": Sampling(0.8, 0.9, 50), "stop": (3,), "seed": 7}
PROMPTS = tiny.prompts(6)


def moved(model):
    """The model with other weights."""
    other = copy_model(model)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return other


def drawn(engine, weights, version=1):
    """What an engine says with these weights, three to each prompt."""

    async def ask():
        await engine.load(weights, version)
        return await asyncio.gather(*(engine.generate(p, n=3, **HOW) for p in PROMPTS))

    return asyncio.run(ask())


def same(ours, theirs) -> None:
    """The same tokens and stops, and log-probs up to rounding."""
    for one, other in zip(chain(*ours), chain(*theirs), strict=True):
        assert one.tokens == other.tokens and one.stop_reason == other.stop_reason
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def folder(at: Path) -> Path:
    """With a policy and prompts."""
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(at / "lm")
    tok.save_pretrained(at / "lm")
    rows = [{"prompt": w} for w in ("Why?", "Who cares?", "Go on.")]
    (at / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return at


def command(at: Path, out: Path) -> list[str]:
    """Two rounds of RLOO in which the weights move a lot."""
    words = f"train rloo --model {at / 'lm'} --data {at / 'p.jsonl'} --reward tiny:likes_short --out {out} --steps 2"
    sizes = "--batch-size 8 --warmup 0 --max-tokens 6 --learning-rate 0.02 --quiet"
    return [*words.split(), *sizes.split(), "--top-k", "200"]


def train(at: Path, out: Path, *more: str) -> int:
    return main(changed(command(at, out), *more))
