"""A policy's weights as vLLM takes them: what belongs to the policy alone, each tensor once, and files of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import rmtree

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from heedful.models.adapter_files import has_adapter, save_adapter
from heedful.models.forward import VALUE_HEAD
from heedful.models.save import BESIDE

APART = tuple(f"{name}." for name in (VALUE_HEAD, *BESIDE))  # what stands beside a policy


def each_once(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The policy's tensors: the learner's own, or of a sharded model one gathered after the other, in which all its
    ranks must take part."""
    own, seen = isinstance(weights, dict), set[object]()
    for name in weights:
        tensor = weights[name]
        place = (tensor.data_ptr(), tensor.shape) if own else name
        if not name.startswith(APART) and place not in seen:
            seen.add(place)
            yield name, tensor


def written(model: PreTrainedModel, place: Path, held: Mapping[str, Tensor]) -> Path:
    """Weights as files in a new folder, whole or absent: the adapter's, where the model has one."""
    if place.exists():  # another rank's
        return place
    aside = place.with_name(f"{place.name}.writing")
    rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    if has_adapter(model):
        save_adapter(model, aside, held)
    else:
        whole = {name: tensor.cpu().contiguous() for name, tensor in held.items()}
        save_file(whole, aside / "model.safetensors", metadata={"format": "pt"})
    aside.rename(place)
    return place


def forget(folder: Path, run: str, newest: Path) -> None:
    """Remove what a run has written of earlier versions."""
    for old in folder.glob(f"{run}-*"):
        if old != newest:
            rmtree(old, ignore_errors=True)
