"""Weights from a learner to the processes of a server: a meeting that lives for one update.

The learner waits at a port of its own; what it tells the server over HTTP (`Offer`) is where, and names, dtypes and
shapes. So a server that has died and come back needs nothing that the one before knew. The numbers travel by the
transport (`transports`) that the server was started with, as its processes say when they come. Needs torch alone, since
it runs inside the server too (`vllm_plugin`).
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torch.distributed import TCPStore

from heedful.engine.transports import PATIENCE, Meeting, hindrance, memory, opened, place

POLL = timedelta(seconds=0.05)  # between two looks whether the server has refused
GO = "go"  # the key under which the learner says why it does not, or nothing


class Unfit(Exception):
    """Why the server's transport is not for this learner, in a sentence."""


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

    @property
    def largest(self) -> int:
        """Bytes of the largest tensor."""
        each = zip(self.dtypes, self.shapes, strict=True)
        return max((getattr(torch, d).itemsize * math.prod(s) for d, s in each), default=0)


def send(
    weights: Mapping[str, Tensor],
    server: str,
    receivers: int,
    tell: Callable[[dict[str, Any]], Future],
    device: torch.device,
) -> None:
    """Send to the processes of the server at this address. `tell` hands it the offer and returns what it answers with
    once it has everything; `device` is the learner's own. Raises what went wrong there; `Unfit`; RuntimeError where
    nobody comes, or somebody leaves."""
    address = local_address(*_place(server))
    store = TCPStore(
        address, 0, None, True, PATIENCE, wait_for_workers=False
    )  # port 0: one that is free
    offer = Offer(
        address, store.port, receivers + 1, list(weights),
        [str(w.dtype).removeprefix("torch.") for w in weights.values()],
        [list(w.shape) for w in weights.values()],
    )  # fmt: skip
    answer = tell(asdict(offer))

    def wait(keys: Sequence[str]) -> None:
        """A constructor that waits for the others could not be told that the server has refused."""
        end = time.monotonic() + PATIENCE.total_seconds()
        while time.monotonic() < end:
            try:
                return store.wait(list(keys), POLL)
            except RuntimeError:
                if answer.done():
                    answer.result()
                    break
        raise RuntimeError(f"nobody has come to {address}:{store.port}")

    came = [f"came/{rank}" for rank in range(1, receivers + 1)]
    wait(came)
    each = [json.loads(store.get(key)) for key in came]
    transport = each[0]["transport"]
    why = hindrance(transport, place(device), [one["place"] for one in each])
    store.set(GO, why)
    if why:
        answer.exception(PATIENCE.total_seconds())  # the store must live until all have read it
        raise Unfit(why)
    meeting = Meeting(store, 0, offer.world, device, address, offer.largest, wait)
    with opened(transport, meeting) as passed:
        for tensor in weights.values():
            passed(_bytes(tensor.detach().to(memory(transport, device))))
    answer.result()


def received(
    offer: Offer, rank: int, transport: str, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """In process `rank`, from 1 on, of a server whose model is on `device`: the tensors of an offer one after the
    other, each in memory of its own, which is the CPU's over gloo. ValueError where the learner says why not."""
    store = TCPStore(offer.address, offer.port, None, False, PATIENCE)
    store.set(f"came/{rank}", json.dumps({"transport": transport, "place": place(device)}))
    if why := store.get(GO).decode():
        raise ValueError(why)
    here = local_address(offer.address, offer.port)

    def wait(keys: Sequence[str]) -> None:
        store.wait(list(keys))

    meeting = Meeting(store, rank, offer.world, device, here, offer.largest, wait)
    with opened(transport, meeting) as passed:
        for name, dtype, shape in zip(offer.names, offer.dtypes, offer.shapes, strict=True):
            where = memory(transport, device)
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=where)
            passed(_bytes(tensor))
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


def _bytes(tensor: Tensor) -> Tensor:
    """The same numbers as bytes, one after the other, whatever a transport knows of: where possible the same memory."""
    return tensor.reshape(-1).view(torch.uint8)
