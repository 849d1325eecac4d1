"""What engines that have a copy of a model's weights are asked, and a short run that samples by them."""

from __future__ import annotations

import asyncio
import json
from itertools import chain
from pathlib import Path

import pytest
import torch

import games
import tiny
from changed import changed
from heedful.cli import main
from heedful.models.load import copy_model
from heedful.models.new import new_model
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


def with_prompts(at: Path) -> Path:
    rows = [{"prompt": w} for w in ("Why?", "Who cares?", "Go on.")]
    (at / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return at


def folder(at: Path) -> Path:
    """With a policy and prompts."""
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(at / "lm")
    tok.save_pretrained(at / "lm")
    return with_prompts(at)


def command(at: Path, out: Path) -> list[str]:
    """Two rounds of RLOO in which the weights move a lot."""
    words = f"train rloo --model {at / 'lm'} --data {at / 'p.jsonl'} --reward tiny:likes_short --out {out} --steps 2"
    sizes = "--batch-size 8 --warmup 0 --max-tokens 6 --learning-rate 0.02 --quiet"
    return [*words.split(), *sizes.split(), "--top-k", "200"]


def train(at: Path, out: Path, *more: str) -> int:
    return main(changed(command(at, out), *more))


def real_llama(folder: Path, *, tied: bool) -> Path:
    """The folder, with prompts and a Llama of random weights that vLLM itself takes."""
    tok = games.tokenizer()
    # vLLM's attention on CPUs knows no head below 32.
    model = new_model("llama", tok, seed=0, hidden_size=64, layers=2, heads=2, context=512)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.flip(0).clone())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0) if p.ndim > 1 else None
    model.save_pretrained(folder / "lm")
    tok.save_pretrained(folder / "lm")
    return with_prompts(folder)


def metrics(out: Path) -> list[dict]:
    """The lines of a run whose engine sampled from its policy at each step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert 0 <= line["engine/kl"] < 1e-6 and line["engine/ratio_max"] < 1 + 1e-3
    return lines


def off(model, prompt, completion) -> float:
    """The largest |Δ log-prob| of a completion's tokens, against plain transformers."""
    ids = torch.tensor([[*prompt, *completion.tokens]])
    with torch.no_grad():
        logp = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return float((logp[len(prompt) - 1 :] - torch.tensor(completion.logprobs)).abs().max())


def alike(out: Path, other: Path) -> None:
    for ours, theirs in zip(metrics(out), metrics(other), strict=True):
        for name in ("reward", "kl/seq", "completions/mean_length"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4)
