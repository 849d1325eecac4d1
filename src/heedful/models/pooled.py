"""A text as one vector: the mean of a language model's last states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.models.forward import hidden_states
from heedful.models.limits import context_length

TOGETHER = 32  # texts in a batch


@torch.no_grad()
def mean_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Tensor:
    """`[N, d]` of N texts, of length 1, on the CPU: the mean of the last hidden states over a text's tokens, as far as
    the model's context goes; zeros for one without tokens."""
    rows = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    rows = [torch.tensor(ids[: context_length(model)], dtype=torch.long) for ids in rows]
    # Texts of a length are together: there is less padding.
    order = sorted((k for k, row in enumerate(rows) if len(row)), key=lambda k: len(rows[k]))
    width = model.config.get_text_config().hidden_size
    found = torch.zeros(len(texts), width)
    for begin in range(0, len(order), TOGETHER):
        part = order[begin : begin + TOGETHER]
        tokens = pad_sequence([rows[k] for k in part], batch_first=True).to(model.device)
        lengths = torch.tensor([len(rows[k]) for k in part], device=model.device)
        real = torch.arange(tokens.shape[1], device=model.device) < lengths[:, None]
        states = hidden_states(model, tokens, real).at(real).float().cpu()
        means = torch.stack([s.mean(0) for s in states.split(lengths.tolist())])
        found[part] = normalize(means, dim=1)
    return found
