"""What heedful asks of a model: log-probs of given tokens, a value at every position, a score of a sequence.

Batches are right-padded, so causal attention needs no padding mask: no real token can see what comes
after it. That keeps attention on its fast path and makes the pad id irrelevant.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful.models.sampling import log_policy
from heedful.types import Sampling

# Logits of one chunk are at most this many numbers (256 MiB in float32), never [tokens × vocabulary].
CHUNK = 1 << 26


def hidden_states(
    model: PreTrainedModel, tokens: Tensor, position_ids: Tensor | None = None
) -> Tensor:
    """Last hidden states `[B, T, d]` of tokens `[B, T]`; position_ids that restart mark packed documents."""
    backbone = model.base_model
    return backbone(input_ids=tokens, position_ids=position_ids, use_cache=False).last_hidden_state


def lm_head(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """Hidden states → logits, as the whole model does it (some architectures scale or cap behind the head)."""
    head, config = model.get_output_embeddings(), model.config
    assert head is not None
    scale = getattr(config, "logit_scale", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    cap = getattr(config, "final_logit_softcapping", None)

    def logits(h: Tensor) -> Tensor:
        out = head(h) * scale / divisor if scale != divisor else head(h)
        return torch.tanh(out / cap) * cap if cap else out

    return logits


def token_logps(
    model: PreTrainedModel,
    tokens: Tensor,
    mask: Tensor,
    sampling: Sampling | None = None,
    position_ids: Tensor | None = None,
) -> Tensor:
    """Log π(tokens[:, t+1] | tokens[:, ≤t]) where mask `[B, T]` is True, 0 elsewhere. tokens `[B, T+1]` → `[B, T]`.

    Logits exist only at masked positions, and only a chunk of them at a time; large chunks are computed
    again in the backward pass rather than stored.
    """
    sampling = sampling or Sampling()
    positions = None if position_ids is None else position_ids[:, :-1]
    hidden = hidden_states(model, tokens[:, :-1], positions)[mask]
    targets = tokens[:, 1:][mask]
    head = lm_head(model)

    def chunk_logps(h: Tensor, y: Tensor) -> Tensor:
        return log_policy(head(h), sampling, keep=y).gather(1, y[:, None]).squeeze(1)

    rows = max(1, CHUNK // model.config.get_text_config().vocab_size)
    pieces = []
    for h, y in zip(hidden.split(rows), targets.split(rows), strict=True):
        if len(hidden) > rows and torch.is_grad_enabled():
            pieces.append(checkpoint(chunk_logps, h, y, use_reentrant=False))
        else:
            pieces.append(chunk_logps(h, y))
    flat = torch.cat(pieces) if pieces else hidden.new_zeros(0)
    return torch.zeros(mask.shape, dtype=torch.float32, device=tokens.device).masked_scatter(
        mask, flat
    )


def scalar_head_name(model: PreTrainedModel) -> str | None:
    """What a sequence-classification model calls its one-output head; None where there is none."""
    for name in ("score", "classifier"):
        head = getattr(model, name, None)
        if isinstance(head, nn.Linear) and head.out_features == 1:
            return name
    return None


def scalar_head(model: PreTrainedModel) -> nn.Linear:
    """The one-output head of a sequence-classification model."""
    if (name := scalar_head_name(model)) is None:
        raise TypeError(f"{type(model).__name__} has no one-output head named 'score'")
    return getattr(model, name)


def token_values(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """The scalar head's output after every token: tokens `[B, T]` → `[B, T]`."""
    return scalar_head(model)(hidden_states(model, tokens)).squeeze(-1).float()


def sequence_scores(model: PreTrainedModel, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The scalar head's output at the last real token of each row: tokens `[B, T]`, lengths `[B]` → `[B]`.

    By length, never `[:, -1]` and never by looking for the pad id, which may be an ordinary token.
    """
    hidden = hidden_states(model, tokens)
    last = hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]
    return scalar_head(model)(last).squeeze(-1).float()
