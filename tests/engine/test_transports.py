"""How a weight update's numbers travel: each transport between a learner and two processes of a server, as threads of
this one; nccl, which needs GPUs, with gloo in its place."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
import torch.distributed as dist

from heedful.engine import transfer, transports
from heedful.engine.transfer import Offer, Unfit, received, send

BLOCKING = "TORCH_NCCL_BLOCKING_WAIT"
CPU = torch.device("cpu")
WEIGHTS = {
    "matrix": torch.randn(7, 5),
    "half": torch.randn(3, 4).bfloat16(),
    "turned": torch.randn(4, 6).T,  # its numbers are in another order in memory
    "number": torch.tensor(3, dtype=torch.int64),
    "nothing": torch.zeros(0, 4),
    "bits": torch.arange(200, dtype=torch.uint8),
}


def sent(transport: str, processes: int = 2, weights: Any = WEIGHTS) -> list[dict]:
    """What each process of a server has in the end."""
    with ThreadPoolExecutor(1) as server, ThreadPoolExecutor(processes) as workers:

        def take(offer: dict[str, Any], rank: int) -> dict:
            return dict(received(Offer(**json.loads(json.dumps(offer))), rank, transport, CPU))

        def answer(offer: dict[str, Any]) -> list[dict]:
            ranks = range(1, processes + 1)
            return list(workers.map(lambda rank: take(offer, rank), ranks))

        got: list = []

        def tell(offer: dict[str, Any]) -> Any:
            got.append(server.submit(answer, offer))
            return got[0]

        send(weights, "http://127.0.0.1:1", processes, tell, CPU)
        return got[0].result()


class GPUs:
    """Stands for torch's group over nccl: as gloo, on what counts as a GPU of each thread's own."""

    made: ClassVar[list[GPUs]] = []

    class Options:
        _timeout = None

    def __init__(self, store: Any, rank: int, world: int, options: GPUs.Options):
        assert options._timeout == transports.PATIENCE and os.environ[BLOCKING] == "1"
        how = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        how._devices, how._timeout = (
            [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")],
            options._timeout,
        )
        self.group, self.ends = dist.ProcessGroupGloo(store, rank, world, how), []
        GPUs.made.append(self)

    def broadcast(self, tensors: list, options: Any) -> Any:
        return self.group.broadcast(tensors, options)

    def shutdown(self) -> None:
        self.ends.append("shutdown")

    def abort(self) -> None:
        self.ends.append("abort")
        self.group = None  # its connections go with it


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setenv(BLOCKING, "0")
    monkeypatch.setattr(dist, "ProcessGroupNCCL", GPUs)
    each = lambda _: f"the GPU {threading.get_ident()}"  # noqa: E731
    monkeypatch.setattr(transfer, "place", each)
    GPUs.made = []


@pytest.mark.parametrize("transport", transports.BACKENDS.values())
def test_each_process_has_all_the_numbers(transport, gpus, monkeypatch):
    """Bit for bit, also what is larger than the shared buffer.

    Mutation caught: a buffer that is filled again before all have read it, or read before it is full; a part that is
    left out; memory in another order; a group over nccl that stays open.
    """
    monkeypatch.setattr(transports, "MOST", 48)
    if transport != "nccl":
        monkeypatch.setattr(transfer, "place", transports.place)
    for process in sent(transport):
        assert list(process) == list(WEIGHTS)
        for name, tensor in process.items():
            assert tensor.dtype == WEIGHTS[name].dtype and torch.equal(tensor, WEIGHTS[name])
    ends = [group.ends for group in GPUs.made]
    assert ends == ([["shutdown"]] * 3 if transport == "nccl" else [])


def test_tensors_that_were_taken_stay_as_they_were(monkeypatch):
    """vLLM keeps them until a layer has all of its own, when the buffer holds others.

    Mutation caught: tensors that are the buffer's own memory.
    """
    monkeypatch.setattr(transports, "MOST", 4)
    weights = {str(i): torch.full((1,), float(i)) for i in range(20)}
    (got,) = sent("ipc", 1, weights)
    assert [float(t) for t in got.values()] == [float(i) for i in range(20)]


@pytest.mark.parametrize("transport", transports.BACKENDS.values())
def test_a_server_that_dies_is_found_out_at_once(transport, gpus, monkeypatch):
    """It comes, takes the first tensor and is gone; what its HTTP connection then says is raised, and a group over nccl
    is ended by force, as torch would wait for it else.

    Mutation caught: a wait for the whole time-out; an error that is lost; a group that is left behind.
    """
    if transport != "nccl":
        monkeypatch.setattr(transfer, "place", transports.place)

    def dies(offer: dict[str, Any]) -> None:
        taking = received(Offer(**offer), 1, transport, CPU)
        next(taking)
        taking.close()
        raise ConnectionError("the server has gone")

    began = time.monotonic()
    with ThreadPoolExecutor(1) as server, pytest.raises((ConnectionError, RuntimeError)):
        send(WEIGHTS, "http://127.0.0.1:1", 1, lambda o: server.submit(dies, o), CPU)
    assert time.monotonic() - began < 10
    assert {end for group in GPUs.made for end in group.ends} == ({"abort"} if GPUs.made else set())


@pytest.mark.parametrize(
    ("transport", "others", "sentence"),
    [
        ("nccl", ["CPUs of a", "the GPU 1"], "nccl goes from GPU to GPU"),
        ("nccl", ["the GPU 0"], "nccl needs a GPU for each process"),
        ("nccl", ["the GPU 1", "the GPU 1"], "nccl needs a GPU for each process"),
        ("nccl", ["the GPU 1", "the GPU 2"], ""),
        ("ipc", ["the GPU 0", "the GPU 1"], "ipc is for processes on one GPU"),
        ("ipc", ["the GPU 0"], ""),
        ("gloo", ["CPUs of a", "the GPU 0"], ""),
    ],
)
def test_where_a_transport_cannot_be_had(transport, others, sentence):
    """Mutation caught: a place of the server that nobody looks at; a transport refused where it works."""
    said = transports.hindrance(transport, "the GPU 0", others)
    assert said.startswith(sentence) and bool(said) == bool(sentence)


def test_both_sides_are_told_why_not(monkeypatch):
    """Mutation caught: a server that waits for an update that does not begin."""
    where = iter(["CPUs of one machine", "CPUs of another"])
    monkeypatch.setattr(transfer, "place", lambda _: next(where))
    theirs: list = []
    with ThreadPoolExecutor(1) as server, pytest.raises(Unfit, match="one machine"):

        def tell(offer: dict[str, Any]) -> Any:
            theirs.append(server.submit(lambda: list(received(Offer(**offer), 1, "ipc", CPU))))
            return theirs[0]

        send(WEIGHTS, "http://127.0.0.1:1", 1, tell, CPU)
    with pytest.raises(
        ValueError, match="ipc is for processes on one GPU or, on CPUs, one machine"
    ):
        theirs[0].result(timeout=5)
