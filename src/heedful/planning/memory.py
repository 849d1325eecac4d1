"""Bytes on a rank, by part: of states by arithmetic, of a pass by what its operations keep (`planning.tracing`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heedful.models.quantised import BYTES as NF4
from heedful.planning.models import BYTES, Sizes
from heedful.planning.tracing import Trace

ADAM = 8  # bytes a trained parameter: two moments in float32
MASTER = GRADIENT = 4


@dataclass(frozen=True)
class Setting:
    """How a model is kept: its type, by so many ranks, in parts or whole."""

    dtype: str
    ranks: int = 1
    shard: bool = False
    every: bool = False  # gradients summed after each micro-batch
    offload: bool = False
    several: bool = True  # micro-batches in a step

    @property
    def parts(self) -> int:
        return self.ranks if self.shard else 1


def learner(of: Sizes, how: Setting, passed: Trace) -> dict[str, float]:
    """What a learner keeps of its model on each rank, and what passes gather, at the fullest moment of a step besides
    the activations of its fullest pass, `passed.bytes`."""
    frozen, width = of.total - of.trained, BYTES[how.dtype]
    if not how.shard:
        full = of.total - of.packed
        kept = {"weights": width * full + NF4 * of.packed, "optimiser (Adam)": ADAM * of.trained}
        if width < MASTER:
            kept["float32 weights"] = MASTER * of.trained
        return {**kept, "gradients": gradients(of, how, passed)}
    away = 0 if how.offload else 1
    return {
        "weights": away * (MASTER * of.trained + width * frozen) / how.parts,
        "optimiser (Adam)": away * ADAM * of.trained / how.parts,
        "gradients": gradients(of, how, passed),
        "gathered": gathered(of, how, passed),
    }


def gradients(of: Sizes, how: Setting, passed: Trace) -> float:
    """Of a step with one pass they come as its activations go, so that only what exceeds these counts. In the last of
    several passes those of the others are there: of the whole model, unless every pass sums them up."""
    if how.several:
        parts = how.parts if how.every else 1
        return GRADIENT * of.trained / parts * (not (how.offload and how.every and how.shard))
    return max(0.0, GRADIENT * of.trained / how.parts - passed.bytes)


def gathered(of: Sizes, how: Setting, passed: Trace) -> float:
    """What a rank has of others' parts: the root whole, and the fullest of three moments.

    At the output layer's turn its gradient. In the layers' backward passes, when fewer activations are left, a layer
    whole, the message that it came in and that of the next one besides, and a layer's gradients and the message that
    they go in as its activations go. At the end, when these have gone, the same of the root.
    """
    width, trains = BYTES[how.dtype], of.trained > 0
    layers = max(1.0, (of.total - of.root) / of.layer)
    head, made = trains * GRADIENT * of.head, trains * (width + GRADIENT)
    layer = 3 * width * of.layer + max(0.0, made * of.layer - passed.bytes / layers)
    gone = passed.bytes - (0 if how.several else GRADIENT * of.trained / how.parts)
    moments = (
        head,
        head + layer - (passed.bytes - passed.below),
        made * of.root - max(0.0, gone),
    )
    return width * of.root + max(moments)


def frozen(of: Sizes, how: Setting) -> float:
    """A model that is only asked."""
    return BYTES[how.dtype] * of.total / how.parts


def cache(of: Sizes, dtype: str, rows: int, length: int) -> float:
    """Keys and values of so many rows of so many tokens."""
    return of.cache * BYTES[dtype] / 4 * rows * length


def total(parts: Mapping[str, float]) -> float:
    return sum(parts.values())
