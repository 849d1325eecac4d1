"""Checks of how the model is run: each way was tried on it against plain `transformers` when it was loaded."""

from __future__ import annotations

from heedful.doctor.context import Context
from heedful.doctor.finding import Finding, passed, warned
from heedful.engine.trial import way_of
from heedful.models import backend

REMEDY = "nothing is wrong: the faster ways would give other numbers than transformers"
TRAINED = {
    backend.Llama: "on packed batches, layer by layer",
    backend.Packed: "on packed batches",
    backend.Plain: "on padded batches",
}
SAMPLED = {
    "prompt by prompt": "prompt by prompt, more slowly: rows of unlike lengths cannot share a batch",
    "row by row": "row by row, slowly: rows cannot share a batch",
    "no cache": "without a cache, slowly: with it the numbers are others",
}


def training(context: Context) -> Finding:
    """Log-probs for training are computed in batches."""
    kind = type(backend.backend_of(context.model))
    if kind not in TRAINED:
        return warned("log-probs are computed row by row, slowly: padding changes them", REMEDY)
    return passed(f"log-probs are computed {TRAINED[kind]}")


def sampling(context: Context) -> Finding:
    """Rows of any lengths are sampled from in one batch."""
    way = way_of(context.model)
    if way in SAMPLED:
        return warned(f"the model is sampled from {SAMPLED[way]}", REMEDY)
    return passed("rows of any lengths are sampled from together")
