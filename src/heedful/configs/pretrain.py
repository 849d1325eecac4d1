"""What `heedful train pretrain` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from heedful.configs.common import SPLIT, Reading, Training, refuse_nonsense
from heedful.fields import AT_LEAST_1, DATA, HIDDEN, Data, Range, alias
from heedful.tagged import ReadWith

__all__ = ["Config", "refuse_nonsense"]
NEW = ReadWith("model", unset=True)


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Training):
    """Pre-train a language model on raw text."""

    data: Annotated[Data, DATA]
    """Texts: a file of {"text": …} rows or plain .txt, or hf:org/name."""
    model: Annotated[str | None, alias("--model-name-or-path")] = None
    """Continue pre-training from this model instead of initialising a new one."""
    arch: Annotated[Literal["llama", "qwen2"], NEW] = "llama"
    """Architecture of a new model."""
    hidden_size: Annotated[int, AT_LEAST_1, NEW] = 128
    """Hidden size of a new model."""
    layers: Annotated[int, AT_LEAST_1, NEW] = 4
    """Layers of a new model."""
    heads: Annotated[int, AT_LEAST_1, NEW] = 4
    """Attention heads of a new model."""
    tokenizer: Annotated[str | None, NEW] = None
    """Tokenizer of a new model: a folder or hub name. Default: one trained on the texts."""
    vocab_size: Annotated[int, AT_LEAST_1, NEW] = 2048
    """Vocabulary size of a new tokenizer."""
    context: Annotated[int, Range(2), NEW] = 256
    """Context length of a new model, in tokens."""
    start_token: bool = False
    """Begin each text with BOS, or EOS where the tokenizer has none: the model can then write from an empty prompt."""
    pack_length: Annotated[int, Range(2)] = 128
    """Tokens in a packed sequence."""
    batch_size: Annotated[int, AT_LEAST_1] = 8
    """Packed sequences in an optimiser step."""
    steps: Annotated[int, alias("--max-steps"), AT_LEAST_1] = 1200
    """Optimiser steps; the text is reshuffled each epoch."""
    held_out: Annotated[float, SPLIT, ReadWith("eval_data", unset=True)] = 0.01
    """Share of the documents held out for eval/loss."""
    eval_data: str | None = None
    """Evaluation texts from a file of their own, in place of held_out."""
    learning_rate: float = 5e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    weight_decay: float = 0.01
    command: Annotated[str, HIDDEN] = "train pretrain"
