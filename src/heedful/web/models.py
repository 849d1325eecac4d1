"""Which models people may talk to: a list, since a model is a folder that is read, or a name that is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from heedful.errors import UserError, did_you_mean

DEPTH = 6  # folders below the workspace
SKIPPED = ("checkpoints", "tensorboard")  # which may be many; they can be named all the same
MARKS = ("config.json", "adapter_config.json")  # of a whole model, of an adapter


@dataclass(frozen=True)
class Models:
    """The models in the workspace's folders, and those that whoever runs the server has named."""

    workspace: Path | None = None
    named: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All of them, the named ones first."""
        return [*self.named, *sorted(self._folders())]

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
        if name in self.named:
            return name
        if self.workspace is None or not name or os.path.isabs(name) or "\0" in name:
            return None
        root = self.workspace.resolve()
        folder = (root / name).resolve()  # links are followed, and must not lead out
        inside = folder.is_relative_to(root) and any((folder / mark).is_file() for mark in MARKS)
        return str(folder) if inside else None

    def _folders(self) -> Iterable[str]:
        if self.workspace is None:
            return
        for folder, below, files in os.walk(self.workspace):
            path = os.path.relpath(folder, self.workspace)
            depth = 0 if path == "." else path.count(os.sep) + 1
            below[:] = [d for d in below if depth < DEPTH and d not in SKIPPED and d[0] != "."]
            if path != "." and any(mark in files for mark in MARKS):
                yield Path(path).as_posix()
