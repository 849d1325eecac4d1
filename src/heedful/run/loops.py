"""What a loop of several runs was begun with: the same command goes on with it, another one is refused until `--resume`
says that it is meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.data.files import write_json
from heedful.disk import disk_errors
from heedful.errors import UserError
from heedful.run.begun import what_changed
from heedful.run.settings import Habits, compared, identity

BEGUN, RECORD = "begun.json", "record.jsonl"
Say = Callable[[str], None]


def changed_since(
    out: Path, now: Mapping[str, Any], *, resume: bool, free: Sequence[str], data: Sequence[str]
) -> list[str]:
    """What is different since the loop in `out` was begun, in words; UserError where nobody has agreed to it.

    `now` is its `settings.identity`; `free` fields may differ, those of `data` may name other rows.
    """
    file = out / BEGUN
    if not file.exists():
        return []
    before = json.loads(file.read_text(encoding="utf-8"))
    difference = compared(before, now, free=free, data=data)
    refused = [*difference.refused, *difference.code]
    if refused and not resume:
        raise UserError(
            f"{out} was begun otherwise: {'; '.join(refused)}. Choose another out, give what it was begun with, "
            "or add --resume: what is done stays as it is, and what comes next is done in the new way"
        )
    return [*refused, *difference.told]


def goes_on(out: Path, now: Mapping[str, Any], changed: Sequence[str], r: int, say: Say) -> None:
    """Keep what the loop goes on with, and tell what is new about it from round `r` on."""
    if changed:
        say(f"going on in round {r}; since it was begun {'; '.join(changed)}")
        line = json.dumps({"round": r, "changed": list(changed)}, ensure_ascii=False)
        with disk_errors(out), open(out / RECORD, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    write_json(out / BEGUN, now)


def stage(out: Path, how: Any, say: Say) -> Any:
    """The config of one of its runs; begun anew if it was begun with settings that were changed on purpose since."""
    if not (out / RECORD).exists() or not how.out.is_dir():
        return how
    try:
        what_changed(how.out, Habits.of(how), identity(how))
    except UserError as error:
        say(f"{how.out} is begun anew: {error}")
        return replace(how, restart=True)
    return how
