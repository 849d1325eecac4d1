"""What `iterate` was begun with: the same command goes on with it, another one is refused until `--resume` says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from heedful.configs.iterate import Config
from heedful.data.files import write_json
from heedful.errors import UserError
from heedful.recipes.iterate_asking import say
from heedful.run.begun import what_changed
from heedful.run.settings import Habits, compared, identity

BEGUN, RECORD = "begun.json", "record.jsonl"
# When to stop, what is waited for, and where things are: these may differ whenever it goes on.
FREE = (
    "rounds", "answers", "wait", "poll_seconds", "workspace", "quiet", "device",
)  # fmt: skip
DATA = ("prompts", "held_out", "keep")  # rows may be added and mended
INPUTS = (*DATA, "model", "raters", "scorer")  # may name files


def identity_of(config: Config) -> dict[str, Any]:
    """All that decides what comes of the rounds."""
    return identity(config, INPUTS)


def changes(config: Config, now: Mapping[str, Any]) -> list[str]:
    """What is different since `iterate` was begun in this folder, in words; UserError where nobody has agreed to it."""
    file = config.out / BEGUN
    if not file.exists():
        return []
    before = json.loads(file.read_text(encoding="utf-8"))
    difference = compared(before, now, free=FREE, data=DATA)
    refused = [*difference.refused, *difference.code]
    if refused and not config.resume:
        raise UserError(
            f"{config.out} was begun otherwise: {'; '.join(refused)}. Choose another out, give what it was begun with, "
            "or add --resume: what is done stays as it is, and what comes next is done in the new way"
        )
    return [*refused, *difference.told]


def write(config: Config, now: Mapping[str, Any], changed: Sequence[str], r: int) -> None:
    """Keep what it goes on with, and tell what is new about it from round `r` on."""
    if changed:
        say(f"going on in round {r}; since it was begun {'; '.join(changed)}")
        with open(config.out / RECORD, "a", encoding="utf-8") as file:
            file.write(
                json.dumps({"round": r, "changed": list(changed)}, ensure_ascii=False) + "\n"
            )
    write_json(config.out / BEGUN, now)


def stage(config: Config, how: Any) -> Any:
    """A stage's config; begun anew if it was begun with settings that have been changed on purpose since."""
    if not (config.out / RECORD).exists() or not how.out.is_dir():
        return how
    try:
        what_changed(how.out, Habits.of(how), identity(how))
    except UserError as error:
        say(f"{how.out} is begun anew: {error}")
        return replace(how, restart=True)
    return how
