"""Files and folders that are whole or absent, whatever happens while they are written, and what they hold in short."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedful.errors import UserError
from heedful.parts import flat

PARTIAL = ".partial"  # ends the name of what is being written or thrown away; never looked at
READ_WHOLE = 1 << 30  # bytes; of a larger file `digest(quick=True)` reads samples
SAMPLES, SAMPLE = 256, 1 << 20  # how many, and how many bytes each


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
    partial = target.with_name(f".{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(target):
            partial.mkdir(parents=True)
            write(partial)
            for path in partial.rglob("*"):
                sync(path)
            sync(partial)
            discard(target)
            os.replace(partial, target)
            sync(target.parent)  # without it the new name itself may be lost with the power
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder inside another that is gone when the block ends."""
    path = folder / f".scratch{PARTIAL}"
    shutil.rmtree(path, ignore_errors=True)
    try:
        with disk_errors(folder):
            path.mkdir(parents=True)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """A small file, entirely or not at all."""
    partial = target.with_name(f".{target.name}{PARTIAL}")
    with disk_errors(target):
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        os.replace(partial, target)


def discard(folder: Path) -> None:
    """Remove a folder; it is gone under its name at once, so that nobody ever meets half of it."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.old{PARTIAL}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process was just writing here, or throwing away."""
    for path in folder.glob(f".*{PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path, *, quick: bool = False) -> str:
    """sha256 of a file. Quick: of a file above 1 GiB, only its size and 256 evenly spaced MiB."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if not quick or size <= READ_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        total = hashlib.sha256(str(size).encode())
        for k in range(SAMPLES):
            file.seek((size - SAMPLE) * k // (SAMPLES - 1))
            total.update(file.read(SAMPLE))
        return total.hexdigest()


def fingerprint(folder: str | Path, *, quick: bool = False) -> str:
    """sha256 of what makes a model what it is: weights, tokenizer, chat template; the same in any folder."""
    folder, total = Path(folder), hashlib.sha256()
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of a model")
    kinds = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")
    for path in sorted(p for p in folder.iterdir() if p.suffix in kinds and p.is_file()):
        if path.name not in ("evaluation.json", "metrics.json"):
            total.update(f"{path.name}\0{digest(path, quick=quick)}\n".encode())
    adapter = folder / "adapter_config.json"
    if adapter.exists():  # an adapter is what it is on its base only
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
        local = base and Path(base).is_dir()
        total.update((fingerprint(base, quick=quick) if local else base).encode())
    return total.hexdigest()


def plain(config: Any) -> Any:
    """Dataclasses, paths and tuples as what YAML and JSON know."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {name: plain(value) for name, value in flat(config).items()}
    if isinstance(config, Mapping):
        return {str(k): plain(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [plain(v) for v in config]
    return str(config) if isinstance(config, Path) else config
