"""What `heedful check` has seen of a workspace, kept beside the database and not in it: whoever changes the one ought
to have to change the other, too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heedful.data.files import write_json
from heedful.errors import UserError
from heedful.store.database.audit import START, Head
from heedful.store.exports import layout
from heedful.store.exports.books import Ledger

REMEMBERED = "checked.json"
FORMAT = 1


@dataclass(frozen=True)
class Checked:
    """Where the audit log ended, whose hash stands for all before it, and the books of each project by its id."""

    audit: Head = START
    projects: dict[str, Ledger] = field(default_factory=dict)


def remembered(workspace: Path) -> Checked:
    """What was seen last; nothing where that was never, or by another version."""
    file = workspace / REMEMBERED
    try:
        seen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if seen["format"] != [FORMAT, layout.SCHEMA]:
            return Checked()
        projects = {key: Ledger(**books) for key, books in seen["projects"].items()}
        return Checked(Head(**seen["audit"]), projects)
    except FileNotFoundError:
        return Checked()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); `heedful check --all` does without"
        ) from None


def remember(workspace: Path, seen: Checked) -> None:
    """Keep it for the next time."""
    write_json(workspace / REMEMBERED, {"format": [FORMAT, layout.SCHEMA], **asdict(seen)})
