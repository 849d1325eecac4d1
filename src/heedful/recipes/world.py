"""Write a world to files, so that every other command can read it as if it were the user's own data."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

from heedful.configs.world import Config, refuse_nonsense
from heedful.errors import UserError
from heedful.worlds import get


def run(config: Config) -> Path:
    """Returns the folder, which then holds text, demonstrations, prompts and held_out (.jsonl)."""
    refuse_nonsense(config)
    write = get(config.name).write
    _folder, *takes = inspect.signature(write).parameters.values()
    names, takes_all = {p.name for p in takes}, any(p.kind is p.VAR_KEYWORD for p in takes)
    options = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name in ("name", "out"):
            continue
        if takes_all or f.name in names:
            options[f.name] = value
        elif value != f.default:
            raise UserError(
                f"--{f.name} would have no effect, because the world {config.name} takes none; leave it out"
            )
    write(config.out, **options)
    return config.out
