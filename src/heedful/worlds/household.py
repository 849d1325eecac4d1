"""`household`: things that have a place, and users who tidy by rules of their own.

A thing has attributes, and a place those of what is kept there; what is seen of the two is which of them they share.
Somebody to whom the use of things matters keeps the cup with the plates, somebody else all that is red in one place:
what a place is worth for a thing is the sum of the user's weights over the attributes that both share.
"""

from __future__ import annotations

import torch
from torch import Tensor

ATTRIBUTES = ("use", "colour", "material", "size")
VALUES = 4  # of each attribute
SPREAD = 0.3  # of the weights: a few attributes matter to each user (Dirichlet)
SHARPNESS = 10.0  # β of the Boltzmann users
FEATURES = len(ATTRIBUTES)


def users(number: int) -> Tensor:
    """What matters to each of them, `[U, 4]`, in all 1."""
    return torch.distributions.Dirichlet(torch.full((len(ATTRIBUTES),), SPREAD)).sample((number,))


def answers(weights: Tensor, each: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each user, for a thing and two places by chance, which place is better: what the better shares with the thing
    and what the worse, 1 or 0 `[U, n, 4]`; and by how much it is better to them `[U, n]`, below 0 where they erred."""
    shape = (len(weights), each)
    thing = torch.randint(VALUES, (*shape, 1, len(ATTRIBUTES)))
    places = torch.randint(VALUES, (*shape, 2, len(ATTRIBUTES)))
    shared = (thing == places).float()
    worth = (shared * weights[:, None, None]).sum(-1)
    lead = worth[..., 0] - worth[..., 1]
    first = torch.rand(shape) < (SHARPNESS * lead).sigmoid()
    ordered = torch.where(first[..., None, None], shared, shared.flip(2))
    return ordered[..., 0, :], ordered[..., 1, :], torch.where(first, lead, -lead)
