"""Models without weights, as a run would have them: which numbers there are, and which of them are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from heedful.configs.common import Training
from heedful.fast.layers import checkpoint_layers, layers_of
from heedful.models.adapters import add_lora
from heedful.models.folders import errors_about, quiet
from heedful.models.forward import scalar_head, scalar_head_name
from heedful.models.freeze import freeze_bottom
from heedful.models.load import DTYPES

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters: all, those that are trained, those of the largest layer, those outside of layers and of
    these the output layer's; and the bytes of a token's keys and values, in float32."""

    total: int
    trained: int
    layer: int
    root: int
    head: int
    cache: int
    packed: int = 0  # of all: those in four bits


def empty(name: str, *, scores: bool = False, dtype: str = "float32") -> PreTrainedModel:
    """The model of a folder or hub name by its config alone, on the device `meta`; with one score for tokens."""
    kind = "reward model" if scores else "causal language model"
    with errors_about(name, kind), quiet():
        about = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if scores:
            about.num_labels = 1
        auto: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
        with torch.device("meta"):
            model = auto.from_config(about, dtype=DTYPES[dtype], trust_remote_code=False)
    model.name_or_path = name
    return model.eval()


def prepared(model: PreTrainedModel, config: Training) -> PreTrainedModel:
    """As `training.trainable.prepare` makes it ready, as far as memory is concerned."""
    if config.lora.rank:
        lora = config.lora
        add_lora(model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=config.seed)
    freeze_bottom(model, config.freeze)
    if config.gradient_checkpointing:
        checkpoint_layers(model)
    return model


def sizes(model: PreTrainedModel, *, nf4: bool = False) -> Sizes:
    """Tied weights count once. `nf4`: frozen linear layers are in four bits (`models.quantised`)."""
    layers = [sum(p.numel() for p in layer.parameters()) for layer in layers_of(model)]
    total = sum(p.numel() for p in model.parameters())
    top = scalar_head(model) if scalar_head_name(model) else model.get_output_embeddings()
    about = model.config.get_text_config()
    heads = about.num_attention_heads
    head = getattr(about, "head_dim", None) or about.hidden_size // heads
    kv = getattr(about, "num_key_value_heads", None) or heads
    return Sizes(
        total=total,
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        layer=max(layers),
        root=total - sum(layers),
        head=sum(p.numel() for p in top.parameters()) if top else 0,
        cache=2 * 4 * kv * head * len(layers),
        packed=sum(_frozen_linear(layer) for layer in layers_of(model)) if nf4 else 0,
    )


def _frozen_linear(layer: nn.Module) -> int:
    linear = (m.weight for m in layer.modules() if isinstance(m, nn.Linear))
    return sum(w.numel() for w in linear if not w.requires_grad)
