"""Over-optimisation: the reward that is optimised rises while another, which nobody optimises, falls.

What is optimised stops being a measure (Gao et al. 2023). A second reward model, a verifier or a judge that only
watches (`--watch-reward`, metrics `watch/NAME` and `watch/NAME_se`) shows it where the truth cannot be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# What is compared are means over a quarter of the rounds so far, five at least: so few windows that the best of them is
# hardly high by chance, however long the run.
LEAST, SHARE = 5, 4
SURE = 4.0  # standard errors of the difference
BEFORE = "best_watched"  # the folder in a run of the model from before


class Watch:
    """Keeps what was watched in every round, and knows the window in which it was best."""

    def __init__(self) -> None:
        self.rounds: dict[
            str, list[list[float]]
        ] = {}  # name → [step, watched, its variance, reward]
        self.fallen = False

    def look(self, step: int, metrics: Mapping[str, float]) -> dict[str, str | None]:
        """A sentence for each watched reward that has fallen since its best while the reward rose."""
        told: dict[str, str | None] = {}
        for key, value in metrics.items():
            if (
                not key.startswith("watch/")
                or f"{key}_se" not in metrics
                or "reward" not in metrics
            ):
                continue
            rows = self.rounds.setdefault(key, [])
            rows.append([float(step), value, metrics[f"{key}_se"] ** 2, metrics["reward"]])
            told[key] = self._fallen(key, rows)
        self.fallen |= any(told.values())
        return told

    def at_best(self) -> bool:
        """Whether the last window is the best so far of each watched reward, and nothing has fallen yet."""
        if not self.rounds or self.fallen:
            return False
        return all(
            len(rows) >= LEAST
            and _mean(rows, len(rows))[0] >= max(_mean(rows, i)[0] for i in _ends(rows))
            for rows in self.rounds.values()
        )

    def _fallen(self, key: str, rows: list[list[float]]) -> str | None:
        earlier = [i for i in _ends(rows) if i <= len(rows) - _window(rows)]
        if not earlier:
            return None
        best = max(earlier, key=lambda i: _mean(rows, i)[0])
        (then, noise, reward), (now, noise_now, reward_now) = (
            _mean(rows, best),
            _mean(rows, len(rows)),
        )
        if then - now <= SURE * math.sqrt(noise + noise_now) or reward_now <= reward:
            return None
        name, since = key.removeprefix("watch/"), f"{rows[best - 1][0]:.0f}"
        return (
            f"over-optimised: since round {since} the reward rose from {reward:.3g} to {reward_now:.3g}, and {name}, "
            f"which nobody optimises, fell from {then:.3g} to {now:.3g}: stop, raise β, or mend the reward; the model "
            f"from before is in {BEFORE}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "fallen": self.fallen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rounds = {
            k: [list(row) for row in rows] for k, rows in state.get("rounds", {}).items()
        }
        self.fallen = bool(state.get("fallen", False))


def _window(rows: list[list[float]]) -> int:
    return max(LEAST, len(rows) // SHARE)


def _ends(rows: list[list[float]]) -> range:
    return range(_window(rows), len(rows) + 1)


def _mean(rows: list[list[float]], end: int) -> tuple[float, float, float]:
    """Of the window that ends before row `end`: the watched reward, the variance of that mean, the reward."""
    n = _window(rows)
    watched, variance, reward = (
        math.fsum(row[i] for row in rows[end - n : end]) for i in (1, 2, 3)
    )
    return watched / n, variance / n**2, reward / n
