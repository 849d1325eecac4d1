"""What `heedful new` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.errors import UserError
from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write a template of something of one's own, with a test that passes."""

    kind: Annotated[Literal["env"], POSITIONAL]
    """env: an environment."""
    name: Annotated[str, POSITIONAL]
    """What it is called: a word that Python could have as a name."""
    out: Path = Path()
    """The folder."""


def refuse_nonsense(config: Config) -> None:
    """A name that no module can have, or another one has."""
    import keyword
    import sys

    if not config.name.isidentifier() or keyword.iskeyword(config.name):
        raise UserError(
            f"'{config.name}' is no name of a Python module; letters, digits and _ make one"
        )
    if config.name in sys.stdlib_module_names:
        raise UserError(f"'{config.name}' is a module of Python's own; choose another name")
