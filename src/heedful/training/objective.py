"""`--loss dpo+0.2*preferred_ft --loss-options …` → one function of log-probs, checked before anything is loaded.

A loss is what is registered as one, or the user's `package.module:function`. The type of its first parameter says
what it reads.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from heedful import registry
from heedful.configs.preference import loss_names, refuse_beta
from heedful.errors import UserError, did_you_mean
from heedful.types import Batch, LabelledLogps, PairLogps, RankedLogps

# What a loss reads → the parameters that it takes by position.
READS = {
    "PairLogps": ("x", "p", "beta"),
    "LabelledLogps": ("x", "beta"),
    "RankedLogps": ("x", "beta"),
}
WHOLE_BATCH = ("kl", "delta")  # columns of `types.Labelled`


@dataclass(frozen=True)
class Term:
    """One loss of a sum, with its options filled in."""

    name: str
    weight: float
    function: Callable[..., Tensor]
    options: dict[str, float]
    whole_batch: tuple[str, ...]


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses that read the same thing."""

    terms: tuple[Term, ...]
    reads: str
    beta: float

    @property
    def needs_reference(self) -> bool:
        """Whether any of the losses reads the reference's log-probs."""
        return not all(getattr(t.function, "reference_free", False) for t in self.terms)

    @property
    def reads_beta(self) -> bool:
        """Whether β changes the sum; tried on made-up numbers, as a loss may take it and not use it."""
        x, made_up_batch = _made_up(self.reads)
        return not torch.equal(
            self(x, made_up_batch), replace(self, beta=0.7 * self.beta)(x, made_up_batch)
        )

    @property
    def length_normalised(self) -> bool:
        """Whether the first loss, whose implicit reward the metrics show, averages over tokens."""
        return getattr(self.terms[0].function, "length_normalised", False)

    @property
    def whole_batch(self) -> set[str]:
        """What must be known of the whole batch before it is cut: `kl`, `delta`."""
        return {name for t in self.terms for name in t.whole_batch}

    def __call__(self, x: Any, batch: Batch) -> Tensor:
        """The loss per pair, row or prompt; `batch` has p or what the losses read of the whole batch."""
        place: Any = batch
        given = (x, place.p[0::2], self.beta) if self.reads == "PairLogps" else (x, self.beta)
        values = []
        for t in self.terms:
            whole = {name: getattr(place, name) for name in t.whole_batch}
            values.append(t.weight * t.function(*given, **whole, **t.options))
        return torch.stack(values).sum(0)


def find_objective(spec: str, options: Sequence[str] = (), beta: float = 0.1) -> Objective:
    """The sum that `spec` names, its options filled in and tried on made-up numbers."""
    loss_names(spec)  # refuses what is unknown
    values = _values(options)
    terms = tuple(_term(part.strip(), values) for part in spec.split("+"))
    known = sorted({name for t in terms for name in _options(t.function)})
    for name in values:
        if name not in known:
            takes = ", ".join(known) or "no options"
            raise UserError(
                f"--loss-options {name}: {spec} takes {takes}{did_you_mean(name, known)}"
            )
    reads = {t.name: _reads(t.function) for t in terms}
    if len(set(reads.values())) > 1:
        said = ", ".join(f"{name} reads {kind}" for name, kind in reads.items())
        raise UserError(f"--loss {spec}: only losses that read the same can be summed; {said}")
    refuse_beta(beta)
    objective = Objective(terms, reads[terms[0].name], beta)
    _try(objective, spec)
    return objective


def _term(part: str, values: dict[str, float]) -> Term:
    factor, star, name = part.rpartition("*")
    name = name.strip()
    try:
        weight = float(factor) if star else 1.0
    except ValueError:
        raise UserError(f"--loss {part}: '{factor}' is no number; write 0.2*{name}") from None
    if not math.isfinite(weight):
        raise UserError(f"--loss {part}: the weight must be finite")
    function = registry.load("loss", name, "--loss")
    given = READS[_reads(function)]
    extra = inspect.signature(function).parameters.values()
    whole = tuple(q.name for q in extra if q.kind == q.KEYWORD_ONLY and q.default is q.empty)
    try:
        inspect.signature(function).bind(*given, **dict.fromkeys(whole))
    except TypeError as error:
        raise UserError(f"--loss {name} is called with ({', '.join(given)}), but {error}") from None
    if unknown := [w for w in whole if w not in WHOLE_BATCH or "p" in given]:
        raise UserError(f"--loss {name}: give its parameter {unknown[0]} a default")
    taken = {n: v for n, v in values.items() if n in _options(function)}
    return Term(name, weight, function, taken, whole)


def _reads(function: Callable) -> str:
    """The name of its first parameter's type; what says nothing reads pairs."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    kind = first.annotation if first else ""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    name = name.rpartition(".")[2]
    return name if name in READS else "PairLogps"


def _options(function: Callable) -> list[str]:
    """Parameters that have a default and that nothing else gives."""
    parameters = list(inspect.signature(function).parameters.values())
    rest = parameters[len(READS[_reads(function)]) :]
    return [q.name for q in rest if q.default is not q.empty and q.kind != q.VAR_KEYWORD]


def _values(options: Sequence[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for option in options:
        name, equals, value = option.partition("=")
        try:
            number = float(value) if equals else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"--loss-options {option}: expected name=number, as in gamma=0.5")
        values[name.strip().replace("-", "_")] = number
    return values


def _try(objective: Objective, spec: str) -> None:
    """One call on two rows, so that a wrong option or a wrong shape is told before a model is loaded."""
    rows, made_up_batch = _made_up(objective.reads)
    losses = objective(rows, made_up_batch)
    if losses.shape != (2,):
        raise UserError(
            f"--loss {spec} must give one number a pair (or row, or prompt), unreduced: "
            f"expected the shape [2], got {list(losses.shape)}"
        )


def _made_up(reads: str) -> tuple[Any, Any]:
    """Two rows of what a loss reads, and their batch."""

    class Made:
        p = torch.full((4,), 0.75)  # not 1, where a hinge may be flat; not ½, where some losses are
        kl = delta = torch.zeros(2)

    pairs = [-torch.arange(1.0, 3.0) - shift for shift in (0.0, 0.5, 0.25, 0.5)]
    lengths = torch.tensor([2, 3])
    table = torch.tensor([[-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]])
    rows = {
        "PairLogps": PairLogps(*pairs, chosen_lengths=lengths, rejected_lengths=lengths),
        "LabelledLogps": LabelledLogps(pairs[0], pairs[1], lengths, torch.tensor([True, False])),
        "RankedLogps": RankedLogps(
            table, 0.5 * table, (-2 * table).long(), torch.tensor([[1, 2, 3], [1, 1, 0]])
        ),
    }
    return rows[reads], Made()
