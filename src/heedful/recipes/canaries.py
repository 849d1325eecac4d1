"""Canaries: secrets planted in training data, and how far a model that has read them knows them better than others of
the same form (Carlini et al. 2019).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.configs.canaries import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.files import write_json
from heedful.data.reading import named, read_table
from heedful.data.sources import write_rows
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.evals.canaries import (
    Canary,
    alternatives,
    as_json,
    drawn,
    exposure,
    from_json,
    summary,
)
from heedful.learner.local import predict
from heedful.models.load import load_policy, load_tokenizer
from heedful.training.forwards import policy_forward
from heedful.types import Message, Prompt, Sample

AT_ONCE = 8192  # tokens of a forward pass


def run(config: Config) -> Path | dict[str, Any]:
    """Returns the path of the planted data, or what a model knows."""
    refuse_nonsense(config)
    return plant(config) if config.model is None else measure(config)


# ── planting ─────────────────────────────────────────────────────────────────────────────────────


def plant(config: Config) -> Path:
    """The data with each canary so many times among its rows, and the secrets in a file of their own."""
    assert config.out is not None
    rows = [row for _, row in read_table(config.data)]
    form, chat = form_of(named(config.data), rows)
    canaries = drawn(config.number, config.digits, config.times, config.seed)
    rng = random.Random(f"places/{config.seed}")
    added = [as_row(c, form, chat, rng) for c in canaries for _ in range(c.times)]
    total = len(rows) + len(added)
    places = dict(zip(rng.sample(range(total), len(added)), added, strict=True))
    left = iter(rows)
    write_rows(
        config.out,
        (places[k] if k in places else next(left) for k in range(total)),
    )
    write_json(config.canaries, as_json(canaries, form=form, chat=chat))
    return config.out


def form_of(source: str, rows: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """What the rows are, and whether their prompts are conversations."""
    if not rows:
        raise UserError(f"{source}: no row to plant beside")
    first = rows[0]
    chat = isinstance(first.get("prompt"), list)
    for form, columns in (
        ("pair", {"prompt", "chosen", "rejected"}),
        ("demonstration", {"prompt", "completion"}),
        ("text", {"text"}),
    ):
        if columns <= first.keys():
            return form, chat
    raise UserError(
        f"{source}: canaries are planted among rows of `text`, of `prompt` and `completion`, or of `prompt`, `chosen` "
        f"and `rejected`; found {', '.join(first)}"
    )


def as_row(canary: Canary, form: str, chat: bool, rng: random.Random) -> dict[str, Any]:
    """A canary as the data has its rows; what it is preferred to is another secret."""
    if form == "text":
        return {"text": canary.prefix + canary.secret}
    asked: Any = [{"role": "user", "content": canary.prefix}] if chat else canary.prefix

    def said(text: str) -> Any:
        return [{"role": "assistant", "content": text.strip()}] if chat else text

    if form == "demonstration":
        return {"prompt": asked, "completion": said(canary.secret)}
    (other,) = alternatives(canary, 1, rng.randrange(1 << 30))
    return {"prompt": asked, "chosen": said(canary.secret), "rejected": said(other)}


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


def measure(config: Config) -> dict[str, Any]:
    """Exposure of each canary by a model, and by how often they were planted."""
    assert config.model is not None
    try:
        told = json.loads(config.canaries.read_bytes())
        canaries, form, chat = from_json(told), told["form"], bool(told["chat"])
    except OSError as error:
        raise UserError(f"--canaries {config.canaries}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"--canaries {config.canaries} is no file of heedful canaries --data"
        ) from error
    model = load_policy(config.model, device=config.device)
    encode = encoder(load_tokenizer(config.model), form, chat)
    bits, most = [], 0
    for canary in canaries:
        others = alternatives(canary, config.alternatives, config.seed)
        batch = collate([encode(canary, text) for text in (canary.secret, *others)])
        logp = predict(model, policy_forward(), batch, AT_ONCE).logp
        secret, *rest = (logp * batch.mask).double().sum(1).tolist()
        bits.append(exposure(secret, rest))
        most = len(rest)
    rows = [
        {"prefix": c.prefix, "times": c.times, "exposure": b}
        for c, b in zip(canaries, bits, strict=True)
    ]
    return {"model": config.model, **summary(canaries, bits, most), "canaries": rows}


def encoder(
    tokenizer: PreTrainedTokenizerBase, form: str, chat: bool
) -> Callable[[Canary, str], Sample]:
    """A canary with one secret or another in the tokens that training made of it: of a text all count but the first."""

    def as_text(canary: Canary, secret: str) -> Sample:
        tokens = tuple(tokenizer(canary.prefix + secret, add_special_tokens=False)["input_ids"])
        mask = (False, *[True] * (len(tokens) - 1))
        return Sample(tokens=tokens, mask=mask, logprobs=(0.0,) * len(tokens), stop_reason="length")

    def as_response(canary: Canary, secret: str) -> Sample:
        asked: Prompt = (Message("user", canary.prefix),) if chat else canary.prefix
        (sample,) = encode_group(tokenizer, asked, [secret.strip() if chat else secret])
        return sample

    return as_text if form == "text" else as_response
