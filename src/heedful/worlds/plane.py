"""`plane`: points of the unit square, and users who want to be near one of two corners; everything is a finite sum.

What one Bradley–Terry reward makes of all users together is computed exactly, on a grid of 21 × 21 points: the minimum
of Σ w(i, j)·[−P(i ≻ j)·log σ(r_i − r_j) − P(j ≻ i)·log σ(r_j − r_i)] over all r, by Newton's method in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Pairs = Literal["uniform", "near the goals"]
GOALS = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
SIDE = 21  # grid points along a side
NEAR = 0.15  # standard deviation around a goal
SHARES = (0.5, 0.65, 0.8)  # of the users who want the first goal
SHARPNESS = (2.0, 10.0, 30.0)  # β of the Boltzmann users
RIDGE = 1e-6  # of r, whose mean nothing else fixes
UTILITIES: dict[str, Callable[[Tensor], Tensor]] = {  # of the squared distance to the goal
    "distance": lambda d2: -d2.sqrt(),
    "squared distance": lambda d2: -d2,
    "bump": lambda d2: (-d2 / (2 * NEAR**2)).exp(),
}


def grid() -> Tensor:
    """All points, `[441, 2]`."""
    side = torch.linspace(0, 1, SIDE, dtype=torch.float64)
    return torch.cartesian_prod(side, side)


def utilities(name: str, points: Tensor) -> Tensor:
    """What the points are worth to the users of each goal, `[2, N]`."""
    squared = (points[None] - GOALS[:, None].to(points.dtype)).square().sum(-1)
    return UTILITIES[name](squared)


def preferred(name: str, share: float, sharpness: float, points: Tensor) -> Tensor:
    """P(i ≻ j) of somebody drawn at random, `[N, N]`: the first goal's users are the share `share`."""
    u = sharpness * utilities(name, points)
    of_each = (u[:, :, None] - u[:, None, :]).sigmoid()
    return share * of_each[0] + (1 - share) * of_each[1]


def asked(pairs: Pairs, points: Tensor) -> Tensor:
    """How often the points i and j are compared, `[N, N]`, its sum 1."""
    weight = torch.ones(len(points), dtype=points.dtype)
    if pairs == "near the goals":
        squared = (points[None] - GOALS[:, None]).square().sum(-1)
        weight = (-squared / (2 * NEAR**2)).exp().sum(0)
    both = weight[:, None] * weight[None, :]
    both.fill_diagonal_(0)
    return both / both.sum()


def bradley_terry(chance: Tensor, weight: Tensor) -> Tensor:
    """r `[N]` of the population, its mean 0, of P(i ≻ j) and weights `[N, N]`."""
    r = torch.zeros(len(chance), dtype=torch.float64)
    weight = weight + weight.T

    def loss(x: Tensor) -> Tensor:
        d = x[:, None] - x[None, :]
        return -(weight * chance * logsigmoid(d)).sum() + 0.5 * RIDGE * x.square().sum()

    for _ in range(100):
        p = (r[:, None] - r[None, :]).sigmoid()
        gradient = (weight * (p - chance)).sum(1) + RIDGE * r
        curvature = weight * p * (1 - p)
        hessian = torch.diag(curvature.sum(1) + RIDGE) - curvature
        step, size = torch.linalg.solve(hessian, gradient), 1.0
        while loss(r - size * step) > loss(r) - 1e-4 * size * gradient @ step and size > 1e-6:
            size /= 2
        r = r - size * step
        if step.abs().max() < 1e-6:
            break
    return r - r.mean()


def best_point(name: str, pairs: Pairs, share: float, sharpness: float) -> Tensor:
    """Where one reward for all is highest, `[2]`."""
    points = grid()
    return points[
        bradley_terry(preferred(name, share, sharpness, points), asked(pairs, points)).argmax()
    ]


def from_goals(point: Tensor) -> tuple[float, float]:
    """The distances of a point to the two goals."""
    first, second = (point.double() - GOALS).square().sum(1).sqrt().tolist()
    return first, second
