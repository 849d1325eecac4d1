"""What `heedful profile` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heedful.configs.common import Reading


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Somebody's few answers → the sentence that a policy reads before their prompts (--context)."""

    reward: str
    """The personal reward model that the profiles are of."""
    profiles: Path
    """profiles.json of heedful pluralism; its sentences may have been edited."""
    data: str
    """Comparisons by one person; none at all, an empty file, gives the largest group's."""
    out: Path
    """The text file for --context."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
