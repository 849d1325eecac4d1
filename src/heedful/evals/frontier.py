"""Score against KL as one number: how much score a method offers at every budget of KL."""

from __future__ import annotations

from collections.abc import Iterable


def hypervolume(points: Iterable[tuple[float, float]], budget: float, floor: float) -> float:
    """∫₀^budget (the most score of a point with that KL or less − floor) dKL, of points (KL, score).

    The area that the points dominate, above the start's score `floor`, which costs nothing (Zitzler and Thiele 1998).
    A checkpoint that falls below an earlier one takes nothing away; estimates of KL below 0 are 0.
    """
    area, here, best = 0.0, 0.0, floor
    for kl, score in sorted((max(0.0, kl), score) for kl, score in points):
        if kl >= budget:
            break
        area += (kl - here) * (best - floor)
        here, best = kl, max(best, score)
    return area + (budget - here) * (best - floor)
