"""Who a user is to a personal reward model, from comparisons of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.collate import collate
from heedful.data.tokens import encode_group
from heedful.models.limits import context_length
from heedful.models.personal import Posterior, all_states, heads_of
from heedful.types import Comparison

MICRO_BATCH_TOKENS = 16384


@torch.no_grad()
def known_by(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, answers: Sequence[Comparison]
) -> Posterior:
    """q(z | answers), `[1, D]`: of no answers the prior. What is too long is cut as a reward model cuts it."""
    heads, limit = heads_of(model), context_length(model)
    differences, weights = [], []
    for c in answers:
        samples = encode_group(tokenizer, c.prompt, c.responses, max_length=limit)
        h, at = all_states(model, collate(samples), MICRO_BATCH_TOKENS), c.places
        ordered = [(i, j) for i, j in permutations(range(len(at)), 2) if at[i] < at[j]]
        differences += [h[i] - h[j] for i, j in ordered]
        weights += [(len(at) - 1) / len(ordered)] * len(ordered)
    d = torch.stack(differences) if differences else torch.zeros(0, heads.view.in_features)
    d, weight = d.to(heads.scale.device), torch.tensor(weights, device=heads.scale.device)
    one = torch.zeros(len(d), dtype=torch.long, device=d.device)
    return heads.posterior(d, one, 1, weight.clamp(max=1.0))
