"""Commands within a reproduction, gone on with after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def trained(command: str, out: Path, seed: int, **fields: Any) -> str:
    """The folder of a run of `train COMMAND`, which is made once, quietly."""
    from heedful.api import run as heedful
    from heedful.run import finished

    if not finished(out):
        common = {"quiet": True, "report_to": "none", "seed": seed}
        heedful(f"train {command}", out=out, **common, **fields)
    return str(out)
