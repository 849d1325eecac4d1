"""What both sides read: models of random weights, a tokenizer, and data of ragged lengths, made once from a seed.

Words are made of syllables and drawn by Zipf's law, so that token ids spread over the vocabulary. Prompts have a
median of 40 tokens (log-normal, σ = 0.6, 4 to 256), responses of 60 (σ = 0.8, 4 to 512), the end token not counted;
few are as long as the longest, which is what makes padding dear. Nothing is cut: the context is 1024. What is sampled
has such lengths too: see `benchmarks.clock`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks import clock

SEED = 0
HELD_OUT = 0.02  # one row of the data is held out, so that evaluation costs next to nothing
CONTEXT = 1024
VERSION = 4  # of what is made here; a change makes the cache anew


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model and how much it is given. `batch` counts demonstrations, pairs, or responses of a round."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int = 4096
    batch: int = 16
    steps: int = 14
    rounds: int = 10
    responses: int = 64
    group: int = 8
    sampled: int = 60  # the median length of what is sampled
    max_tokens: int = 256


SIZES = {
    "nano": Size(
        hidden=32, layers=2, heads=2, kv_heads=1, ffn=64, vocab=512, batch=4, steps=3,
        rounds=2, responses=8, group=2, sampled=6, max_tokens=12,
    ),
    "tiny": Size(hidden=128, layers=4, heads=4, kv_heads=2, ffn=384),
    "small": Size(hidden=384, layers=6, heads=6, kv_heads=2, ffn=1024, steps=8, rounds=4),
    "medium": Size(hidden=768, layers=12, heads=12, kv_heads=4, ffn=2048, steps=4, rounds=2),
}  # fmt: skip


class Words:
    """An endless supply of words by Zipf's law, each with the space before it."""

    def __init__(self, seed: int, number: int = 8000):
        self.random = random.Random(f"words/{seed}")
        syllables = [c + v + e for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n", "r")]
        found: dict[str, None] = {}
        while len(found) < number:
            found[" " + "".join(self.random.choices(syllables, k=self.random.randint(1, 4)))] = None
        self.words = list(found)
        self.mass = list(accumulate(1 / (rank + 3) for rank in range(number)))
        self.sizes: dict[str, int] = {}

    def draw(self, number: int) -> list[str]:
        return self.random.choices(self.words, cum_weights=self.mass, k=number)

    def length(self, median: float, sigma: float, most: int) -> int:
        return min(most, max(4, round(math.exp(self.random.gauss(math.log(median), sigma)))))

    def text(self, tokenizer, tokens: int) -> str:
        """A text of exactly so many tokens. A word's tokens do not depend on its neighbours, as it has its space."""
        chosen: list[str] = []
        while tokens:
            word = self.draw(1)[0]
            if word not in self.sizes:
                self.sizes[word] = len(tokenizer(word)["input_ids"])
            if self.sizes[word] <= tokens:
                chosen.append(word)
                tokens -= self.sizes[word]
        return "".join(chosen)


def build(name: str, cache: Path, seed: int = SEED) -> Path:
    """The folder of a size's inputs, made where it is not there yet."""
    size = SIZES[name]
    said = json.dumps([VERSION, seed, asdict(size)])
    folder = cache / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:10]}"
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")
        aside.mkdir(parents=True)
        try:
            _write(aside, size, seed)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def rows(folder: Path, name: str) -> list[dict]:
    """The rows of a file of the inputs, in the order in which heedful's recipes take them.

    heedful shuffles by (seed, epoch), so its order is known; the other side is given the rows in that order and
    does not shuffle.
    """
    with open(folder / name, encoding="utf-8") as file:
        read = [json.loads(line) for line in file]
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))[name]
    return [read[i] for i in order]


def _write(folder: Path, size: Size, seed: int) -> None:
    from heedful.models.new import train_tokenizer
    from heedful.models.save import save_model
    from heedful.training.supervised import batches

    words = Words(seed)
    texts = ["".join(words.draw(50)) for _ in range(4000)]
    tokenizer = train_tokenizer(texts, size.vocab - len(clock.LAST))
    tokenizer.add_tokens([clock.token(n) for n in clock.LAST])
    for name, model in models(size, tokenizer, seed).items():
        (folder / name).mkdir()
        save_model(model, tokenizer, folder / name)

    def prompt() -> str:
        return words.text(tokenizer, words.length(40, 0.6, 256))

    def response() -> str:
        return words.text(tokenizer, words.length(60, 0.8, 512))

    def endless(*responses: str) -> Iterator[dict]:
        while True:
            yield {"prompt": prompt(), **{name: response() for name in responses}}

    def asked() -> Iterator[dict]:
        while True:
            text = prompt()
            tokens = len(tokenizer(text)["input_ids"]) + 1
            last = clock.last_token(tokens, words.length(size.sampled, 0.8, size.max_tokens))
            yield {"prompt": text + clock.token(last), "last": last}

    number = size.batch * size.steps
    prompts = size.rounds * size.responses // size.group
    written = {
        "demonstrations.jsonl": with_one_held_out(endless("completion"), number),
        "pairs.jsonl": with_one_held_out(endless("chosen", "rejected"), number),
        "prompts.jsonl": [row for row, _ in zip(asked(), range(prompts), strict=False)],
    }
    per_step = {"prompts.jsonl": (prompts, size.responses // size.group, size.rounds)}
    order = {}
    for name, made in written.items():
        text = "".join(json.dumps(row) + "\n" for row in made)
        (folder / name).write_text(text, encoding="utf-8")
        taken = batches(*per_step.get(name, (number, size.batch, size.steps)), seed)
        order[name] = [i for step in taken for i in step]
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")


def with_one_held_out(source: Iterator[dict], number: int) -> list[dict]:
    """`number` rows to train on, and at the end one that heedful's hash of the prompt holds out."""
    from heedful.data.sources import split_by_prompt

    train: list[dict] = []
    held: list[dict] = []
    while len(train) < number or not held:
        a, b = split_by_prompt([next(source)], lambda row: row["prompt"], HELD_OUT)
        train, held = train + a, held + b
    return [*train[:number], held[0]]


def models(size: Size, tokenizer, seed: int) -> dict:
    """`base`; `clock-TYPE`, whose responses end where prompts say; `reward` with the head that heedful would draw."""
    import tempfile

    from heedful.models.load import new_reward_model
    from heedful.models.save import save_model

    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    timed = {}
    for dtype, sure in clock.SURE.items():
        timed[f"clock-{dtype}"] = causal(size, seed, **tokens, tie_word_embeddings=False)
        clock.wind(timed[f"clock-{dtype}"], tokenizer, sure)
    base = causal(size, seed, **tokens)
    with tempfile.TemporaryDirectory() as folder:
        save_model(base, tokenizer, Path(folder))
        reward = new_reward_model(folder, seed=seed)
    return {"base": base, **timed, "reward": reward}


def causal(size: Size, seed: int, **config: Any) -> Any:
    """A model of the Qwen2 architecture with random weights; `config` is what its config has otherwise."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape: dict[str, Any] = dict(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        intermediate_size=size.ffn,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**{**shape, **config})).eval()
