"""Loadable models of some steps on the way: which of them stay."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heedful.disk import discard
from heedful.errors import UserError, did_you_mean

METRICS = "metrics.json"  # in each checkpoint: what was measured at its step


@dataclass(frozen=True)
class Best:
    """The metric by which checkpoints are compared, and which way is up."""

    metric: str
    sign: int  # 1: the highest is best, −1: the lowest

    @classmethod
    def parse(cls, text: str) -> Best:
        """`min:eval/loss` or `max:reward`."""
        way, _, metric = text.partition(":")
        if way not in ("min", "max") or not metric:
            raise UserError(
                f"--keep-best '{text}' must be min: or max: and a metric, such as min:eval/loss"
            )
        return cls(metric, 1 if way == "max" else -1)

    def require(self, metrics: Mapping[str, float]) -> None:
        """A checkpoint without the metric could never be the best one; that is the user's to know."""
        if self.metric not in metrics:
            there = ", ".join(sorted(metrics)) or "none"
            raise UserError(
                f"--keep-best: there is no metric '{self.metric}' at the checkpoints"
                f"{did_you_mean(self.metric, metrics)}; there are {there}"
            )

    def of(self, folders: list[Path]) -> tuple[Path, float] | None:
        """The best of the checkpoints and its value; the earliest of equals."""
        found: tuple[Path, float] | None = None
        for folder in folders:
            try:
                value = json.loads((folder / METRICS).read_text(encoding="utf-8"))[self.metric]
            except (OSError, ValueError, KeyError):
                continue  # made before --keep-best was asked for
            if math.isfinite(value) and (found is None or self.sign * (value - found[1]) > 0):
                found = folder, value
        return found


def folders(root: Path) -> list[Path]:
    """The checkpoints that are there, by step."""
    there = [p for p in root.iterdir() if p.name.isdigit()] if root.is_dir() else []
    return sorted(there, key=lambda p: int(p.name))


def prune(root: Path, last: int, best: Best | None) -> None:
    """Remove all but the newest `last` and the best; `last=0` keeps everything."""
    there = folders(root)
    kept = set(there[-last:])
    if best is not None and (found := best.of(there)):
        kept.add(found[0])
    for folder in there if last else []:
        if folder not in kept:
            discard(folder)
