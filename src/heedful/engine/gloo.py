"""Weights from a learner to the processes of a server, over gloo: a group that lives for one update.

The learner waits at a port of its own; what it tells the server over HTTP (`Offer`) is where, and names, dtypes and
shapes. So a server that has died and come back needs nothing that the one before knew. Needs torch alone, since it
runs inside the server too (`vllm_plugin`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore

MEETING = 60.0  # seconds in which all processes of a server have to come
POLL = 0.02


@dataclass(frozen=True)
class Offer:
    """What a server must know to receive: `names[i]` is a tensor of `dtypes[i]` and `shapes[i]`, sent in this order to
    `world` − 1 processes."""

    address: str
    port: int
    world: int
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]


def send(
    weights: Mapping[str, Tensor],
    server: str,
    receivers: int,
    tell: Callable[[dict[str, Any]], Future],
) -> None:
    """Send to the processes of the server at this address. `tell` hands it the offer and returns what it answers with
    once it has everything. Raises what went wrong there; RuntimeError where nobody comes, or somebody leaves."""
    address = local_address(*_place(server))
    store = TCPStore(
        address, 0, None, True, timedelta(seconds=MEETING), wait_for_workers=False
    )  # port 0: one that is free
    offer = Offer(
        address, store.port, receivers + 1, list(weights),
        [str(w.dtype).removeprefix("torch.") for w in weights.values()],
        [list(w.shape) for w in weights.values()],
    )  # fmt: skip
    answer = tell(asdict(offer))
    # A constructor that waits for the others could not be told that the server has refused.
    came = [f"came/{rank}" for rank in range(1, receivers + 1)]
    for _ in range(round(MEETING / POLL)):
        if answer.done():
            answer.result()
        if store.check(came):
            break
        try:
            answer.exception(timeout=POLL)
        except TimeoutError:
            continue
    else:
        raise RuntimeError(f"nobody has come to {address}:{store.port}")
    group = _group(store, 0, offer)
    for tensor in weights.values():
        _broadcast(group, _bytes(tensor.detach().cpu().contiguous()))
    answer.result()


def received(offer: Offer, rank: int) -> Iterator[tuple[str, Tensor]]:
    """In process `rank`, from 1 on, of a server: the tensors of an offer one after the other, in the CPU's memory."""
    store = TCPStore(offer.address, offer.port, None, False, timedelta(seconds=MEETING))
    store.set(f"came/{rank}", "")
    group = _group(store, rank, offer)
    for name, dtype, shape in zip(offer.names, offer.dtypes, offer.shapes, strict=True):
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        _broadcast(group, _bytes(tensor))
        yield name, tensor


def local_address(host: str, port: int) -> str:
    """The address of this machine that `host` can reach, which a machine's name need not be."""
    family, kind, proto, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, proto) as s:
        s.connect(place)  # sends nothing
        return s.getsockname()[0]


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _group(store: TCPStore, rank: int, offer: Offer) -> ProcessGroupGloo:
    here = local_address(offer.address, offer.port)
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=here)]
    options._timeout = timedelta(seconds=MEETING)
    return ProcessGroupGloo(store, rank, offer.world, options)


def _bytes(tensor: Tensor) -> Tensor:
    """The same memory as bytes, whatever numbers gloo knows of."""
    return tensor.reshape(-1).view(torch.uint8)


def _broadcast(group: ProcessGroupGloo, data: Tensor) -> None:
    options = BroadcastOptions()
    options.rootRank = 0
    if data.numel():
        group.broadcast([data], options).wait()  # type: ignore[attr-defined]
