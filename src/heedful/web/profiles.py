"""What people seem to like, renewed from their answers: `heedful profile` as a process of its own, when somebody looks.

A project's lead chooses the folder of `heedful pluralism`; nothing is made in projects where none is chosen, and of
nobody who has deleted or written theirs. Nobody's is renewed before somebody opens the page that shows it.
"""

from __future__ import annotations

from pathlib import Path

from heedful.errors import UserError
from heedful.store.membership.profiles import version_of
from heedful.web import beside

FOLDER = "profiles"
FILE = "profiles.json"  # of heedful pluralism
NOTHING = beside.Last()


def version(workspace: Path | None, folder: str) -> str | None:
    """Of the profiles that a project's setting names; None where it names none, or they are not there any more."""
    if workspace is None or not folder:
        return None
    try:
        return version_of((workspace / folder / FILE).read_bytes())
    except OSError:
        return None


def are_there(workspace: Path | None, folder: str) -> bool:
    """Whether `version` would give one: nothing is read."""
    return workspace is not None and bool(folder) and (workspace / folder / FILE).is_file()


def last(workspace: Path, project: str, version: str) -> beside.Last:
    """The newest process that made profiles of this version."""
    return beside.last(workspace, FOLDER, f"{project}-{version}")


def begin(workspace: Path, project: str, name: str, folder: str) -> bool:
    """Make the profiles of all who have new answers; False where that is being done already."""
    key = version(workspace, folder)
    if key is None:
        raise UserError("no profiles are made in this project")
    words = ("profile", "--workspace", ".", "--project", name, "--profiles", f"{folder}/{FILE}")
    return beside.begin(workspace, FOLDER, f"{project}-{key}", words)
