"""A run's folder: resolved config, metrics, atomic checkpoints, and the final model at its root.

out/config.yaml       the resolved config
out/metrics.jsonl     one object a logged step
out/tensorboard/      the same for TensorBoard
out/checkpoints/N/    a loadable model of step N
out/config.json …     the final model (an adapter: adapter_config.json …); absent until the run has finished
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from heedful.errors import UserError
from heedful.progress import Progress

# Moved into place last: a folder with one of them holds a whole model, or a whole adapter in PEFT's format.
FINISHED = ("config.json", "adapter_config.json")


def finished(folder: Path) -> bool:
    """Whether a run has left its final model in its folder."""
    return any((folder / name).exists() for name in FINISHED)


@contextmanager
def disk_errors(path: Path):
    """Turn "no space left" and its kin into a sentence; whatever was half-written is the caller's to remove."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        full = code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        # safetensors reports the system's error as text only.
        if full or "No space left" in str(error) or "os error 28" in str(error):
            raise UserError(
                f"disk full while saving {path}; nothing half-written is left"
            ) from error
        if isinstance(error, PermissionError):
            raise UserError(f"cannot write {path}: permission denied") from error
        raise


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Create folder `target` with what `write(folder)` puts there: entirely, or not at all."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(target):
            partial.mkdir(parents=True)
            write(partial)
            _sync(partial)
            if target.exists():
                shutil.rmtree(target)
            os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fingerprint(folder: str | Path) -> str:
    """sha256 of what makes a model what it is: weights, tokenizer, chat template; the same in any folder."""
    folder, total = Path(folder), hashlib.sha256()
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of a model")
    kinds = (".safetensors", ".json", ".jinja", ".model", ".txt")
    for path in sorted(p for p in folder.iterdir() if p.suffix in kinds and p.is_file()):
        if path.name == "evaluation.json":
            continue
        with open(path, "rb") as file:
            total.update(
                f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    adapter = folder / "adapter_config.json"
    if adapter.exists():  # an adapter is what it is on its base only
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
        total.update((fingerprint(base) if base and Path(base).is_dir() else base).encode())
    return total.hexdigest()


class Run:
    """An open run; use `with Run(...) as run`. Logs, shows progress, saves checkpoints and the final model."""

    def __init__(
        self,
        out: Path,
        config: Any,
        *,
        total_steps: int,
        quiet: bool = False,
        report_to: str = "tensorboard",
        show: tuple[str, ...] = ("loss",),
    ):
        self.out, self.show = Path(out), show
        self.report_to = report_to
        self._created = not self.out.exists()
        self._saved = False
        refuse_finished(self.out)
        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            for name in ("checkpoints", "tensorboard"):
                shutil.rmtree(self.out / name, ignore_errors=True)
            text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
            (self.out / "config.yaml").write_text(text, encoding="utf-8")
            self._metrics = open(self.out / "metrics.jsonl", "w", encoding="utf-8")  # noqa: SIM115
        self._progress = Progress(self.out.name, total_steps, quiet=quiet)
        self._writer = _writer(report_to, self.out, config)
        self.started = time.monotonic()

    def __enter__(self) -> Run:
        self._progress.__enter__()
        return self

    def __exit__(self, kind, error, tb) -> None:
        self._progress.__exit__(kind, error, tb)
        self._metrics.close()
        if self._writer is not None:
            self._writer.close()
        if isinstance(error, UserError) and self._created and not self._saved:
            shutil.rmtree(self.out, ignore_errors=True)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one line of metrics; `step` counts finished optimiser (or policy) steps."""
        if (loss := metrics.get("loss")) is not None and not math.isfinite(loss):
            raise UserError(
                f"the loss became {loss} at step {step}; lower --learning-rate or look at the data"
            )
        row = {"step": step, "seconds": round(time.monotonic() - self.started, 3), **metrics}
        with disk_errors(self.out):
            self._metrics.write(json.dumps(row) + "\n")
            self._metrics.flush()
        if self._writer is not None:
            self._writer.log(step, metrics)
        self._progress.update(step, {k: metrics[k] for k in self.show if k in metrics})

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> Path:
        """Save a loadable model of this step under `checkpoints/`."""
        target = self.out / "checkpoints" / f"{step:06d}"
        target.parent.mkdir(exist_ok=True)
        write_folder(target, write)
        self._saved = True
        return target

    def finish(self, write: Callable[[Path], None]) -> None:
        """Save the final model into the run's folder itself."""
        whole = self.out / ".final"
        write_folder(whole, write)
        for file in sorted(whole.iterdir(), key=lambda f: f.name in FINISHED):
            os.replace(file, self.out / file.name)
        whole.rmdir()
        self._saved = True


def refuse_finished(out: Path) -> None:
    """A finished model is never overwritten; an unfinished run of ours starts again."""
    if finished(out):
        raise UserError(f"--out {out} already holds a finished model; choose another folder")
    if out.is_file():
        raise UserError(f"--out {out} is a file, a folder is needed")
    if out.is_dir() and any(out.iterdir()) and not (out / "config.yaml").exists():
        raise UserError(f"--out {out} is not empty and no run of heedful; choose another folder")


def plain(config: Any) -> Any:
    """Dataclasses, paths and tuples as what YAML and JSON know."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): plain(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [plain(v) for v in config]
    return str(config) if isinstance(config, Path) else config


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


class _TensorBoard:
    def __init__(self, out: Path, config: Any):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _WandB:
    def __init__(self, out: Path, config: Any):
        try:
            import wandb  # type: ignore[import-not-found]
        except ImportError:
            raise UserError("--report-to wandb needs the package: pip install wandb") from None
        self.run = wandb.init(project="heedful", name=out.name, config=plain(config), dir=str(out))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


def _writer(report_to: str, out: Path, config: Any) -> _TensorBoard | _WandB | None:
    kinds = {"tensorboard": _TensorBoard, "wandb": _WandB, "none": None}
    if report_to not in kinds:
        raise UserError(f"--report-to must be tensorboard, wandb or none, not '{report_to}'")
    kind = kinds[report_to]
    return kind(out, config) if kind else None
