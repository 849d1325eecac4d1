"""What each judgment counts in the loss (`--weights`): a number a rater, fitted to the data or read, and one a row.

    raters = Raters(config.weights)                     # remembers who said what, while rows are read
    rows = parts_of(…, raters)                          # judgments that say whose they are
    trust = raters.settled(config.out, ranks)           # then the model of raters is fitted, or read
    trust(judged)                                       # `[G]`, for a batch

Nothing is deleted: a judgment of weight 0 is read, tokenised and counted like any other. Weights are divided by their
mean over the training judgments. So the loss keeps its scale, and one with weight w in a data set is one with w copies
of that row, up to the number of rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.configs.common import WEIGHTS, weights_file
from heedful.errors import UserError
from heedful.ranks import Ranks
from heedful.raters.reliability import Collected
from heedful.raters.weights import Fingerprint, Weights, fitted, loaded
from heedful.training.kept import NOBODY, Judgment
from heedful.types import Comparison, Demonstration, LabelledResponse, Rated

EQUAL, RATERS, COLUMN = WEIGHTS
FILE = "raters.json"  # in the run's folder
log = logging.getLogger("heedful")


@dataclass(frozen=True)
class Trust:
    """`by_rater` `[raters + 1]` by the number of a rater, the last is nobody's. `files` by name belong into the run's
    folder, `notes` into its record."""

    by_rater: Tensor
    files: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[Mapping[str, Any]] = ()

    def __call__(self, judged: Sequence[Judgment]) -> Tensor:
        """`[G]`: what each counts."""
        rows = torch.tensor([j.weight for j in judged])
        return rows * self.by_rater[torch.tensor([j.rater for j in judged])]

    def of_rows(self, judged: Sequence[Judgment]) -> Tensor:
        """`[B]`: the same beside each of their samples."""
        return self(judged).repeat_interleave(torch.tensor([len(j.samples) for j in judged]))


ALIKE = Trust(torch.ones(1))


class Raters:
    """Who said what of the rows as they are read, as far as `--weights` asks for it."""

    def __init__(self, weights: str, reads_comparisons: bool = True):
        self.way = weights
        file = weights_file(weights)
        self.file = None if file is None else loaded(file)
        if weights == RATERS and not reads_comparisons:
            raise UserError(
                "--weights raters is fitted to comparisons, and this loss reads responses one by one; give it the file "
                "of `heedful raters COMPARISONS --out FILE`"
            )
        self.number: dict[str, int] = {}
        self.total: dict[int, float] = {}  # row weights of the training judgments, by rater
        self.judgments = self.missing = 0  # in training; those without a rater, or without a weight
        self.collected, self.fingerprint = Collected(), Fingerprint()

    def signed(
        self,
        item: Comparison | Demonstration | LabelledResponse | Rated,
        judgments: Iterable[Judgment],
        *,
        learned: bool,
    ) -> list[Judgment]:
        """The judgments of an item with whose they are; `learned`: it is in the training part."""
        judgments = list(judgments)
        if self.way == EQUAL or isinstance(item, Demonstration):
            return judgments
        rater, weight = NOBODY, 1.0
        if self.way == COLUMN:
            known = item.weight is not None
            weight = item.weight if item.weight is not None else 1.0
        elif known := item.rater is not None:
            rater = self.number.setdefault(item.rater, len(self.number))
        if learned:
            self.judgments += len(judgments)
            self.missing += 0 if known else len(judgments)
            self.total[rater] = self.total.get(rater, 0.0) + weight * len(judgments)
            if self.way == RATERS and isinstance(item, Comparison):
                self.collected.add(item)
                self.fingerprint.add(item)
        return [replace(j, rater=rater, weight=weight) for j in judgments]

    def settled(self, out: Path, ranks: Ranks) -> Trust:
        """Fits, or reads what this run has fitted before, or the file; warns of what has no weight."""
        if self.way == EQUAL:
            return ALIKE
        weights = ranks.on_first(self._fitted, out) if self.way == RATERS else self.file
        known = weights.weight if weights else {}
        by_rater = torch.tensor([*(known.get(name, 1.0) for name in self.number), 1.0])
        total = sum(float(by_rater[rater]) * total for rater, total in self.total.items())
        if self.judgments and not total > 0:
            raise UserError(
                f"--weights {self.way}: every judgment would count 0, so there is nothing to learn from"
            )
        mean = total / self.judgments if self.judgments else 1.0
        files = {FILE: weights.as_json()} if weights else {}
        return Trust(by_rater / mean, files, [self._note(weights, mean)])

    def _fitted(self, out: Path) -> Weights:
        """A run that goes on has its own, of the very same comparisons."""
        if (out / FILE).exists() and (before := loaded(out / FILE)).version == self.version:
            return before
        try:
            return fitted(self.collected, self.version)
        except UserError as error:
            raise UserError(f"--weights raters: in the training part {error}") from None

    @property
    def version(self) -> str:
        return self.fingerprint.version

    def _note(self, weights: Weights | None, mean: float) -> dict[str, Any]:
        """What to record; who has no weight is told at once."""
        what = "weight" if self.way == COLUMN else "rater"
        if self.missing:
            log.warning(
                "--weights %s: %d of %d judgments have no %s and count 1",
                *(self.way, self.missing, self.judgments, what),
            )
        note: dict[str, Any] = {"weights": self.way, "mean": round(mean, 6)}
        if weights:
            own = [weights.weight[name] for name in self.number if name in weights.weight]
            if strangers := len(self.number) - len(own):
                log.warning(
                    "--weights %s: %d of %d raters have no weight there and count 1",
                    *(self.way, strangers, len(self.number)),
                )
            note |= {"version": weights.version, "raters": len(own), "silent": own.count(0.0)}
        return note | {"judgments": self.judgments, f"without_{what}": self.missing}


UNASKED = Raters(EQUAL)  # of what has no raters
