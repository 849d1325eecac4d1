"""A learner's tensors in files that belong to no number of ranks: each writes its parts, and any number reads them.

PyTorch's distributed checkpoint (DCP) with safetensors as its files, so that nothing is unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.errors import UserError
from heedful.ranks import together

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam


def tensors_of(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, Any]:
    """Weights and Adam's moments by name, as they are here; moments only of what has been moved."""
    found = {f"weights.{name}": p.detach() for name, p in trained.items()}
    for name, p in trained.items():
        found |= {f"{m}.{name}": optimizer.state[p][m] for m in MOMENTS if p in optimizer.state}
    return found


def moved(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, float]:
    """How often Adam has moved each weight, by name."""
    state = optimizer.state
    return {name: float(state[p]["step"]) for name, p in trained.items() if p in state}


def refuse_another(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """UserError unless names and shapes are the same."""
    if {n: tuple(x.shape) for n, x in saved.items()} != {
        n: tuple(x.shape) for n, x in wanted.items()
    }:
        raise UserError("the saved state belongs to a model with other weights than this one")


def save(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Every rank's parts into the folder, which all of them see; all must call."""
    import torch.distributed.checkpoint as dcp

    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with together():
        dcp.save(dict(tensors), storage_writer=writer)


@torch.no_grad()
def load(
    folder: Path,
    optimizer: torch.optim.Optimizer,
    trained: Mapping[str, Tensor],
    steps: Mapping[str, float],
    *,
    alone: bool,
) -> None:
    """Weights and moments from what `save` wrote, by any number of ranks; `steps` is what `moved` told. All must call,
    and a process `alone` is all. UserError if that was another model."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    for name, p in trained.items():
        if name in steps:
            moments = {m: torch.zeros_like(p) for m in MOMENTS}
            optimizer.state[p] = {"step": torch.tensor(steps[name]), **moments}
    wanted: dict[str, Any] = tensors_of(optimizer, trained)
    reader = dcp.HuggingFaceStorageReader(str(folder))
    known: Any = reader.read_metadata().state_dict_metadata
    refuse_another(
        {name: torch.empty(about.size, device="meta") for name, about in known.items()}, wanted
    )
    try:
        with together(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            dcp.load(wanted, storage_reader=reader, no_dist=alone)
    except CheckpointException as error:
        raise UserError(f"the saved state in {folder} cannot be read: {error}") from error
