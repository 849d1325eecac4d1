"""What a run was begun with: the same command goes on with it, another one is refused in a sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from heedful import __version__
from heedful.disk import PARTIAL, discard, sweep
from heedful.errors import UserError
from heedful.fast.kernels.build import kind, library
from heedful.remote.sources import sources
from heedful.run.checkpoints import Best
from heedful.run.files import digest, fingerprint, plain
from heedful.run.stop import LOCK, locked
from heedful.tagged import holders

# Moved into place last: a folder with one of them holds a whole model, adapter in PEFT's format, or player of a game.
FINISHED = ("config.json", "adapter_config.json", "player.json")
ONCE = ("resume", "restart")  # said of one start, not of the run
NAMES = ("command", "out")  # what it is called and where it is
# What is written down, memory, speed and which rows are fit to be read: these may differ when a run goes on.
FREE = (
    "quiet", "report_to", "project", "run_name", "log_every", "save_every", "state_every", "keep_last", "keep_best",
    "micro_batch_tokens", "device", "gradient_checkpointing", "compile", "liger", "on_bad_row",
    "push_to_hub", "nproc", "shard", "shard_offload", "shard_sync", "cluster",
)  # fmt: skip
# Rows that may have been mended since, in the same file or in another.
DATA = ("data", "eval_data", "ptx.data")
# May name files; a reward's spec may name several: label=runs/a, ensemble(runs/a, runs/b).
INPUTS = (
    *DATA,
    "model",
    "reference",
    "reward",
    "watch_reward",
    "critic",
    "judge",
    "weights",
    "teacher",
    "context",
)
MAY = "the last bits may differ from now on"


@dataclass(frozen=True)
class Habits:
    """How a run is kept: the fields of this name of its config, or these defaults."""

    save_every: int = 0
    state_every: int = 0
    keep_last: int = 0
    keep_best: str | None = None
    resume: bool = False
    restart: bool = False

    @classmethod
    def of(cls, config: Any) -> Habits:
        """Raises UserError for what cannot be meant."""
        habits = cls(
            **{f.name: getattr(config, f.name) for f in fields(cls) if hasattr(config, f.name)}
        )
        for name in ("save_every", "state_every", "keep_last"):
            if getattr(habits, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} must be 0 or more")
        if (habits.keep_last or habits.keep_best) and not habits.save_every:
            raise UserError("--keep-last and --keep-best are about checkpoints: give --save-every")
        if habits.resume and habits.restart:
            raise UserError("--resume goes on and --restart begins anew; give one of them")
        return habits

    @property
    def best(self) -> Best | None:
        return Best.parse(self.keep_best) if self.keep_best else None


def settings(config: Any) -> dict[str, Any]:
    """A config as it is written down: the command that it is of, if it is of one, and its fields."""
    values = {k: v for k, v in plain(config).items() if k not in ONCE}
    command = values.pop("command", None)
    return {"command": command, **values} if command else values


def identity(config: Any, inputs: Sequence[str] = INPUTS) -> dict[str, Any]:
    """All that decides the weights: the recipe, its settings, what is in the files and the code that these name, the
    libraries, and how this machine adds up. `inputs` are the fields that may name files."""
    fixed = {k: v for k, v in settings(config).items() if k not in NAMES}
    told_of = flat(fixed)
    paths = [path for name in inputs for path in _paths(told_of.get(name)) if os.path.exists(path)]
    return {
        "recipe": type(config).__module__,
        "settings": fixed,
        "usual": _usual(config),
        "inputs": {path: _content(Path(path)) for path in paths},
        "sources": sources(fixed),
        "versions": {name: version(name) for name in ("torch", "transformers")}
        | {"heedful": __version__},
        "machine": _machine(str(told_of.get("device", "cpu"))),
    }


def _usual(config: Any) -> list[str]:
    """The fields that have their defaults: one that an earlier release did not know is no difference then."""
    if not is_dataclass(config):
        return []
    parts = [(holder, f) for holder in holders(config) for f in fields(holder)]
    return sorted({f.name for holder, f in parts if getattr(holder, f.name) == f.default})


def _machine(device: str) -> dict[str, Any]:
    """What moves the last bits of a sum on a CPU: compiled kernels or none, and how many threads."""
    compiled = device.startswith("cpu") and library() is not None
    return {"kernels": kind() if compiled else "off", "threads": torch.get_num_threads()}


def changes(
    out: Path, before: Mapping[str, Any], now: Mapping[str, Any], *, resume: bool = False
) -> list[str]:
    """What is different since an unfinished run was begun and may be, in words; UserError for what may not.

    Code that was edited is gone on with where `resume` insists.
    """
    if _job(before["recipe"]) != _job(now["recipe"]):
        raise _another(
            out, [f"it is one of {_job(before['recipe'])}, not of {_job(now['recipe'])}"]
        )
    difference = compared(before, now)
    if difference.refused:
        raise _another(out, difference.refused)
    if difference.code and not resume:
        on = "go on with the code as it is now with --resume, "
        raise _another(out, difference.code, on)
    return [*difference.code, *difference.told]


@dataclass(frozen=True)
class Difference:
    """Between two identities, in words: what may differ, what may not, and code, which may have been edited for good
    reasons."""

    told: list[str]
    refused: list[str]
    code: list[str]


def compared(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    free: Sequence[str] = FREE,
    data: Sequence[str] = DATA,
) -> Difference:
    """`free` fields may differ, those of `data` may name other rows; another setting speaks for the files it names."""
    old, new = flat(before["settings"]), flat(now["settings"])
    unsaid = {*free, *now.get("usual", ())}
    different = {
        name: f"{name} was {old.get(name)}, is {new[name]}"
        for name in new  # an older version wrote down also what nobody reads, and not what is free
        if old.get(name) != new[name] and (name in old or name not in unsaid)
    }
    rows = {path for name in data for path in _paths(old.get(name))}
    content = [
        p for p, digest in before["inputs"].items() if now["inputs"].get(p, digest) != digest
    ]
    gone = [p for p in before["inputs"] if p not in now["inputs"] and p not in rows]
    code, code_now = before.get("sources", {}), now.get("sources", {})
    return Difference(
        [
            *(words for name, words in different.items() if name in (*free, *data)),
            *(f"{path} was changed" for path in content if path in rows),
            *_of_the_machine(before, now),
        ],
        [words for name, words in different.items() if name not in (*free, *data)]
        or [f"{path} was changed since" for path in [*content, *gone] if path not in rows],
        [f"{m} was edited" for m in code if code_now.get(m, code[m]) != code[m]],
    )


def _of_the_machine(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Libraries and the processor's way of adding up, where they are others: nobody can go back to them so easily."""
    told = []
    for group in ("versions", "machine"):
        for name, new in now.get(group, {}).items():
            old = before.get(group, {}).get(name, new if group == "machine" else "an earlier one")
            told += [f"{name}: {old} before, {new} now ({MAY})"] if old != new else []
    return told


