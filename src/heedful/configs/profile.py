"""What `heedful profile` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.errors import UserError
from heedful.fields import DATA, Data


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Somebody's few answers → the sentence that a policy reads before their prompts (--context); or a sentence for
    everybody who has answered in a workspace, where they see it, change it and delete it."""

    reward: str | None = None
    """The personal reward model that the profiles are of. Default: the one that pluralism.json beside them names."""
    profiles: Path
    """profiles.json of heedful pluralism; its sentences may have been edited."""
    data: Annotated[Data, DATA] = ""
    """Comparisons by one person; none at all, an empty file, gives the largest group's."""
    out: Path | None = None
    """The text file for --context."""
    workspace: Path | None = None
    """In place of --data and --out: everybody who has compared enough in it has a profile under Your answers, made
    anew where they have answered since or the profiles are others."""
    project: str | None = None
    """The project in it; needed where there are several."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""


def refuse_nonsense(config: Config) -> None:
    """Of one person, or of everybody in a workspace."""
    one = bool(config.data) + (config.out is not None)
    if config.workspace is None and one < 2:
        raise UserError("heedful profile takes --data and --out, or --workspace")
    if config.workspace is not None and one:
        raise UserError(
            "--workspace has its own answers and keeps the profiles: leave --data and --out out"
        )
    if config.workspace is None and config.project is not None:
        raise UserError("--project is for --workspace")
