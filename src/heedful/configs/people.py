"""What `heedful people` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.errors import UserError
from heedful.fields import POSITIONAL

Action = Literal[
    "list", "show", "reset", "pause", "resume", "end", "join", "leave", "withdraw", "restore"
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The accounts of a workspace, at the command line: for whoever runs the server and cannot sign in."""

    action: Annotated[Action, POSITIONAL] = "list"
    """list: everybody; of one person, show: sessions and API tokens; reset: a link that sets a new password; pause:
    stop everything; resume: let them go on; end: end every session and API token; join and leave: a project with
    --project, or a group with --group, which is made if there is none of this name; withdraw: nothing that they said in
    a --project is exported any more, and it is told where such answers still are; restore: it is again, unless they
    have withdrawn it themselves."""
    name: Annotated[str | None, POSITIONAL] = None
    """A login or a pseudonym."""
    project: str | None = None
    """The project that somebody joins or leaves, or from whose exports they are withdrawn."""
    group: str | None = None
    """The group that somebody joins or leaves."""
    role: Literal["rater", "reviewer", "lead"] = "rater"
    """What who joins a project is there."""
    workspace: Path = Path(".")
    """The workspace's folder."""
    url: str = "http://127.0.0.1:8765"
    """The address that people type, for links."""


def refuse_nonsense(config: Config) -> None:
    """All but the list is about one person."""
    if (config.name is None) != (config.action == "list"):
        raise UserError(
            "heedful people list names nobody"
            if config.action == "list"
            else f"heedful people {config.action} NAME: give a login or a pseudonym"
        )
    if config.action in ("withdraw", "restore"):
        if not config.project or config.group:
            raise UserError(f"heedful people {config.action} NAME --project PROJECT: say which one")
        return
    moves, both = config.action in ("join", "leave"), config.project and config.group
    if moves != bool(config.project or config.group) or both:
        raise UserError(
            "--project or --group, one of them, is for join and leave; --project for withdraw and restore, too"
        )
    if config.role != "rater" and not (config.action == "join" and config.project):
        raise UserError("--role is for heedful people join NAME --project PROJECT")
