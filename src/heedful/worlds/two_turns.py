"""`enumerable` with another turn: two tokens, something heard by chance, two more tokens; every value is a finite sum.

The policy's tokens are 0 … 3; what is heard is 4 or 5, with chances that depend on the first turn; the prompt is 6.
There are 4⁴ · 2 = 512 episodes, in the order of `episodes`: y1, y2, heard, y3, y4, the last one fastest. Both turns
have rewards. Sums are taken in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.types import Sample, Step

V, HEARD, PROMPT = 4, 2, 6
N = V**4 * HEARD
STATES = (1, V, V * V * HEARD, V**3 * HEARD)  # before each of the policy's tokens
COLUMNS = (
    0,
    1,
    3,
    4,
)  # of a batch, in which these tokens are predicted; in column 2 something is heard


@dataclass(frozen=True)
class TwoTurns:
    """Who wrote the episodes: `behaviour[k]` `[states, V]`, the chances of token k. `heard` `[V², 2]`; the rewards of
    the turns, `first` `[V²]` and `second` `[512]`."""

    behaviour: tuple[Tensor, ...]
    heard: Tensor
    first: Tensor
    second: Tensor

    def chances(self) -> Tensor:
        """Of each episode, `[512]`."""
        p1, p2, p3, p4 = self.behaviour
        turn = (p1.reshape(V, 1) * p2).reshape(-1, 1) * self.heard
        return (turn.reshape(-1, 1) * p3).reshape(-1, 1).mul(p4).flatten()

    def exact(self, gamma: float, tau: float) -> tuple[Tensor, Tensor]:
        """(Q of the tokens that are written, V of the states before them), `[512, 4]`: V is the τ-expectile of Q under
        who wrote them, Q(s, a) the mean of r + γV(s′)."""
        q4 = self.second.reshape(-1, V)
        v4 = expectiles(q4, self.behaviour[3], tau)
        q3 = gamma * v4.reshape(-1, V)
        v3 = expectiles(q3, self.behaviour[2], tau)
        q2 = (self.first + gamma * (self.heard * v3.reshape(-1, HEARD)).sum(-1)).reshape(V, V)
        v2 = expectiles(q2, self.behaviour[1], tau)
        q1 = gamma * v2.reshape(1, V)
        v1 = expectiles(q1, self.behaviour[0], tau)
        return _by_episode(q1, q2, q3, q4), _by_episode(v1, v2, v3, v4)

    def samples(self) -> list[Sample]:
        """All episodes, as a learner sees them."""
        found = []
        for number, (a, b, h, c, d) in enumerate(episodes().tolist()):
            turns = (
                Step(1, 3, float(self.first[a * V + b])),
                Step(4, 6, float(self.second[number])),
            )
            mask = (False, True, True, False, True, True)
            tokens = (PROMPT, a, b, V + h, c, d)
            found.append(Sample(tokens, mask, (0.0,) * 6, steps=turns))
        return found


def world(seed: int, *, uniform: bool = False) -> TwoTurns:
    """Chances and rewards, N(0, 1), from a seed; with `uniform` all episodes are equally likely."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    sharp = 0.0 if uniform else 1.0
    behaviour = tuple((sharp * normal(states, V)).softmax(-1) for states in STATES)
    heard = (sharp * normal(V * V, HEARD)).softmax(-1)
    return TwoTurns(behaviour, heard, normal(V * V), normal(N))


def episodes() -> Tensor:
    """y1, y2, which of the two is heard, y3, y4: `[512, 5]`."""
    sizes = (V, V, HEARD, V, V)
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes))


def expectiles(values: Tensor, chances: Tensor, tau: float) -> Tensor:
    """The τ-expectile of each row of values `[n, k]`: the v with τ·E(q − v)⁺ = (1 − τ)·E(v − q)⁺, by bisection."""
    low, high = values.amin(-1), values.amax(-1)
    for _ in range(100):
        v = (low + high) / 2
        error = values - v[:, None]
        pull = (chances * torch.where(error < 0, 1 - tau, tau) * error).sum(-1)
        low, high = torch.where(pull > 0, v, low), torch.where(pull > 0, high, v)
    return (low + high) / 2


def _by_episode(*levels: Tensor) -> Tensor:
    """What a table says at each of the four tokens of every episode, `[512, 4]`."""
    return torch.stack([x.flatten().repeat_interleave(N // x.numel()) for x in levels], -1)
