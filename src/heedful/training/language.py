"""A reward model that stays a language model: the LM loss of the best responses beside that of the comparisons.

Preference-model pre-training on votes (Askell et al. 2021, §4): L = L_PM + μ·L_LM, from one pass over the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.errors import UserError
from heedful.fast.head import linear_head
from heedful.learner.local import Forward
from heedful.models.backend import backend_of
from heedful.models.forward import placed, scalar_head
from heedful.models.load import load_policy
from heedful.models.scores import at_last_token, scores_of
from heedful.types import Batch, Outputs, Ranked


def language_forward(name: str, model: PreTrainedModel) -> Forward:
    """`score` `[B]`, and `logp` `[B, T]` of the tokens of the best responses, by the output layer of the language model
    `name` that a reward model `model` started from: its embeddings, which learn, where the two are tied there, else the
    layer as it is, which does not."""
    policy = load_policy(name)
    found = linear_head(policy)
    if found is None or scores_of(model) is not at_last_token:
        raise UserError(
            f"--lm-coef needs a decoder whose output layer is linear, which {name} has not"
        )
    layer, factor = found
    head = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    own: Any = model.get_input_embeddings()
    theirs: Any = policy.get_input_embeddings()
    tied, embeddings = layer.weight is theirs.weight, own.weight
    head.weight = embeddings if tied else layer.weight.detach().to(embeddings).requires_grad_(False)

    def forward(model: PreTrainedModel, batch: Batch) -> Outputs:
        assert isinstance(batch, Ranked)
        best = best_tokens(batch)
        before = nn.functional.pad(best, (0, 1))
        places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        last = places == batch.lengths[:, None] - 1
        backend = backend_of(model)
        hidden = backend.hidden(batch.tokens, before | last)
        logp = backend.logps(hidden.at(before), head, batch.tokens[:, 1:][best], factor)
        score = scalar_head(model)(hidden.at(last)).squeeze(-1).float()
        return Outputs(score=score, logp=placed(best, logp))

    return forward


def best_tokens(batch: Ranked) -> Tensor:
    """`[B, T]`: the tokens of the responses that are best, or among the best, of their comparison."""
    return batch.mask & (batch.rank == 1)[:, None]


def language_loss(out: Outputs, batch: Ranked) -> Tensor:
    """`[G]`: −log p of a token of the best responses, on average."""
    _, group = batch.group.unique_consecutive(return_inverse=True)
    best = best_tokens(batch)
    sums = out["logp"].new_zeros(2, int(group.max()) + 1)
    sums = sums.index_add(
        1, group, torch.stack([-(out["logp"] * best).sum(1), best.sum(1).float()])
    )
    return sums[0] / sums[1].clamp(min=1)
