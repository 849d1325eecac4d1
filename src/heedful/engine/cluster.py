"""heedful's own engine on the machines of a Ray cluster, an actor each. Ray places them and tells when one has died;
who is asked what is the pool's affair.

Weights travel by Ray's object store, once to each machine, under the number of the update that made them.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import os
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.configs.cluster import parsed
from heedful.engine.local import LocalEngine
from heedful.engine.pool import TELL, Gone, Pool
from heedful.errors import UserError, of_extra, one_line
from heedful.ranks import ALONE, PATIENCE, Ranks
from heedful.types import Completion

ROOM = 120.0  # seconds in which a cluster has found room for the engines, or has none
Result = TypeVar("Result")


class Host:
    """What an actor is: an engine and the version of its weights, None until it has been given some."""

    def __init__(self, model: bytes, device: str):
        loaded: Any = torch.load(io.BytesIO(model), map_location=device, weights_only=False)
        self._engine = LocalEngine(loaded)
        self._version: int | None = None
        self._prompts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._asked = 0

    async def window(self) -> int:
        return self._engine.window

    async def load(self, weights: Mapping[str, tuple[Any, str, list[int]]], version: int) -> None:
        await self._engine.load(
            {name: _tensor(*packed) for name, packed in weights.items()}, version
        )
        self._version = version

    async def generate(
        self, tokens: tuple[int, ...], how: dict[str, Any]
    ) -> tuple[list[Completion], int | None]:
        # Requests with one and the same tuple share the reading of it, which must survive the journey.
        same, version = self._prompts.setdefault(tokens, tokens), self._version
        self._asked += 1
        try:
            completions = await self._engine.generate(same, **how)
        finally:
            self._asked -= 1
            if not self._asked:
                self._prompts.clear()
        return completions, version if version == self._version else None


@dataclass(frozen=True)
class Actor:
    """`pool.Member`: an engine in an actor, seen from here."""

    ray: Any
    handle: Any
    window: int

    async def generate(
        self, tokens: Sequence[int], **how: Any
    ) -> tuple[list[Completion], int | None]:
        return await _heard(self.ray, self.handle.generate.remote(tuple(tokens), how))

    async def load(self, weights: Any, version: int) -> None:
        await _heard(self.ray, self.handle.load.remote(weights, version))

    async def alive(self) -> None:
        await _heard(self.ray, self.handle.window.remote())

    def end(self) -> None:
        with suppress(Exception):  # of one that has ended long ago, or with the whole cluster
            self.ray.kill(self.handle)


async def _heard(ray: Any, answer: Awaitable[Result]) -> Result:
    """What an actor answers, or the error that it raised; `Gone` if there is none any more."""
    try:
        return await answer
    except ray.exceptions.RayTaskError as error:
        if isinstance(
            error.cause, ray.exceptions.RayError
        ):  # what it needed was lost with a machine
            raise Gone(one_line(error.cause)) from None
        raise error.cause from None
    except ray.exceptions.TaskCancelledError:
        raise asyncio.CancelledError from None
    except ray.exceptions.RayError as error:
        raise Gone(f"{type(error).__name__}: {one_line(error, 80)}") from None
    except asyncio.CancelledError:
        ray.cancel(answer)
        raise


@dataclass(frozen=True)
class Placing:
    """Starts an engine in its place of the reserved ones."""

    ray: Any
    group: Any
    first: Sequence[int]
    device: str
    model: Any

    async def __call__(self, number: int) -> Actor:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        place = self.first.index(number)
        where = strategies.PlacementGroupSchedulingStrategy(self.group, place)
        gpus = 1 if self.device == "cuda" else 0
        host = self.ray.remote(Host).options(
            num_cpus=1, num_gpus=gpus, scheduling_strategy=where, max_concurrency=2048
        )
        handle = host.remote(self.model, self.device)
        return Actor(self.ray, handle, await _heard(self.ray, handle.window.remote()))


def cluster_engines(
    spec: str,
    model: PreTrainedModel,
    *,
    device: str = "cpu",
    versions: int = 1,
    ranks: Ranks = ALONE,
    tell: float = TELL,
) -> Pool:
    """The engines that `--cluster` asks for, as one; of several ranks each has its share. `close` ends them."""
    ray = of_extra("ray", "ray", "--cluster needs")
    number, address = ranks.on_first(_begun, ray, spec, device)
    if ranks.rank:
        _connect(ray, address=address)
    mine = range(number)[ranks.rank :: ranks.world]
    if number < ranks.world:
        raise UserError(
            f"--cluster {spec}: {number} engine(s) for {ranks.world} processes, each of which needs one"
        )
    group = _reserved(ray, spec, len(mine), device)
    start = Placing(ray, group, mine, device, ray.put(_packed(model)))
    return Pool(
        start,
        mine,
        publish=lambda weights: ray.put(_pack(weights)),
        versions=versions,
        patience=PATIENCE,
        tell=tell,
        closes=lambda: _left(ray, group),
    )


def _begun(ray: Any, spec: str, device: str) -> tuple[int, str]:
    """How many engines there will be, and where the other ranks find the cluster."""
    address, number = parsed(spec)
    if address is None:
        # Ray lets its workers give way to all else on a machine; here they are what it is for.
        os.environ.setdefault("RAY_worker_niceness", "0")
        _connect(ray, num_cpus=number, include_dashboard=False)
        return number, ray.get_runtime_context().gcs_address
    _connect(ray, address=address)
    if number:
        return number, address
    gpus = int(ray.cluster_resources().get("GPU", 0))
    return (gpus if device == "cuda" else sum(n["Alive"] for n in ray.nodes())), address


def _connect(ray: Any, **where: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--cluster: Ray cannot be reached or started: {one_line(error)}") from None


def _reserved(ray: Any, spec: str, number: int, device: str) -> Any:
    """A placement group with room for so many engines, over as many machines as there are."""
    needs = {"CPU": 1, **({"GPU": 1} if device == "cuda" else {})}
    group = ray.util.placement_group([needs] * number, strategy="SPREAD")
    if not group.wait(ROOM):
        ray.util.remove_placement_group(group)
        has = {kind: ray.cluster_resources().get(kind, 0) for kind in needs}
        ray.shutdown()
        raise UserError(
            f"--cluster {spec}: no room for {number} engines of {_words(needs)} within {ROOM:g} seconds; the cluster "
            f"has {_words(has)} in all"
        )
    return group


def _words(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in resources.items())


def _left(ray: Any, group: Any) -> None:
    with suppress(Exception):  # a cluster that is gone has nothing to give back
        ray.util.remove_placement_group(group)
    ray.shutdown()


# ── what travels ─────────────────────────────────────────────────────────────────────────────────


def _packed(model: PreTrainedModel) -> bytes:
    """The model, which actors make again: whoever has its folder or not."""
    buffer = io.BytesIO()
    try:
        torch.save(model, buffer)
    except Exception as error:
        raise UserError(
            f"--cluster: a {type(model).__name__} as it is here cannot be sent to engines: {one_line(error)}"
        ) from None
    return buffer.getvalue()


def _pack(weights: Mapping[str, Tensor]) -> dict[str, tuple[Any, str, list[int]]]:
    """Tensors as bytes, which Ray stores without pickling them; one with two names travels once."""
    views: dict[int, Any] = {}  # of what is in the CPU's memory, and stays there because of them
    packed = {}
    for name, tensor in weights.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        raw = views.setdefault(flat.data_ptr(), flat.numpy())
        raw = raw if len(raw) == len(flat) else flat.numpy()
        packed[name] = (raw, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
    return packed


def _tensor(raw: Any, dtype: str, shape: Sequence[int]) -> Tensor:
    # Ray's memory is read-only, which nobody minds who copies from it.
    return torch.from_numpy(raw.copy()).view(getattr(torch, dtype)).reshape(tuple(shape))
