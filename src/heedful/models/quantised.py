"""A frozen base in four bits, with adapters beside it that train in full (QLoRA, Dettmers et al. 2023).

Linear layers but the output layer are kept as NF4 with a scale for each 64 numbers, the scales in eight bits; each
product dequantises them. bitsandbytes does it, on GPUs and on CPUs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from heedful.errors import of_extra
from heedful.models.adapter_files import NOTES

NF4 = (
    "heedful_nf4"  # in a model's config, and so among an adapter's notes: its base is in four bits
)
BYTES = (
    0.5 + (1 + 4 / 256) / 64
)  # of a number: four bits, a scale of eight bits, and the scale of 256 scales


def nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How `transformers` is to load a model; products are in this dtype. UserError without bitsandbytes."""
    of_extra("bitsandbytes", "quant", "a base in four bits needs")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def settle(model: PreTrainedModel, *, dequantised: bool = False) -> None:
    """Make a model that was loaded so ready, in place: `dequantised` in plain layers with the very numbers of NF4."""
    bnb: Any = of_extra("bitsandbytes", "quant", "a base in four bits needs")
    if dequantised:
        model.dequantize(dtype=model.dtype)
        return
    setattr(model.config, NF4, True)
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            # Without gradients it would pack its weights anew for a kernel in bfloat16, and sampling would be from
            # other numbers than learning.
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def is_nf4(model: PreTrainedModel) -> bool:
    """Whether the model stands on a base that was loaded in four bits here."""
    return bool(getattr(model.config, NF4, False) and getattr(model, "is_quantized", False))


def says_nf4(folder: str | Path) -> bool:
    """Whether the adapter in a folder was trained on a base in four bits."""
    notes = Path(folder) / NOTES
    return notes.exists() and bool(json.loads(notes.read_text(encoding="utf-8")).get(NF4))


def forget_gguf(model: PreTrainedModel) -> None:
    """In a folder that was made of a GGUF file the weights are plain numbers, though its config still names GGUF, and
    transformers takes the model for a quantised one that can be neither trained nor saved."""
    said = getattr(model.config, "quantization_config", None)
    if getattr(said, "quant_method", None) == "gguf":
        vars(model.config).pop("quantization_config")
        vars(model).update(is_quantized=False, hf_quantizer=None)
