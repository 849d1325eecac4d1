"""Models whose weights are shared out among the ranks (FSDP2): each keeps a part of every tensor, and gathers a layer
when it is its turn.

Log-probs read the output layer's weight outside any module's `forward`, so every pass goes through one method of the
whole model (`ask`), around which FSDP gathers what is not in a layer. All ranks must make the same passes, in the same
order: each is a message to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.errors import UserError
from heedful.fast import process
from heedful.fast.layers import layers_of
from heedful.models.adapter_files import of_adapter
from heedful.models.backend import Rows, backend_of
from heedful.models.forward import scalar_head_name
from heedful.models.load import DTYPES, LATER
from heedful.models.save import KEPT, saved_weights
from heedful.models.scores import at_last_token, scores_of
from heedful.ranks import Ranks, together
from heedful.types import Batch, Outputs

METHOD = "_heedful_pass"  # of a sharded model: the one that FSDP takes for a forward
PLACE = "_heedful_place"  # its device in a pass, whose weights may wait in the CPU's memory


def shard(
    model: PreTrainedModel,
    ranks: Ranks,
    *,
    device: torch.device,
    dtype: str = "float32",
    offload: bool = False,
) -> PreTrainedModel:
    """The model with its weights shared out, in place. What is trained is kept in float32, whatever passes are made in.

    Layers and root are sharded along the first dimension of each tensor. `offload` keeps shards, gradients and the
    optimiser in the CPU's memory. UserError for a model that ranks cannot run alike.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        FSDPModule,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    # How a model is run is tried on the whole one: afterwards a pass is a matter of all ranks.
    if isinstance(backend_of(model), Rows):
        raise UserError(
            f"--shard: {type(model).__name__} is run row by row, so that ranks would not make the same passes; "
            "leave --shard out"
        )
    if scalar_head_name(model) and scores_of(model) is not at_last_token:
        raise UserError(
            f"--shard: {type(model).__name__} is asked for its scores as a whole; leave --shard out"
        )
    setattr(model, KEPT, DTYPES[dtype])
    trained = any(p.requires_grad for p in model.parameters())
    low = dtype != "float32"
    how: Any = {
        "mesh": init_device_mesh(device.type, (ranks.world,)),
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=DTYPES[dtype] if low else None,
            reduce_dtype=torch.float32 if low and trained else None,
        ),
        "offload_policy": CPUOffloadPolicy(device.type == "cuda") if offload else OffloadPolicy(),
    }
    for module in (*layers_of(model), model):
        fully_shard(module, **how)
        # Now, so that of nothing but its part a rank has another type than that of the files.
        _settle_parts(model, module)
        process.give_back()
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The learner has divided by the count of the whole batch: what is left to do is a sum.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    # A head that one rank's rows have no use for has a gradient of zeros there.
    root: Any = model
    root.set_reduce_scatter_unused_params(True)
    setattr(model, PLACE, device)
    setattr(model, METHOD, MethodType(_pass, model))
    register_fsdp_forward_method(model, METHOD)
    return model


@torch.no_grad()
def _settle_parts(model: PreTrainedModel, module: torch.nn.Module) -> None:
    """`load.settle` of a module that is shared out, and float32 for what is trained."""
    dtype = getattr(model, LATER, None)
    beside = {id(p) for name, p in module.named_parameters() if of_adapter(name)}

    def settled(x: Tensor) -> Tensor:
        if not isinstance(x, torch.nn.Parameter):  # a buffer
            return x
        of_run = x if dtype is None or id(x) in beside else x.to(dtype)
        return of_run.float() if x.requires_grad else of_run

    module._apply(settled)  # as `Module.to` does, but for the choice; FSDP takes it up


def _pass(
    model: PreTrainedModel, forward: Callable[[Any, Batch], Outputs], batch: Batch
) -> dict[str, Tensor]:
    # A plain dict: FSDP looks for tensors in it.
    return dict(forward(model, batch))


def is_sharded(model: Any) -> bool:
    """Whether the weights of the model are shared out."""
    return hasattr(model, METHOD)


def place_of(model: PreTrainedModel) -> torch.device:
    """Where a model wants its batches."""
    return getattr(model, PLACE, model.device)


def ask(model: PreTrainedModel, forward: Callable[[Any, Batch], Outputs], batch: Batch) -> Outputs:
    """`forward(model, batch)`; of a sharded model all ranks must ask at the same time."""
    if not is_sharded(model):
        return forward(model, batch)
    with together(computes=True):
        outputs = Outputs(getattr(model, METHOD)(forward, batch))
    if not torch.is_grad_enabled():
        root: Any = model
        root.reshard()  # nobody's backward pass will
    return outputs


class Whole(Mapping[str, Tensor]):
    """A sharded model's weights by name, each gathered when it is asked for, in the type in which they are saved; all
    ranks must ask for the same ones in the same order."""

    def __init__(self, model: PreTrainedModel):
        self._parts, self._dtype = model.state_dict(), getattr(model, KEPT)

    def __getitem__(self, name: str) -> Tensor:
        part: Any = self._parts[name]
        whole = part
        if hasattr(part, "full_tensor"):
            with together():
                whole = part.full_tensor()
        as_it_is = of_adapter(name) or not whole.is_floating_point()
        return whole if as_it_is else whole.to(self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@torch.no_grad()
def gathered(model: PreTrainedModel, ranks: Ranks) -> dict[str, Tensor]:
    """What is saved of a sharded model, in the first rank's CPU memory; nothing on the others. All ranks must ask.

    A tensor that has two names (an output layer tied to the embedding) is gathered once.
    """
    whole, weights, seen = Whole(model), dict[str, Tensor](), dict[int, str]()
    places = model.state_dict(keep_vars=True)
    for name in saved_weights(model):
        first = seen.setdefault(id(places[name]), name)
        if first != name:
            if ranks.rank == 0:
                weights[name] = weights[first]
            continue
        tensor = whole[name]
        if ranks.rank == 0:
            weights[name] = tensor.cpu()
    return weights