def _another(out: Path, reasons: list[str], more: str = "") -> UserError:
    return UserError(
        f"{out} holds an unfinished run that would go on differently: {'; '.join(reasons)}. Choose "
        f"another --out, give what it was begun with, {more}or begin anew with --restart"
    )


def _paths(told: Any) -> list[str]:
    """What a field of `INPUTS` may name in the file system."""
    paths: list[str] = []
    for text in [told] if isinstance(told, str) else told if isinstance(told, list) else []:
        pieces = (piece.strip(" \"'") for piece in re.split(r"[=(),@]", text))
        file, _, share = text.rpartition("@")  # of a file with a share of its rows
        pieces = (*pieces, file) if share.replace(".", "").isdigit() else pieces
        paths += [path.removeprefix("llm:") for path in (text, *pieces) if path]
    return list(dict.fromkeys(paths))


def finished(folder: Path) -> bool:
    """Whether a run has left its final model in its folder.

    What its process was still throwing away when it was killed, or the disk failed, goes now. Where no such process has
    left its lock or anything half done, all is let be.
    """
    if not any((folder / name).exists() for name in FINISHED):
        return False
    if (folder / LOCK).exists() or any(folder.glob(f".*{PARTIAL}")):
        with suppress(UserError), locked(folder):
            discard(folder / "state")
            sweep(folder)
    return True


def refuse_finished(out: Path) -> None:
    """A finished model is never overwritten, and neither is a folder of somebody else's."""
    if finished(out):
        raise UserError(f"--out {out} already holds a finished model; choose another folder")
    if out.is_file():
        raise UserError(f"--out {out} is a file, a folder is needed")
    if out.is_dir() and not (out / "config.yaml").exists():
        for path in out.iterdir():
            if path.name != LOCK and not path.name.endswith(PARTIAL):
                raise UserError(
                    f"--out {out} is not empty and no run of heedful; choose another folder"
                )


def _content(path: Path) -> str:
    try:
        return fingerprint(path, quick=True) if path.is_dir() else digest(path, quick=True)
    except OSError as error:  # whoever needs it will say so better
        return str(error)


def _job(recipe: str) -> str:
    return recipe.rsplit(".", 1)[-1]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of fields by their dotted names, as flags have them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return found
