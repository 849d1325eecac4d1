"""What files and folders hold, in short."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.disk import folders_meant
from heedful.errors import UserError
from heedful.tagged import flat

READ_WHOLE = 1 << 30  # bytes; of a larger file `digest(quick=True)` reads samples
SAMPLES, SAMPLE = 256, 1 << 20  # how many, and how many bytes each


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
        local = folders_meant(base, folder) if base else []
        parts = [fingerprint(place, quick=quick) for place in local] or [base]
        total.update("".join(parts).encode())
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
