"""Write a world to files, so that every other command can read it as if it were the user's own data."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

from heedful.configs.world import Config, refuse_nonsense
from heedful.worlds import get


def run(config: Config) -> Path:
    """Returns the folder, which then holds text, demonstrations, prompts and held_out (.jsonl)."""
    refuse_nonsense(config)
    write = get(config.name).write
    _folder, *takes = inspect.signature(write).parameters.values()
    names, takes_all = {p.name for p in takes}, any(p.kind is p.VAR_KEYWORD for p in takes)
    options = {f.name: getattr(config, f.name) for f in fields(config)}
    del options["name"], options["out"]
    write(config.out, **{k: v for k, v in options.items() if takes_all or k in names})
    return config.out
