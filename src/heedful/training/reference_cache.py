"""What a frozen reference says of responses, kept on disk under a hash of everything it depends on.

The same data is mostly trained on several times: another β, another loss, another seed. Files stand in
`$HEEDFUL_CACHE/reference` (default `~/.cache/heedful/reference`), 8 bytes a response and a checksum;
`HEEDFUL_CACHE=` keeps nothing. They may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from heedful import __version__
from heedful.caches import cache_folder
from heedful.disk import seal, unsealed
from heedful.fast.kernels import build
from heedful.models.sharded import is_sharded
from heedful.ranks import ALONE, Ranks
from heedful.types import Sample

log = logging.getLogger("heedful")


class Counted(Protocol):
    """Samples that can be counted, and gone through more than once."""

    def __iter__(self) -> Iterator[Sample]: ...

    def __len__(self) -> int: ...


def cached(
    model: PreTrainedModel,
    samples: Counted,
    compute: Callable[[], np.ndarray],
    how: object = None,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """`compute()`, one number a sample, or what it gave for the same weights and samples in an earlier run.

    `how` is what else moves the last bits. Several processes go by what the first finds: they compute together.
    """
    if cache_folder() is None:
        return compute()
    # Of a model that is shared out each rank has a part.
    weights = ranks.gather(_hash(model)) if is_sharded(model) else [ranks.on_first(_hash, model)]
    path, numbers = ranks.on_first(_looked_up, model, weights, samples, (how, ranks.world))
    if numbers is None:
        numbers = compute()
        ranks.on_first(_write, path, numbers)
    return numbers


def _looked_up(
    model: PreTrainedModel, weights: list[str], samples: Counted, how: object
) -> tuple[Path, np.ndarray | None]:
    folder = cache_folder()
    assert folder is not None
    path = folder / "reference" / f"{_digest(model, weights, samples, how)}.f64"
    content = unsealed(path)
    if content is None or len(content) != 8 * len(samples):
        return path, None  # not there, or damaged: it will be replaced
    log.info("the reference's log-probs are those of an earlier run: %s", path)
    return path, np.frombuffer(content, dtype="<f8")


def _write(path: Path, numbers: np.ndarray) -> None:
    try:
        seal(path, numbers.astype("<f8").tobytes())
    except OSError as error:
        log.info("the reference's log-probs are not kept: %s", error)


def _hash(model: PreTrainedModel) -> str:
    """Of the weights, or of this rank's part of them."""
    state, weights = hashlib.blake2b(digest_size=20), dict[str, Any](model.state_dict())
    for name, tensor in weights.items():
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        own = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        state.update(own.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def _digest(model: PreTrainedModel, weights: list[str], samples: Counted, how: object) -> str:
    """Of the weights' hashes, the tokens, and whatever moves the last bits of a sum."""
    state = hashlib.blake2b(digest_size=20)
    machine = (
        torch.__version__, torch.get_num_threads(), model.device.type, build.kind(), build.processor(),
    )  # fmt: skip
    state.update(f"{__version__} {machine} {weights} {how}".encode())
    state.update(model.config.to_json_string().encode())
    for name, adapter in getattr(model, "peft_config", {}).items():  # its scale is no weight
        state.update(f"{name} {adapter.to_dict()}".encode())
    for sample in samples:
        state.update(f"{len(sample.tokens)} ".encode())
        state.update(np.array(sample.tokens, dtype=np.int64).tobytes())
        state.update(bytes(sample.mask))
    return state.hexdigest()
