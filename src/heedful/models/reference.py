"""The policy as it was: what KL and preference losses compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

AVERAGE = "average of "  # before a weight's name in a saved state: its float32 average


class Reference:
    """A model that stays as it is. `switch` makes a policy in training what it was for as long as its context lasts.

    `with reference.active() as model:` is the only way to ask it; nothing in there takes gradients.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        switch: Callable[[PreTrainedModel], AbstractContextManager] | None = None,
    ):
        self.model, self.switch = model, switch
        # A small share of the way is less than a step of bfloat16: such an average is kept in float32.
        self._averages: dict[str, Tensor] = {}

    @property
    def shared(self) -> bool:
        """Whether it is the policy in training, switched, and no model of its own."""
        return self.switch is not None

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel]:
        """The reference as a model, until the block ends."""
        with torch.no_grad(), self.switch(self.model) if self.switch else nullcontext():
            yield self.model

    @torch.no_grad()
    def refresh(self, policy: PreTrainedModel, share: float = 1.0) -> None:
        """Move every weight by this share of the way to the policy's: 1 copies it, less averages over rounds."""
        if self.shared:
            raise ValueError("a reference that shares the policy's weights cannot move by itself")
        theirs = dict(policy.named_parameters())
        for name, own in self.model.named_parameters():
            if share == 1 or own.dtype == torch.float32:
                own.lerp_(theirs[name].to(own.dtype), share)
            else:
                average = self._averages.setdefault(name, own.float())
                own.copy_(average.lerp_(theirs[name].float(), share))

    def state_dict(self) -> dict[str, Any]:
        averages = {AVERAGE + name: average for name, average in self._averages.items()}
        return {**self.model.state_dict(), **averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        own = {name: tensor for name, tensor in state.items() if not name.startswith(AVERAGE)}
        self.model.load_state_dict(own)
        self._averages = {
            name.removeprefix(AVERAGE): tensor.to(self.model.device)
            for name, tensor in state.items()
            if name.startswith(AVERAGE)
        }
