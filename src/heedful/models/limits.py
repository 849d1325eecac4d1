"""What a model's folder says of where texts end: the ids that end a response, the most tokens that it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import cached_file

from heedful.errors import UserError

NAMES = (  # of the limit, in the order in which they are believed
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_target_positions",
    "context_length",
)
NO_LIMIT = 1 << 30


def declared_ends(name: str) -> tuple[int, ...]:
    """Every id at which `generation_config.json` and `config.json` of a folder or hub name say that a response ends."""
    ids: dict[int, None] = {}
    for file in ("generation_config.json", "config.json"):
        said = _read(name, file)
        text = said.get("text_config")
        for part in (said, text if isinstance(text, dict) else {}):
            named = part.get("eos_token_id")
            named = named if isinstance(named, list) else [named]
            if any(i is not None and type(i) is not int for i in named):
                raise UserError(
                    f"model {name}: `eos_token_id` in its {file} must be a token's number or a list of such, not "
                    f"{part['eos_token_id']!r}"
                )
            ids |= dict.fromkeys(i for i in named if i is not None)
    return tuple(ids)


def _read(name: str, file: str) -> dict[str, Any]:
    try:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        said = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise UserError(
            f"model {name}: its {file} is not a JSON object; fetch it anew, or remove it"
        )
    return said


def context_length(model: PreTrainedModel) -> int:
    """The most tokens the model was built for, stretched rotary positions included; `NO_LIMIT` where nothing says.

    A sliding window is no limit: layers look back less far, and the text goes on.
    """
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in NAMES]
    most = next((int(n) for n in limits if isinstance(n, int) and n > 0), NO_LIMIT)
    most = max(most, *_stretched(config))
    for name, module in model.named_modules():
        # RoBERTa and its kin count from behind the padding's row.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            most = min(most, module.num_embeddings - offset)
    return most


def _stretched(config: Any) -> list[int]:
    """Positions of rotary embeddings that were stretched by a factor, one number for each kind of layer."""
    said = getattr(config, "rope_parameters", None) or {}
    kinds = [said, *(kind for kind in said.values() if isinstance(kind, Mapping))]
    return [0] + [
        int(kind["factor"] * kind["original_max_position_embeddings"])
        for kind in kinds
        if kind.get("factor") and kind.get("original_max_position_embeddings")
    ]
