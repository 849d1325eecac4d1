"""Over-optimisation: the reward that is optimised rises while another, which nobody optimises, falls.

What is optimised stops being a measure (Gao et al. 2023). A second reward model, a verifier or a judge that only
watches (`--watch-reward`, metrics `watch/NAME` and `watch/NAME_se`) shows it where the truth cannot be seen.

A reward that watches has errors of its own, which more responses do not make smaller: fitted to other judgments it
might have fallen elsewhere. Of an ensemble of several that were fitted to different judgments (`watch/NAME/1`,
`watch/NAME/2`, …) the interval of their mean fall counts: what only some of them say is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any

from heedful.evals.falls import Stretch, sure_fall

# Evaluations are means over a twelfth of the rounds so far, one window behind the other: so few that the clearest of
# all falls between them is hardly clear by chance, however long the run.
WINDOWS = 12
BEFORE = "best_watched"  # the folder in a run of the model from before


class Watch:
    """Keeps what was watched in every round, and knows the window in which it was best."""

    def __init__(self) -> None:
        self.rounds: dict[
            str, list[list[float]]
        ] = {}  # name → [step, watched, its variance, reward, and of an ensemble each member's]
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
            members = takewhile(lambda name: name in metrics, (f"{key}/{k}" for k in count(1)))
            rows.append([float(step), value, metrics[f"{key}_se"] ** 2, metrics["reward"]])
            rows[-1] += [metrics[name] for name in members]
            told[key] = self._fallen(key, rows)
        self.fallen |= any(told.values())
        return told

    def at_best(self) -> bool:
        """Whether the last window is the best so far of each watched reward, and nothing has fallen yet."""
        if not self.rounds or self.fallen:
            return False
        every = [windows(rows) for rows in self.rounds.values()]
        return all(of[-1].watched == max(w.watched for w in of) for of in every)

    def _fallen(self, key: str, rows: list[list[float]]) -> str | None:
        if (fall := sure_fall(windows(rows))) is None:
            return None
        then, now = fall
        name = key.removeprefix("watch/")
        return (
            f"over-optimised: since round {then.step:.0f} the reward rose from {then.reward:.3g} to {now.reward:.3g}, "
            f"and {name}, which nobody optimises, fell from {then.watched:.3g} to {now.watched:.3g}: stop, raise β, or "
            f"mend the reward; the model from before is in {BEFORE}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "fallen": self.fallen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rounds = {
            k: [list(row) for row in rows] for k, rows in state.get("rounds", {}).items()
        }
        self.fallen = bool(state.get("fallen", False))


def windows(rows: Sequence[Sequence[float]]) -> list[Stretch]:
    """Rounds as windows of equal length that end with the last round; those at the beginning that fill none are left
    out."""
    size = max(1, len(rows) // WINDOWS)
    starts = range(len(rows) % size, len(rows) - size + 1, size)
    found = []
    for start in starts:
        part = rows[start : start + size]
        _, watched, variance, reward, *members = (
            math.fsum(of) / size for of in zip(*part, strict=False)
        )
        found.append(Stretch(part[-1][0], watched, variance / size, reward, tuple(members)))
    return found
