"""The policy as it was: what KL and preference losses compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


class Reference:
    """A frozen model of its own; `refresh` moves it towards the policy."""

    def __init__(self, model: PreTrainedModel):
        self.model = model.requires_grad_(False).eval()

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel]:
        """The model to ask for log-probs, for as long as the context lasts."""
        yield self.model

    @torch.no_grad()
    def refresh(self, policy: PreTrainedModel, share: float = 1.0) -> None:
        """Move every weight by this share of the way to the policy's: 1 copies it, less averages over rounds."""
        theirs = dict(policy.named_parameters())
        for name, own in self.model.named_parameters():
            own.lerp_(theirs[name].to(own.dtype), share)

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)
