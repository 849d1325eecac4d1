"""The one door to this room: how a family of models is run, for the learner and for the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.fast import llama
from heedful.fast.head import LinearLogps, few_numbers, with_spare
from heedful.fast.layout import lay_out
from heedful.fast.packed import can_pack, packed_hidden
from heedful.fast.passes import Direct
from heedful.fast.prepared import Prepared, prepares

FEW, SHORT = 4, 16  # below so many rows or tokens, weights are not copied to be read faster


@dataclass(frozen=True)
class Hidden:
    """Last hidden states `[N, d]`, in no order, and which of them each needed place of a batch `[B, T]` has."""

    states: Tensor
    index: Tensor

    def at(self, mask: Tensor) -> Tensor:
        """The states where the mask `[B, T]` is True, in the batch's order."""
        return self.states.index_select(0, self.index[mask])


class Backend(Protocol):
    """All that learner and engine ask of a model. Batches are right-padded; a mask says what is needed of them."""

    def hidden(self, tokens: Tensor, needed: Tensor, positions: Tensor | None = None) -> Hidden:
        """Hidden states of tokens `[B, T]` where they are needed `[B, T]`; positions `[B, T]` start again at
        0 in each document of a row that holds several."""
        ...

    def logps(self, h: Tensor, head: nn.Linear, y: Tensor, factor: float) -> Tensor:
        """log softmax(factor · head(h))[y]: h `[N, d]`, y `[N]` → `[N]`, in float32."""
        ...

    def passes(self, slots: Any, rows: int = 1, tokens: int = 1) -> Direct | None:
        """What samples from the model as it is now, fastest for so many rows of so many new tokens; None where calling
        the model is all that there is."""
        ...


def backend_of(model: PreTrainedModel) -> Backend:
    """The fastest that gives the model's own numbers: chosen here and nowhere else."""
    if not can_pack(model):
        return Plain(model)
    return Llama(model) if llama.family_of(model) else Packed(model)


@dataclass(frozen=True)
class Plain:
    """Any decoder on padded rows, as `transformers` calls it: causal attention needs no mask for what stands behind."""

    model: PreTrainedModel

    def hidden(self, tokens: Tensor, needed: Tensor, positions: Tensor | None = None) -> Hidden:
        out = self.model.base_model(input_ids=tokens, position_ids=positions, use_cache=False)
        index = torch.arange(tokens.numel(), device=tokens.device)
        return Hidden(out.last_hidden_state.flatten(0, 1), index.view(tokens.shape))

    def logps(self, h: Tensor, head: nn.Linear, y: Tensor, factor: float) -> Tensor:
        rows, targets = with_spare(self.model, h, y)
        backward = torch.is_grad_enabled()
        found = LinearLogps.apply(rows, head.weight, head.bias, targets, factor, backward)
        return found[: len(y)]

    def passes(self, slots: Any, rows: int = 1, tokens: int = 1) -> Direct | None:
        return None


@dataclass(frozen=True)
class Packed(Plain):
    """A decoder that passed `can_pack`: each distinct token that something needed depends on is computed once."""

    def hidden(self, tokens: Tensor, needed: Tensor, positions: Tensor | None = None) -> Hidden:
        layout = lay_out(tokens, needed, positions, spare=few_numbers(self.model))
        run = llama.hidden if llama.learns(self.model, layout) else packed_hidden
        return Hidden(run(self.model, layout), layout.index)


@dataclass(frozen=True)
class Llama(Packed):
    """Llama, Mistral, Qwen2 and Qwen3: gone through layer by layer where all but their linear layers is their own."""

    def passes(self, slots: Any, rows: int = 1, tokens: int = 1) -> Direct | None:
        if not llama.knows(self.model):
            return None
        if rows >= FEW and tokens >= SHORT and prepares(self.model):
            return Direct(self.model, slots, Prepared)
        return Direct(self.model, slots)
