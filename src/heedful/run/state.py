"""What a run needs to go on exactly where it was: saved whole, checked when read, without pickle.

A state is a folder: one safetensors file for each stateful thing of a run, whose header holds its dicts, lists and
numbers around the tensors, and a manifest with the size and sha256 of every file and of itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from heedful import types
from heedful.disk import PARTIAL, discard, disk_errors, make_folder, sweep, write_folder
from heedful.errors import UserError
from heedful.ranks import ALONE, Ranks
from heedful.run.files import digest
from heedful.types import Stateful

MANIFEST = "manifest.json"
FORMAT = 1  # goes up when an older version could not go on from what a newer one saves
log = logging.getLogger("heedful")


class Damaged(Exception):
    """A state that is not what was written; says in which way."""


@dataclass(frozen=True)
class Saved:
    """A state on the disk. `about` is what was said when it was written: step, seconds, settings, …"""

    folder: Path
    about: dict[str, Any]
    files: dict[str, tuple[int, str]]  # name → bytes, sha256

    @property
    def step(self) -> int:
        """The last step that is in it."""
        return self.about["step"]

    def check(self) -> None:
        """Every file is there, has its size and its checksum; raises Damaged."""
        for name, (size, checksum) in self.files.items():
            path = self.folder / name
            if not path.is_file():
                raise Damaged(f"{name} is missing")
            if path.stat().st_size != size:
                raise Damaged(f"{name} has {path.stat().st_size} bytes, not {size}")
            if digest(path) != checksum:
                raise Damaged(f"{name} has another checksum than when it was written")

    def load(self, stateful: Mapping[str, Stateful]) -> None:
        """Give everything stateful its past back."""
        names = {Path(Path(name).parts[0]).stem for name in self.files}
        if names != set(stateful):
            raise UserError(
                f"{self.folder} holds {', '.join(sorted(names))}, but this run consists of "
                f"{', '.join(sorted(stateful))}; begin anew with --restart"
            )
        for name, thing in stateful.items():
            thing.load_state_dict(load(self.folder / f"{name}.safetensors"))
            if (shards := self.folder / name).is_dir():
                thing.load_shards(shards)  # type: ignore[attr-defined]


class States:
    """The states in a folder, named by their steps."""

    def __init__(self, folder: Path):
        self.folder = folder

    def steps(self) -> list[int]:
        """The steps of the states that are there, whole or damaged."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def read(self, step: int, *, check: bool = True) -> Saved:
        """The state of a step; raises Damaged, and UserError for one of a newer version."""
        folder = self.folder / f"{step:06d}"
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            told, checksum = manifest["state"], manifest["sha256"]
            newer = manifest.get("format", 1) > FORMAT
        except FileNotFoundError:
            raise Damaged(f"{MANIFEST} is missing") from None
        except (ValueError, KeyError, TypeError):
            raise Damaged(f"{MANIFEST} cannot be read") from None
        if newer:
            raise UserError(
                f"{folder} was saved by a newer heedful (format {manifest['format']}, this one knows {FORMAT}); "
                "upgrade heedful to go on, or begin anew with --restart"
            )
        if _checksum(told) != checksum:
            raise Damaged(f"{MANIFEST} has another checksum than when it was written")
        files = {name: (size, sha256) for name, (size, sha256) in told.pop("files").items()}
        saved = Saved(folder, told, files)
        if check:
            saved.check()
        return saved

    def newest(self, *, check: bool = True) -> Saved | None:
        """The newest state that is whole; older ones are asked where it is damaged. None: there is none at all."""
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.read(step, check=check)
            except Damaged as damage:
                if (
                    check
                ):  # who only asks for the manifest looks ahead, and the damage is told later
                    log.warning("%s is damaged: %s", self.folder / f"{step:06d}", damage)
        if steps:
            raise UserError(
                f"every saved state in {self.folder} is damaged, so the run cannot go on; "
                "begin anew with --restart"
            )
        return None

    def write(
        self, stateful: Mapping[str, Stateful], about: Mapping[str, Any], shards: Path | None = None
    ) -> None:
        """Save them as the state of `about["step"]`; `shards` holds a folder for each whose parts are written."""

        def write(folder: Path) -> None:
            files = {}
            for part in sorted(shards.glob("*/*")) if shards else ():
                name = part.relative_to(shards or part)
                (folder / name.parent).mkdir(exist_ok=True)
                os.replace(part, folder / name)
                files[str(name)] = ((folder / name).stat().st_size, digest(folder / name))
            for name, thing in stateful.items():
                path = folder / f"{name}.safetensors"
                dump(thing.state_dict(), path)
                files[path.name] = (path.stat().st_size, digest(path))
            told = {**about, "files": files}
            manifest = {"format": FORMAT, "sha256": _checksum(told), "state": told}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")

        write_folder(self.folder / f"{about['step']:06d}", write)

    def parts(self, names: Sequence[str]) -> Path:
        """An empty folder for each of what is written by several ranks; `sweep` throws away what is not taken."""
        aside = self.folder / f".parts{PARTIAL}"
        discard(aside)
        with disk_errors(aside):
            for name in names:
                make_folder(aside / name)
        return aside

    def drop(self, steps: list[int]) -> None:
        """Remove the states of these steps."""
        for step in steps:
            discard(self.folder / f"{step:06d}")

    def sweep(self) -> None:
        """Remove what a killed process left half-done."""
        sweep(self.folder)


