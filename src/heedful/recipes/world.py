"""Write a world to files, so that every other command can read it as if it were the user's own data."""

from __future__ import annotations

from pathlib import Path

from heedful.configs.world import Config, refuse_nonsense
from heedful.worlds import get


def run(config: Config) -> Path:
    """Returns the folder, which then holds text, demonstrations, prompts and held_out (.jsonl)."""
    refuse_nonsense(config)
    world = get(config.name)
    sizes = {"documents": config.documents, "demonstrations": config.demonstrations}
    if config.name == "capitals":
        world.write(config.out, seed=config.seed, **sizes)
    elif config.name == "arithmetic":
        world.write(config.out, seed=config.seed, levels=config.levels, **sizes)
    else:
        world.write(config.out, source=config.source, seed=config.seed)
    return config.out
