"""What each rater's comparisons should count: fitted, written down with a version, read again.

The version is a hash of the comparisons that the fit was given and of the model's own name, so that two files of the
same version hold the same fit, whoever made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedful import exact
from heedful.data.columns import prompt_text
from heedful.errors import UserError
from heedful.raters.reliability import Collected, Estimate, fit
from heedful.types import Comparison

MODEL = "crowd-bt-2"  # another name whenever the same comparisons would be given other numbers


@dataclass(frozen=True)
class Weights:
    """`weight` by rater, 0 and above; `reliability` beside it where it was fitted here."""

    version: str
    weight: Mapping[str, float]
    reliability: Mapping[str, Estimate]
    comparisons: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `loaded` reads."""
        return {
            "version": self.version,
            "model": MODEL,
            "comparisons": self.comparisons,
            "reliability": {name: asdict(e) for name, e in self.reliability.items()},
            "weights": dict(self.weight),
        }


class Fingerprint:
    """The version of a fit, from its comparisons as they come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(MODEL.encode())

    def add(self, c: Comparison) -> None:
        """All that the fit reads of a comparison, and in which order."""
        said = [prompt_text(c.prompt), c.responses, c.ranking, c.rater, c.order_shown]
        self._hash.update(json.dumps(said).encode())

    @property
    def version(self) -> str:
        return self._hash.hexdigest()[:16]


def fitted_to(comparisons: Iterable[Comparison]) -> Weights:
    """`fitted` to all of them at once."""
    collected, fingerprint = Collected(), Fingerprint()
    for c in comparisons:
        collected.add(c)
        fingerprint.add(c)
    return fitted(collected, fingerprint.version)


def fitted(collected: Collected, version: str) -> Weights:
    """The weights of a fit of the model of raters. UserError where nothing has both a rater and an order."""
    pairs = collected.pairs()
    result = fit(pairs)
    return Weights(
        version,
        dict(zip(pairs.people, (round(w, 6) for w in result.weights), strict=True)),
        dict(zip(pairs.people, result.reliability, strict=True)),
        collected.comparisons,
    )


def loaded(file: Path) -> Weights:
    """What `heedful raters --out` or a run has written. UserError for a file that holds no weights."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from error
    weights = told.get("weights") if isinstance(told, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise UserError(
            f'{file} holds no weights: {{"weights": {{"ada": 0.9}}}} is expected, as `heedful raters --out` writes it'
        )
    for name, value in weights.items():
        exact.refuse(f"{file}: the weight of '{name}'", exact.number(value, 0), value)
    own = hashlib.sha256(json.dumps(sorted(weights.items())).encode()).hexdigest()[:16]
    spans = told.get("reliability", {})
    return Weights(
        str(told.get("version", own)),
        {name: float(value) for name, value in weights.items()},
        {name: Estimate(**span) for name, span in spans.items()},
        int(told.get("comparisons", 0)),
    )
