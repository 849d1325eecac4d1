"""Seeds → means with intervals → a verdict on each criterion: what NAME.json holds."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful import __version__
from heedful.errors import UserError
from heedful.reproductions import SEEDS, Reproduction

PACKAGED = Path(__file__).with_name("results")  # where an installed package has them
COMMITTED = Path(__file__).parents[3] / "docs" / "results" / "reproductions"


def committed(name: str) -> dict[str, Any] | None:
    """The result that came with this version of heedful, if there is one."""
    for folder in (PACKAGED, COMMITTED):
        if (file := folder / f"{name}.json").exists():
            return read(file)
    return None


def read(file: Path) -> dict[str, Any]:
    """A result; UserError where the file holds none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no result of heedful reproduce: {error}") from error


def verdict_of(reproduction: Reproduction, result: dict[str, Any] | None) -> str:
    """pass, fail or preliminary; `not run`, also where the criteria were changed since."""
    if result is None:
        return "not run"
    kept = [
        {k: c[k] for k in asdict(now)}
        for c, now in zip(result["criteria"], reproduction.criteria, strict=False)
    ]
    if kept != [asdict(c) for c in reproduction.criteria] or len(result["criteria"]) != len(kept):
        return "not run (its criteria are others)"
    return result["verdict"]


def fingerprint(reproduction: Reproduction, quick: bool) -> str:
    """Changes with the reproduction's file, heedful's version and how thorough it is: a seed by another is not kept."""
    text = Path(inspect.getfile(reproduction.run)).read_bytes()
    return hashlib.sha256(text + f"{__version__} {quick}".encode()).hexdigest()[:16]


def result_of(
    reproduction: Reproduction,
    seeds: Sequence[dict[str, Any]],
    *,
    quick: bool,
    about: dict[str, Any],
) -> dict[str, Any]:
    """What NAME.json holds. `seeds` are the results of `run`, each with its seed and seconds."""
    values = summaries(seeds)
    criteria = []
    for criterion in reproduction.criteria:
        summary = values.get(criterion.value)
        number = criterion.measured(summary) if summary else math.nan
        holds = criterion.holds(number)
        shown = number if math.isfinite(number) else None
        criteria.append({**asdict(criterion), "measured": shown, "pass": holds})
    verdict = "pass" if all(c["pass"] for c in criteria) else "fail"
    figure = reproduction.figure
    return {
        "name": reproduction.name,
        "claim": reproduction.claim,
        "source": reproduction.source,
        "what": reproduction.what,
        "frozen": reproduction.frozen,
        "criteria": criteria,
        "verdict": "preliminary" if quick or len(seeds) < SEEDS else verdict,
        "values": values,
        "figure": asdict(figure(seeds)) if figure else None,
        "seeds": list(seeds),
        "command": reproduction.command,
        "version": __version__,
        **about,
    }


def summaries(seeds: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name → the mean over seeds, its 95 % bootstrap interval and each seed's number, of what every seed measured."""
    from heedful.evals.statistics import bootstrap_ci

    found = {}
    for name in seeds[0]:
        numbers = [s[name] for s in seeds if isinstance(s.get(name), int | float)]
        if len(numbers) == len(seeds) and name not in ("seed", "seconds", "processor_seconds"):
            numbers = [float(n) for n in numbers]
            ci = bootstrap_ci(numbers) if len(numbers) > 1 else None
            found[name] = {"mean": fmean(numbers), "ci": ci, "seeds": numbers}
    return found
