"""Which models people may talk to or train with: a list, since a model is a folder that is read, or a name that is
fetched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import UserError, did_you_mean
from heedful.web import profiles

DEPTH = 6  # folders below the workspace
SKIPPED = ("checkpoints", "tensorboard")  # which may be many; they can be named all the same
MARKS = ("config.json", "adapter_config.json")  # of a whole model, of an adapter
PROFILES = (profiles.FILE,)


@dataclass(frozen=True)
class Models:
    """The models in the workspace's folders, and those that whoever runs the server has named."""

    workspace: Path | None = None
    named: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Those that write: the named ones, then the folders that changed last first."""
        return [*self.named, *self._listed(scoring=False)]

    def rewards(self) -> list[str]:
        """Those that score, which are reward models; what the named ones are, only loading them would tell."""
        return [*self._listed(scoring=True), *self.named]

    def profiles(self) -> list[str]:
        """Folders of `heedful pluralism`, which people's profiles can be made from."""
        return sorted(self._folders(PROFILES))

    def refuse_profiles(self, name: str) -> None:
        """UserError unless there are profiles of this name, or none are named."""
        if name and self._inside(name, PROFILES) is None:
            raise UserError(
                f"there are no profiles of heedful pluralism in '{name}'{did_you_mean(name, self.profiles())}"
            )

    def refuse(self, wanted: Iterable[object]) -> None:
        """UserError with the list unless all are on it."""
        for name in wanted:
            if not isinstance(name, str) or self._path(name) is None:
                known = self.names()
                listed = f"there are {', '.join(known[:20])}" if known else "there are none yet"
                raise UserError(
                    f"'{name}' is none of the models to talk to{did_you_mean(str(name), known)}: {listed}; "
                    "others are named by who runs the server, heedful serve --models NAME"
                )

    def path(self, name: str) -> str:
        """Where a model is; it may have been taken off the list since the project named it."""
        if (path := self._path(name)) is None:
            raise UserError(f"the model {name} is not here to talk to; tell your lead")
        return path

    def _path(self, name: str) -> str | None:
        return name if name in self.named else self._inside(name, MARKS)

    def _inside(self, name: str, marks: Sequence[str]) -> str | None:
        """The path of a folder in the workspace that holds one of these files."""
        if self.workspace is None or not name or os.path.isabs(name) or "\0" in name:
            return None
        root = self.workspace.resolve()
        folder = (root / name).resolve()  # links are followed, and must not lead out
        inside = folder.is_relative_to(root) and any((folder / mark).is_file() for mark in marks)
        return str(folder) if inside else None

    def _listed(self, *, scoring: bool) -> list[str]:
        """Folders by name, the newest first."""
        if self.workspace is None:
            return []
        folders = [(name, self.workspace / name) for name in self._folders(MARKS)]
        found = [(-_changed(path), name) for name, path in folders if _scores(path) is scoring]
        return [name for _, name in sorted(found)]

    def _folders(self, marks: Sequence[str]) -> Iterable[str]:
        if self.workspace is None:
            return
        for folder, below, files in os.walk(self.workspace):
            path = os.path.relpath(folder, self.workspace)
            depth = 0 if path == "." else path.count(os.sep) + 1
            below[:] = [d for d in below if depth < DEPTH and d not in SKIPPED and d[0] != "."]
            if path != "." and any(mark in files for mark in marks):
                yield Path(path).as_posix()


def _scores(folder: Path) -> bool:
    """Whether it is saved as a sequence classification, as reward models are."""
    whole, adapter = (_config(folder / mark) for mark in MARKS)
    named = whole.get("architectures") or ()
    return adapter.get("task_type") == "SEQ_CLS" or any(
        str(name).endswith("ForSequenceClassification") for name in named
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _changed(folder: Path) -> float:
    times = [path.stat().st_mtime for mark in MARKS if (path := folder / mark).is_file()]
    return max(times, default=0.0)
