"""The plain way of sampling: each prompt's rows as a batch of their own, with what the family itself keeps of them.

Recurrent and hybrid models keep states beside keys and values, or instead of them, and a state cannot be padded. Rows
of one prompt are equally long and need no padding: they are read and decoded as `generate` would. A family that errs
about several rows is given one at a time, and one whose cache gives other numbers than none reads its rows from the
beginning for each token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


@dataclass
class _Group:
    """Rows `[n, T]` of one prompt, and what the model has kept of them."""

    ids: Tensor
    kept: dict[str, Any]


class Grouped:
    """`engine.passes.Passes`, and the slots that they fill."""

    reads = 1 << 30  # tokens up to which it is exact

    def __init__(self, model: PreTrainedModel, *, cache: bool = True, together: bool = True):
        self.model, self.cache, self.together = model, cache, together
        self._places: list[tuple[_Group, int]] = []  # of each row

    def reserve(self, rows: int, capacity: int) -> None:
        pass

    def refresh(self) -> None:
        pass

    def move(self, source: Tensor, target: Tensor, width: int) -> None:
        """See `SlotCache.move`."""
        for a, b in zip(source.tolist(), target.tolist(), strict=True):
            self._places[b] = self._places[a]

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        del self._places[at:]
        members: dict[int, list[tuple[_Group, int]]] = {}
        logits: dict[int, Tensor] = {}
        for prompt, n in Counter(source.tolist()).items():
            for size in [n] if self.together else [1] * n:
                ids = torch.tensor([list(prompts[prompt])] * size, device=self.model.device)
                kept = {"attention_mask": torch.ones_like(ids), "use_cache": True}
                group = _Group(ids, kept)
                logits[prompt] = self._read(group, ids.shape[1])[0]
                members.setdefault(prompt, []).extend((group, i) for i in range(size))
        self._places += [members[prompt].pop(0) for prompt in source.tolist()]
        return torch.stack([logits[prompt] for prompt in range(len(prompts))])

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        active, rows = self._places[: len(tokens)], tokens.tolist()
        drawn: dict[int, tuple[_Group, Tensor]] = {}
        for (group, i), token in zip(active, rows, strict=True):
            # Rows that have ended go on with any token: nobody looks.
            column = drawn.setdefault(id(group), (group, torch.zeros(len(group.ids), 1).long()))
            column[1][i] = token
        logits = {}
        for key, (group, column) in drawn.items():
            group.ids = torch.cat([group.ids, column.to(group.ids.device)], 1)
            logits[key] = self._read(group, 1)
        return torch.stack([logits[id(group)][i] for group, i in active])

    def extend(self, tokens: Sequence[Sequence[int]], lengths: Tensor, at: int) -> Tensor:
        raise NotImplementedError("nothing is kept of these rows")

    def _read(self, group: _Group, new: int) -> Tensor:
        """Logits `[n, V]` behind the last of the tokens, so many of which are new."""
        model: Any = self.model
        if not self.cache:
            return model(input_ids=group.ids, use_cache=False).logits[:, -1]
        first = new == group.ids.shape[1]
        inputs = model.prepare_inputs_for_generation(
            group.ids,
            next_sequence_length=None if first else new,
            is_first_iteration=first,
            **group.kept,
        )
        out = model(**inputs, return_dict=True)
        group.kept = model._update_model_kwargs_for_generation(out, group.kept)
        return out.logits[:, -1]
