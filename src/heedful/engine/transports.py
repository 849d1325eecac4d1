"""How the numbers of a weight update get from the learner's process to those of a server: three transports.

gloo   through the CPU's memory and a socket: any devices, any machines
nccl   from GPU to GPU: each process has one of its own
ipc    through a buffer that all see: on one GPU, or, on CPUs, on one machine

What `ipc` says of its buffer are numbers and the names of system objects, as JSON; vLLM's own transport of this name
unpickles what it is sent, and so runs it. Needs torch alone, since it runs inside the server too.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore

# What vLLM's servers are started with.
BACKENDS = {"heedful": "gloo", "heedful-nccl": "nccl", "heedful-ipc": "ipc"}
PATIENCE = timedelta(seconds=60)  # in which another process has to do its part
MOST = 1 << 28  # bytes of the buffer that processes share

Pass = Callable[[Tensor], None]


@dataclass(frozen=True)
class Meeting:
    """An update as one of its processes sees it: number `rank` of `world`, of which 0 is the learner.

    `here` is its own address, and `wait(keys)` returns once others have put these into the store. No tensor has more
    than `largest` bytes.
    """

    store: TCPStore
    rank: int
    world: int
    device: torch.device
    here: str
    largest: int
    wait: Callable[[Sequence[str]], None]


@contextmanager
def opened(transport: str, meeting: Meeting) -> Iterator[Pass]:
    """The function that all processes call with one tensor after the other, of bytes, in memory that this transport
    reads (`memory`): the learner's come to be in the others'. It returns when this is done here."""
    on = torch.cuda.device(meeting.device) if meeting.device.type == "cuda" else nullcontext()
    with on, {"gloo": _gloo, "nccl": _nccl, "ipc": _ipc}[transport](meeting) as passed:
        yield lambda data: passed(data) if data.numel() else None


def memory(transport: str, device: torch.device) -> torch.device:
    """Where tensors must lie in a process whose model is on `device`."""
    return torch.device("cpu") if transport == "gloo" else device


def place(device: torch.device) -> str:
    """What a process can share memory with: its GPU, or its machine's CPUs."""
    if device.type == "cuda":
        return f"the GPU {torch.cuda.get_device_properties(device).uuid}"
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"CPUs of {boot.read_text().strip() if boot.exists() else socket.gethostname()}"


def hindrance(transport: str, learner: str, others: Sequence[str]) -> str:
    """Why processes at these places cannot do it so, in words; empty where they can."""
    every = [learner, *others]
    where = f"the learner is on {learner}, and the server on {' and '.join(others)}"
    if transport == "nccl" and not all(p.startswith("the GPU") for p in every):
        return f"nccl goes from GPU to GPU; {where}"
    if transport == "nccl" and len({*every}) < len(every):
        return f"nccl needs a GPU for each process; {where}"
    if transport == "ipc" and len({*every}) > 1:
        return f"ipc is for processes on one GPU or, on CPUs, one machine; {where}"
    return ""


@contextmanager
def _gloo(meeting: Meeting) -> Iterator[Pass]:
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=meeting.here)]
    options._timeout = PATIENCE
    group = ProcessGroupGloo(meeting.store, meeting.rank, meeting.world, options)
    yield lambda data: _broadcast(group, data)


@contextmanager
def _nccl(meeting: Meeting) -> Iterator[Pass]:
    """As gloo; but torch would end a process whose peer has died, and say that something is done before it is. What
    forbids that is read when a group is made; a learner's and a server's own were made before."""
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = PATIENCE
    group = dist.ProcessGroupNCCL(meeting.store, meeting.rank, meeting.world, options)
    try:
        yield lambda data: _broadcast(group, data)
    except BaseException:
        group.abort()
        raise
    group.shutdown()


def _broadcast(group: Any, data: Tensor) -> None:
    options = BroadcastOptions()
    options.rootRank = 0
    group.broadcast([data], options).wait(PATIENCE)


@contextmanager
def _ipc(meeting: Meeting) -> Iterator[Pass]:
    """One buffer for all tensors, of the learner: its own weights are where its optimiser wants them."""
    store, first = meeting.store, meeting.rank == 0
    if first:
        size = max(1, min(MOST, meeting.largest))
        buffer = torch.empty(size, dtype=torch.uint8, device=meeting.device)
        said = _shared(buffer)
        store.set("buffer", json.dumps(said))
    else:
        meeting.wait(["buffer"])
        buffer = _seen(json.loads(store.get("buffer")), meeting.device)
    turn = 0

    def passed(data: Tensor) -> None:
        nonlocal turn
        for part in data.split(len(buffer)):
            turn += 1
            room = buffer[: len(part)]
            if not first:
                meeting.wait([f"full/{turn}"])
            (room if first else part).copy_(part if first else room)
            if meeting.device.type == "cuda":
                torch.cuda.synchronize(meeting.device)
            if first:
                store.set(f"full/{turn}", "")
                meeting.wait([f"read/{turn}/{rank}" for rank in range(1, meeting.world)])
            else:
                store.set(f"read/{turn}/{meeting.rank}", "")

    yield passed


def _shared(buffer: Tensor) -> list[str | int]:
    """What another process must know to see a tensor's memory; the bytes of names as hexadecimal digits."""
    storage = buffer.untyped_storage()
    # As torch.multiprocessing does it, whose pickles hold the same.
    parts: Any = storage._share_cuda_() if buffer.is_cuda else storage._share_filename_cpu_()
    return [part.hex() if isinstance(part, bytes) else part for part in parts]


def _seen(said: Sequence[str | int], device: torch.device) -> Tensor:
    """That memory, as bytes. It is this process's own number of the GPU that counts."""
    parts: list[Any] = [bytes.fromhex(p) if isinstance(p, str) else p for p in said]
    if device.type == "cuda":
        storage = torch.UntypedStorage._new_shared_cuda(torch.cuda.current_device(), *parts[1:])
    else:
        storage = torch.UntypedStorage._new_shared_filename_cpu(*parts)
    return torch.empty(0, dtype=torch.uint8, device=device).set_(storage)
