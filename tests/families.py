"""Small models of many architectures, and rows that begin alike: what the ways through a model are compared on."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SIZES = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    pad_token_id=0,
)


def model_of(kind: str, **other) -> PreTrainedModel:
    torch.manual_seed(0)
    names = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4} if kind == "gpt2" else {}
    config = AutoConfig.for_model(kind, **{**SIZES, **names, **other})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3.0) if p.ndim > 1 else None
    return model


def rows_with_shared_beginnings() -> tuple[Tensor, Tensor]:
    """Six rows of ragged lengths; 0–2 begin alike, 1 and 2 for longer, 4 and 5 alike in everything but the end."""
    g = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 97, (6, 20), generator=g)
    tokens[1, :7] = tokens[0, :7]
    tokens[2, :11] = tokens[1, :11]
    tokens[5, :19] = tokens[4, :19]
    lengths = torch.tensor([20, 14, 17, 3, 20, 20])
    real = torch.arange(20) < lengths[:, None]
    mask = torch.rand(6, 19, generator=g) < 0.7
    return tokens.masked_fill(~real, 0), mask & real[:, 1:]


def gradients(model: PreTrainedModel, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    weights = torch.linspace(0.5, 1.5, value.numel()).view(value.shape)
    (value * weights).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
