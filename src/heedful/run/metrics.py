"""Metrics as they come: a line of metrics.jsonl, and TensorBoard or Weights & Biases; continued when a run goes on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.errors import UserError
from heedful.run.files import disk_errors, plain

METRICS = "metrics.jsonl"
ALARMS = "alarms.jsonl"


class MetricsLog:
    """`after` is the last step that counts, `seconds` what the run had taken by then; later lines are cut off."""

    def __init__(
        self, out: Path, config: Any, report_to: str, *, after: int = 0, seconds: float = 0.0
    ):
        self.out = out
        kind = find_writer(report_to)
        if not after:
            shutil.rmtree(out / "tensorboard", ignore_errors=True)
        with disk_errors(out):
            cut(out / METRICS, after)
            cut(out / ALARMS, after)
            self._file = open(out / METRICS, "a", encoding="utf-8")  # noqa: SIM115
        self._writer = kind(out, config, after) if kind else None
        self._started = time.monotonic() - seconds

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
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
        """A saved state never knows of steps whose lines are lost."""
        with disk_errors(self.out):
            os.fsync(self._file.fileno())


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


class _TensorBoard:
    def __init__(self, out: Path, config: Any, after: int):
        from torch.utils.tensorboard import SummaryWriter

        folder = out / "tensorboard"
        # Files are read in the order of the seconds in their names: ours comes after the killed process's.
        while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)
        # Events of later steps, which that one wrote, are then hidden by the reader.
        self.writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _WandB:
    def __init__(self, out: Path, config: Any, after: int):
        try:
            import wandb  # type: ignore[import-not-found]
        except ImportError:
            raise UserError("--report-to wandb needs the package: pip install wandb") from None
        self.run = wandb.init(project="heedful", name=out.name, config=plain(config), dir=str(out))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


def find_writer(report_to: str) -> type[_TensorBoard | _WandB] | None:
    """What `--report-to` names."""
    kinds = {"tensorboard": _TensorBoard, "wandb": _WandB, "none": None}
    if report_to not in kinds:
        raise UserError(f"--report-to must be tensorboard, wandb or none, not '{report_to}'")
    return kinds[report_to]
