"""Where data comes from: a file, or a workspace, whose database is opened only where one is meant."""

from __future__ import annotations

from typing import Literal


def materialise(
    source: str, what: str, *, split: Literal["all", "train", "held_out"] = "train"
) -> str:
    """A source as a file: `db:` is the workspace here, `db:DIR#PROJECT` another; anything else is what it was.

    The export of what is there now is written to the workspace's `exports/`, named by its content.
    """
    if not source.startswith("db:"):
        return source
    from heedful.transfer.workspace import exported

    return exported(source, what, split)
