"""Where metrics go besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow, trackio.

What a flag says (`--project`, `--run-name`) counts first, then what the tracker's own environment variables say, which
it reads itself where nothing is passed, and then ours. Packages are imported when a run begins.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from heedful.errors import UserError
from heedful.run.files import plain

log = logging.getLogger("heedful")
PROJECT = "heedful"


class Tracker(Protocol):
    """A place for numbers."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def tracker(report_to: str, out: Path, config: Any, after: int) -> Tracker | None:
    """The tracker of this name, open; `after` is the last step that counts. UserError where it cannot be opened."""
    if report_to == "none":
        return None
    kind = KINDS.get(report_to)
    if kind is None:
        names = ", ".join(KINDS)
        raise UserError(f"--report-to must be one of {names} or none, not '{report_to}'")
    try:
        return Lasting(kind(out, config, after), report_to)
    except ImportError as error:
        raise UserError(f"--report-to {report_to} needs a package: {error}") from None
    except Exception as error:
        raise UserError(
            f"--report-to {report_to} cannot begin: {type(error).__name__}: {error}"
        ) from error


class Lasting:
    """A tracker that cannot end a training: what fails on the way is told once, and metrics.jsonl has everything."""

    def __init__(self, tracker: Tracker, name: str):
        self.tracker, self.name, self.failed = tracker, name, False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._try(lambda: self.tracker.log(step, metrics))

    def close(self) -> None:
        self._try(self.tracker.close)

    def _try(self, act: Any) -> None:
        try:
            act()
        except Exception as error:
            if not self.failed:
                log.warning("%s failed, metrics.jsonl goes on: %s", self.name, error)
            self.failed = True


def said(config: Any, name: str, *environment: str, usual: str) -> str | None:
    """What a flag says; None where a tracker finds it in its environment itself; else ours."""
    if value := getattr(config, name, None):
        return value
    return None if any(os.environ.get(variable) for variable in environment) else usual


class TensorBoard:
    """Event files in OUT/tensorboard, or in a folder of the run's name in $TENSORBOARD_LOGGING_DIR."""

    def __init__(self, out: Path, config: Any, after: int):
        from torch.utils.tensorboard import SummaryWriter

        _silence_writer()
        shared = os.environ.get("TENSORBOARD_LOGGING_DIR")
        name = getattr(config, "run_name", None) or out.name
        folder = Path(shared) / name if shared else out / "tensorboard"
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


@functools.cache
def _silence_writer() -> None:
    """What ends TensorBoard's own thread is raised again by the next call, and told there: no traceback besides."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__name__ != "_AsyncWriterThread":
            before(args)

    threading.excepthook = hook


class WandB:
    """Weights & Biases; WANDB_PROJECT, WANDB_NAME, WANDB_ENTITY, WANDB_MODE, WANDB_DIR and the others are its own."""

    def __init__(self, out: Path, config: Any, after: int):
        wandb = importlib.import_module("wandb")
        self.run = wandb.init(
            project=said(config, "project", "WANDB_PROJECT", usual=PROJECT),
            name=said(config, "run_name", "WANDB_NAME", "WANDB_RUN_ID", usual=out.name),
            config=plain(config),
            dir=None if os.environ.get("WANDB_DIR") else str(out),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI or in OUT/mlruns; the project is the experiment (MLFLOW_EXPERIMENT_NAME, _ID)."""

    def __init__(self, out: Path, config: Any, after: int):
        self.mlflow = importlib.import_module("mlflow")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self.mlflow.set_tracking_uri((out / "mlruns").resolve().as_uri())
        named = ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
        if experiment := said(config, "project", *named, usual=PROJECT):
            self.mlflow.set_experiment(experiment)
        name = said(config, "run_name", "MLFLOW_RUN_NAME", "MLFLOW_RUN_ID", usual=out.name)
        self.mlflow.start_run(run_name=name or os.environ.get("MLFLOW_RUN_NAME"))
        values = plain(config).items()
        self.mlflow.log_params({key: str(value)[:500] for key, value in values})  # its limit

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.mlflow.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        self.mlflow.end_run()


class Trackio:
    """trackio; TRACKIO_PROJECT says the project, and TRACKIO_SPACE_ID, TRACKIO_DIR and the others are its own."""

    def __init__(self, out: Path, config: Any, after: int):
        self.trackio = importlib.import_module("trackio")
        project = said(config, "project", "TRACKIO_PROJECT", usual=PROJECT)
        self.trackio.init(
            project=project or os.environ["TRACKIO_PROJECT"],
            name=getattr(config, "run_name", None) or out.name,
            config=plain(config),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        self.trackio.finish()


KINDS: dict[str, Any] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
