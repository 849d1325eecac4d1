"""Where data comes from: files, or a workspace, whose database is opened only where one is meant."""

from __future__ import annotations

from typing import Literal, overload

from heedful.data.reading import share_of
from heedful.fields import Data

Split = Literal["all", "train", "held_out"]


@overload
def materialise(source: str, what: str, *, split: Split = "train", noun: str = "") -> str: ...
@overload
def materialise(source: Data, what: str, *, split: Split = "train", noun: str = "") -> Data: ...
def materialise(source: Data, what: str, *, split: Split = "train", noun: str = "") -> Data:
    """A source, or each of several, as a file: `db:` is the workspace here, `db:DIR#PROJECT` another, and
    `db:DIR#PROJECT#QUESTION` one question of its screens; anything else is what it was.

    The export of what is there now is written to the workspace's `exports/`, named by its content. `noun` is what the
    command calls that, where it says that there is none.
    """
    if not isinstance(source, str):
        return tuple(materialise(one, what, split=split, noun=noun) for one in source)
    name, share = share_of(source)
    if not name.startswith("db:"):
        return source
    from heedful.transfer.workspace import exported

    path = exported(name, what, split, noun=noun or what)
    return path if share == 1 else f"{path}@{share:g}"
