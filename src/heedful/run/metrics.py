"""Metrics as they come: a line of metrics.jsonl, and a tracker; continued when a run goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.data.logs import ALARMS, METRICS, SAMPLES, read_log
from heedful.disk import disk_errors, sync
from heedful.run.trackers import tracker


class MetricsLog:
    """`after` is the last step that counts, `seconds` what the run had taken by then; later lines are cut off."""

    def __init__(
        self, out: Path, config: Any, report_to: str, *, after: int = 0, seconds: float = 0.0
    ):
        self.out = out
        if not after:
            shutil.rmtree(out / "tensorboard", ignore_errors=True)
        with disk_errors(out):
            cut(out / METRICS, after)
            cut(out / ALARMS, after)
            cut(out / SAMPLES, after)
            self._file = open(out / METRICS, "a", encoding="utf-8")  # noqa: SIM115
            sync(out)
        self._writer = tracker(report_to, out, config, after)
        self._started = time.monotonic() - seconds

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        with disk_errors(self.out):  # it tries once more what could not be written
            self._file.close()
        if self._writer is not None:
            self._writer.close()

    @property
    def seconds(self) -> float:
        """Since the run began, without the time in which it was stopped."""
        return time.monotonic() - self._started

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line, at once where others can read it."""
        row = {"step": step, "seconds": round(self.seconds, 3), **metrics}
        with disk_errors(self.out):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        if self._writer is not None:
            self._writer.log(step, metrics)

    def sync(self) -> None:
        """A saved state never knows of steps whose lines are lost, and neither does a finished model."""
        with disk_errors(self.out):
            for name in (METRICS, ALARMS, SAMPLES):
                if (self.out / name).exists():
                    sync(self.out / name)


def metrics_of(out: Path) -> list[dict[str, Any]]:
    """What a run has logged, a row a logged step: `step`, `seconds`, and the metrics by name."""
    return read_log(out / METRICS)


def alarms_of(out: Path) -> list[dict[str, Any]]:
    """What went wrong in a run by the look of its metrics: `step`, and `alarm`, a sentence."""
    return read_log(out / ALARMS)


def cut(path: Path, after: int) -> None:
    """Keep the whole lines of steps up to `after`: a torn last line goes, and so do steps that will come again."""
    if not path.exists():
        return
    kept = 0
    with open(path, "r+b") as file:
        for line in file if after else ():
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > after:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept += len(line)
        file.truncate(kept)
