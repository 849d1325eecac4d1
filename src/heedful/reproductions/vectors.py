"""Personal rewards of things that are vectors: heedful's heads over a small network, fitted to users who are drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedful.losses.kl import to_standard_normal
from heedful.models.personal import PersonalHeads, Posterior

CONTEXT, TARGETS = (
    16,
    16,
)  # of a user in a step: answers that may be told, answers that are predicted
USERS, DIMENSIONS, WIDTH = 64, 8, 64  # in a step; of z; of the network
PRICE = 0.01  # of a nat of KL, from half of the run on
Drawn = Callable[
    [int, int], tuple[Tensor, Tensor]
]  # users, answers of each → better, worse [U, n, F]


class Personal:
    """r(x, z) = (w + f(z))·h(x), h a network of two layers, and q(z | a user's answers)."""

    def __init__(self, features: int):
        layers = [torch.nn.Linear(features, WIDTH), torch.nn.Tanh(), torch.nn.Linear(WIDTH, WIDTH)]
        self.body = torch.nn.Sequential(*layers, torch.nn.Tanh())
        self.head = torch.nn.Linear(WIDTH, 1, bias=False)
        self.heads = PersonalHeads(WIDTH, DIMENSIONS)

    def known(self, better: Tensor, worse: Tensor, counts: Tensor) -> Posterior:
        """q of each user after so many `[U]` of their first answers `[U, n, F]`."""
        used = torch.arange(better.shape[1]) < counts[:, None]
        user = torch.arange(len(better))[:, None].expand_as(used)[used]
        d = self.body(better[used]) - self.body(worse[used])
        return self.heads.posterior(d, user, len(better))

    def margin(self, z: Tensor, better: Tensor, worse: Tensor) -> Tensor:
        """By how much the better is worth more to each user, `[U, n]`."""
        d = self.body(better) - self.body(worse)
        return self.head(d).squeeze(-1) + (d * self.heads.direction(z)[:, None]).sum(-1)

    def fit(self, drawn: Drawn, steps: int) -> None:
        """Some answers of a user tell who it is, others are predicted."""
        parameters = [
            *self.body.parameters(), *self.head.parameters(), *self.heads.parameters(),
        ]  # fmt: skip
        optimiser = torch.optim.Adam(parameters, 3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            better, worse = drawn(USERS, CONTEXT + TARGETS)
            told = torch.randint(CONTEXT + 1, (USERS,))
            q = self.known(better[:, :CONTEXT], worse[:, :CONTEXT], told)
            z = q.sample(torch.randn(USERS, DIMENSIONS))
            lead = self.margin(z, better[:, CONTEXT:], worse[:, CONTEXT:])
            price = PRICE * min(1.0, 2 * step / steps)
            loss = -logsigmoid(lead).mean() + price * to_standard_normal(*q).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
