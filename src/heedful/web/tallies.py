"""What has been counted of each project: kept for the next look, and in the workspace for the next start."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from sqlalchemy import Connection

from heedful.data.files import write_json
from heedful.errors import UserError
from heedful.store.lead.tally import Tally, tally

FILE = "counted.json"
FORMAT = 1
OFTEN = 1000  # events between two writes
log = logging.getLogger("heedful")


class Tallies:
    """Callable as `store.lead.tally.tally` without what is known. Whatever it remembers is used only where the audit
    log goes on from it: a file of another database, or one that cannot be read, costs a count and nothing else."""

    def __init__(self, workspace: Path | None):
        self._file = workspace and workspace / FILE
        self._known = _read(self._file) if self._file else {}
        self._written = {key: one.audit.seq for key, one in self._known.items()}
        self._writing = threading.Lock()

    def __call__(self, connection: Connection, project: str) -> Tally:
        before = self._known.get(project)
        found = tally(connection, project, before)
        if before is None or found.audit.seq != before.audit.seq:
            self._known[project] = found
            if abs(found.audit.seq - self._written.get(project, -OFTEN)) >= OFTEN:
                self._write()
        return found

    def _write(self) -> None:
        """One at a time; whoever comes meanwhile leaves it."""
        if self._file is None or not self._writing.acquire(blocking=False):
            return
        try:
            known = dict(self._known)
            projects = {key: one.as_json() for key, one in known.items()}
            write_json(self._file, {"format": FORMAT, "projects": projects})
            self._written = {key: one.audit.seq for key, one in known.items()}
        except (UserError, OSError) as error:  # a full disk, a workspace that can only be read
            log.warning("%s could not be written: %s", self._file, error)
        finally:
            self._writing.release()


def _read(file: Path) -> dict[str, Tally]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            return {}
        return {key: Tally.from_json(one) for key, one in value["projects"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return {}
