"""The policy as it was: what KL and preference losses compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel


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
            own.lerp_(theirs[name].to(own.dtype), share)

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)
