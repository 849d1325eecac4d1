"""Commands within a reproduction, gone on with after an interruption; the film reviews that some of them read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REVIEWS = "hf:cornell-movie-review-data/rotten_tomatoes"


def trained(command: str, out: Path, seed: int, **fields: Any) -> str:
    """The folder of a run of `train COMMAND`, which is made once, quietly."""
    from heedful.api import run as heedful
    from heedful.run import finished

    if not finished(out):
        common = {"quiet": True, "report_to": "none", "seed": seed}
        heedful(f"train {command}", out=out, **common, **fields)
    return str(out)


def measured(
    seed: int, folder: Path, model: str, asked: Mapping[str, Any], **fields: Any
) -> dict[str, Any]:
    """evaluation.json of a model in `eval/` of the folder, beside others of it by what else is asked in `fields`."""
    from heedful.api import run as heedful

    name = f"{Path(model).name}{', at ' * bool(fields)}{'-'.join(fields)}"
    return heedful(
        "evaluate", model=model, out=folder / "eval" / name, seed=1000 + seed, quiet=True, **asked, **fields
    )  # fmt: skip


def film_reviews(folder: Path) -> dict[str, Path]:
    """The files of the world `reviews` in a folder, from the hub or the file that HEEDFUL_REVIEWS names."""
    from heedful.api import run as heedful

    names = ("text", "demonstrations", "prompts", "held_out")
    files = {name: folder / f"{name}.jsonl" for name in names}
    if not all(file.exists() for file in files.values()):
        heedful(
            "world", name="reviews", source=os.environ.get("HEEDFUL_REVIEWS", REVIEWS), out=folder
        )
    return files
