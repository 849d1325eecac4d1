"""Where heedful keeps what it could make again: `$HEEDFUL_CACHE`, by default `~/.cache/heedful`."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Where to keep things; None where nothing shall be kept (`HEEDFUL_CACHE=`)."""
    named = os.environ.get("HEEDFUL_CACHE")
    if named is not None:
        return Path(named) if named else None
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "heedful"