def _checksum(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


# ── values ⇄ a safetensors file ──────────────────────────────────────────────────────────────────


def dump(value: Any, path: Path) -> None:
    """Write tensors, numbers, strings, None, our nouns, and dicts, lists and tuples of them. TypeError for others."""
    tensors: list[Tensor] = []
    tree = json.dumps(_tree(value, tensors))
    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for i, tensor in enumerate(tensors):
        place = tensor.untyped_storage().data_ptr()
        # The format refuses tensors that share memory; each is then written for itself.
        tensor = tensor.detach().contiguous()
        if place in seen and tensor.untyped_storage().data_ptr() == place:
            tensor = tensor.clone()
        seen.add(place)
        stored[str(i)] = tensor
    save_file(stored, path, metadata={"tree": tree})


def load(path: Path) -> Any:
    """What `dump` wrote, tensors on the CPU. Raises Damaged."""
    try:
        with safe_open(path, "pt") as file:
            return _value(json.loads(file.metadata()["tree"]), file.get_tensor)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path.name} cannot be read: {error}") from error


def _tree(value: Any, tensors: list[Tensor]) -> Any:
    """What JSON knows stays as it is; of the rest, a list says its kind first."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors.append(value)
        return ["tensor", len(tensors) - 1]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_tree(v, tensors) for v in value]]
    if isinstance(value, Mapping):  # as pairs: JSON's keys are strings only, an optimiser's numbers
        return ["dict", [[_tree(k, tensors), _tree(v, tensors)] for k, v in value.items()]]
    name = type(value).__name__
    if is_dataclass(value) and getattr(types, name, None) is type(value):
        return [name, [_tree(getattr(value, f.name), tensors) for f in fields(value)]]
    raise TypeError(f"a {type(value).__name__} cannot be kept in a run's state")


def _value(tree: Any, tensor_of: Any) -> Any:
    if not isinstance(tree, list):
        return tree
    kind, inner = tree
    if kind == "tensor":
        return tensor_of(str(inner))
    if kind == "dict":
        return {_value(k, tensor_of): _value(v, tensor_of) for k, v in inner}
    values = [_value(v, tensor_of) for v in inner]
    if kind == "list":
        return values
    return tuple(values) if kind == "tuple" else getattr(types, kind)(*values)


class Holder:
    """A value as something stateful."""

    def __init__(self, value: Any = None):
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def generators(ranks: Ranks = ALONE) -> dict[str, Any]:
    """Where Python's, numpy's and torch's global generators are."""
    state: Any = numpy.random.get_state()
    kind, keys, *rest = state
    cuda: list[torch.Tensor] = []
    if torch.cuda.is_initialized():  # a rank leaves the other ranks' GPUs alone
        several = ranks.world > 1
        cuda = [torch.cuda.get_rng_state()] if several else torch.cuda.get_rng_state_all()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


class GlobalRandom:
    """The global generators of all ranks. heedful draws from none; a user's reward or loss may."""

    def __init__(self, ranks: Ranks = ALONE, state: dict[str, Any] | None = None):
        self.ranks, self.state = ranks, state or {}

    @classmethod
    def now(cls, ranks: Ranks = ALONE) -> GlobalRandom:
        """As they are; all ranks must ask."""
        first, *others = ranks.gather(generators(ranks))
        return cls(ranks, {**first, "others": others})

    def state_dict(self) -> dict[str, Any]:
        """What `now` found, else where this process's own are."""
        return self.state or generators(self.ranks)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Each rank takes its own; with more ranks than there were, the first ones' again."""
        self.state = state
        of_ranks = [state, *state.get("others", [])]
        state = of_ranks[self.ranks.rank % len(of_ranks)]
        random.setstate(state["python"])
        numpy.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == 1 and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"][0])
        elif state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all(state["cuda"])
