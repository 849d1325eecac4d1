"""How a model is sampled from: the fastest way that gives plain `transformers`' log-probs, tried once on the model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from heedful import trial
from heedful.engine.grouped import Grouped
from heedful.engine.passes import Passes, Plain, passes
from heedful.engine.slots import SlotCache
from heedful.models.backend import backend_of

log = logging.getLogger("heedful")

Way = Literal["slots", "prompt by prompt", "row by row", "no cache"]
WAYS: dict[Way, Callable[[PreTrainedModel], SlotCache | Grouped]] = {  # the fastest first
    "slots": lambda model: SlotCache(model.config.get_text_config().num_hidden_layers),
    "prompt by prompt": lambda model: Grouped(model),
    "row by row": lambda model: Grouped(model, together=False),
    "no cache": lambda model: Grouped(model, cache=False),
}
SAID = {
    "prompt by prompt": "rows of unlike lengths cannot share a batch: it is sampled from prompt by prompt, more slowly",
    "row by row": "rows cannot share a batch: it is sampled from row by row, which is slow",
    "no cache": "its cache gives other numbers than none: it is sampled from without, which is slow",
}
NEW = 4  # of a row's tokens are decoded, the others are its prompt

_tried: WeakKeyDictionary[PreTrainedModel, Way] = WeakKeyDictionary()


def cache_of(model: PreTrainedModel) -> SlotCache | Grouped:
    """What holds the rows that are sampled from the model, see `way_of`."""
    return WAYS[way_of(model)](model)


def way_of(model: PreTrainedModel) -> Way:
    """Slots where these give the model's own log-probs; else what `Grouped` can do. Says so once.

    `UserError` if the model cannot be run, or is no causal language model.
    """
    if (way := _tried.get(model)) is None:
        backend_of(model)
        plain = trial.plainly(model, trial.log_probs(model))
        way = _tried[model] = _first_exact(plain)
        if way != "slots":
            log.warning("%s (%s): %s", type(model).__name__, model.config.model_type, SAID[way])
    return way


def _first_exact(plain: trial.Plain) -> Way:
    for way in WAYS:
        if not plain.sound or furthest(plain, way) <= plain.bound:
            return way
    return "no cache"


@torch.no_grad()
def furthest(plain: trial.Plain, way: Way) -> float:
    """The largest difference between log-probs when rows of unlike lengths are sampled from together and alone."""
    try:
        return _furthest(plain, WAYS[way](plain.model))
    except Exception as error:  # an architecture may say anything to a cache that it does not know
        log.debug("%s: %s: %s", type(plain.model).__name__, type(error).__name__, error)
        return float("inf")


def _furthest(plain: trial.Plain, cache: SlotCache | Grouped) -> float:
    """Prompts are read, one of them for two rows; rows decode, the second one leaves and the last takes its place."""
    does: Passes = cache if isinstance(cache, Grouped) else passes(plain.model, cache)
    longest = max(map(len, plain.rows))
    if longest > does.reads and isinstance(cache, SlotCache):
        does = Plain(plain.model, cache)
    cache.reserve(len(plain.rows) + 1, longest)
    prompts = [row[:-NEW].tolist() for row in plain.rows]
    source = torch.tensor([0, 0, *range(1, len(prompts))], device=plain.model.device)
    rows, gaps = source.tolist(), []
    lengths = torch.tensor([len(prompts[i]) for i in rows], device=plain.model.device)

    def compare(logits: torch.Tensor, lengths: torch.Tensor) -> None:
        found = trial.wide(logits).log_softmax(-1)
        for i, at, logp in zip(rows, lengths.tolist(), found, strict=True):
            gaps.append(plain.gap(i, at - 1, logp[None]))

    compare(does.prefill(prompts, source, 0)[source], lengths)
    for step in range(NEW):
        if step == 2:
            last = len(rows) - 1
            cache.move(torch.tensor([last]), torch.tensor([1]), int(lengths.max()))
            rows, lengths = (
                [rows[0], rows[last], *rows[2:last]],
                lengths[[0, last, *range(2, last)]],
            )
        new = torch.stack([plain.rows[i][n] for i, n in zip(rows, lengths.tolist(), strict=True)])
        logits, lengths = does.decode(new, lengths), lengths + 1
        compare(logits, lengths)
    return max(gaps)
