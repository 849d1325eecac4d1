"""Log-probs of given tokens and of the likeliest ones at their places, for those who look into a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.fast.head import lm_head
from heedful.models.forward import CHUNK, hidden_states
from heedful.models.sampling import log_policy
from heedful.types import Sampling

AT_ONCE = 8192  # tokens of one forward pass


@dataclass(frozen=True)
class Row:
    """`tokens` whose log-probs are asked for from the one numbered `start` (≥ 1) on, with `k` alternatives each."""

    tokens: tuple[int, ...]
    start: int
    k: int


@dataclass(frozen=True)
class Places:
    """Of a `Row`: the log-prob of each token from `start` on, and the k likeliest there with theirs, in their order."""

    logprobs: tuple[float, ...]
    likeliest: tuple[tuple[tuple[int, float], ...], ...]


@torch.no_grad()
def likeliest(model: PreTrainedModel, rows: Sequence[Row]) -> list[Places]:
    """Of the model's own distribution, at temperature 1. Rows of like lengths are read together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
    found: dict[int, Places] = {}
    while order:
        size = max(1, AT_ONCE // len(rows[order[-1]].tokens))
        part, order = order[-size:], order[:-size]
        found |= zip(part, _together(model, [rows[i] for i in part]), strict=True)
    return [found[i] for i in range(len(rows))]


def _together(model: PreTrainedModel, rows: Sequence[Row]) -> list[Places]:
    longest = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        mask[i, row.start - 1 : len(row.tokens) - 1] = True
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    states = hidden_states(model, tokens[:, :-1], mask).at(mask)
    logp, top, ids = _read(model, states, tokens[:, 1:][mask], max(row.k for row in rows))
    places, at = [], 0
    for row in rows:
        mine = slice(at, at := at + len(row.tokens) - row.start)
        pairs = zip(ids[mine, : row.k].tolist(), top[mine, : row.k].tolist(), strict=True)
        alternatives = tuple(tuple(zip(*pair, strict=True)) for pair in pairs)
        places.append(Places(tuple(logp[mine].tolist()), alternatives))
    return places


def _read(
    model: PreTrainedModel, states: Tensor, targets: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs of the targets `[N]`, and the k likeliest `[N, k]` with their ids; logits a piece at a time."""
    head, size = lm_head(model), max(1, CHUNK // model.config.get_text_config().vocab_size)
    found = []
    for h, y in zip(states.split(size), targets.split(size), strict=True):
        logp = log_policy(head(h), Sampling())
        top = logp.topk(min(k, logp.shape[-1]), dim=-1)
        found.append((logp.gather(1, y[:, None]).squeeze(1), top.values, top.indices))
    logp, values, ids = zip(*found, strict=True)
    return torch.cat(logp), torch.cat(values), torch.cat(ids)
