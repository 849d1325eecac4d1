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
    takes = inspect.signature(write).parameters
    told = {f.name: getattr(config, f.name) for f in fields(config) if f.name in takes}
    write(**told)
    return config.out
