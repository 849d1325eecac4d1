"""Several processes that train one model (data parallelism), as torchrun starts them; nothing at all with one.

Every rank holds the whole model and knows the whole batch. What is costly (gradients, samples, rewards) is
shared out and put together again, in the order of one process; files and lines are rank 0's alone. The ranks
meet in the functions below, so each of them must be reached by all ranks, and in the same order.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from heedful.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])
BUCKET = 1 << 24  # numbers that travel together: large enough to be fast, small beside a model
# One rank may wait long for another: for a judge, for a model to be saved. Who dies is noticed by torchrun.
PATIENCE = timedelta(hours=12)
log = logging.getLogger("heedful")

_store: Any = None  # what the ranks share besides messages; None: there is one process
_rank, _world = 0, 1
_alone = 0  # depth of blocks that are one rank's own business


class Lost(Exception):
    """Another rank has ended, and with it the run."""


def rank() -> int:
    """Which of the processes this is: 0 is the one that writes."""
    return 0 if _alone else _rank


def world() -> int:
    """How many processes train together."""
    return 1 if _alone else _world


def share() -> tuple[int, int]:
    """(rank, world): which part of how many is ours."""
    return rank(), world()


@contextmanager
def alone() -> Iterator[None]:
    """In here the process is on its own: nothing waits for the others, nothing is shared out further."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


@contextmanager
def launched() -> Iterator[None]:
    """Join the other processes if a launcher has started several (WORLD_SIZE); only rank 0's lines are shown."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        yield
        return
    _join()
    with ExitStack() as stack:
        if rank():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield
    _leave()  # not after an error: others may be waiting, and are ended by the launcher


def says_first(sentence: str) -> bool:
    """Whether no other rank has said this before: what all of them have to say is said once."""
    if _store is None:
        return True
    try:
        return _store.add(f"said/{hashlib.sha256(sentence.encode()).hexdigest()}", 1) == 1
    except (
        RuntimeError
    ):  # without torchrun rank 0 keeps the store: it has ended, and said this itself
        return False


def check_device(device: str) -> None:
    """What `--device` cannot be when there are several ranks: each takes the GPU of its own number."""
    if world() == 1:
        return
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"--device {device}: with {world()} processes it must be cpu or cuda, of which each process "
            "takes the GPU of its own number"
        )
    if device == "cuda" and _here() > (gpus := _gpus()):
        log.warning(
            "%d processes share %d GPU(s): slower than one each, and no nccl", _here(), gpus
        )


def gathered(value: Item) -> list[Item]:
    """The values of all ranks, in the order of the ranks; they must be picklable."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world()
    with _together():
        dist.all_gather_object(values, value)
    return values


def by_first(function: Function) -> Function:
    """`function` is called on rank 0 only; the others wait and get what it returns, or the UserError that it raises."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if world() == 1:
            return function(*args, **kwargs)
        import torch.distributed as dist

        result_box: list[Any] = [None]
        if rank() == 0:
            try:
                with alone():
                    result_box = [function(*args, **kwargs)]
            except UserError as error:
                result_box = [error]
        with _together():
            dist.broadcast_object_list(result_box, src=0)
        if isinstance(result_box[0], UserError):
            raise result_box[0]
        return result_box[0]

    return call  # type: ignore[return-value]


async def shared(items: Sequence[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
    """`work(item)` of all items in their order, each done by one rank, those of a rank at the same time.

    A UserError of one is raised on all ranks.
    """
    answers: list[Result] | UserError
    try:
        mine = items[rank() :: world()]
        with alone():
            answers = await asyncio.gather(*map(work, mine))
    except UserError as error:
        answers = error
    results: list[Any] = [None] * len(items)
    for number, of_rank in enumerate(everybodys := gathered(answers)):
        if isinstance(of_rank, UserError):
            raise of_rank
        results[number :: len(everybodys)] = of_rank
    return results


def add_up(params: Sequence[Tensor]) -> None:
    """Every gradient becomes the sum over the ranks, the same bits on all; None counts as 0 where another has one."""
    if world() == 1:
        return
    import torch
    import torch.distributed as dist

    anywhere = map(any, zip(*gathered([p.grad is not None for p in params]), strict=True))
    buckets: dict[Any, list[list[Tensor]]] = {}
    for p, used in zip(params, anywhere, strict=True):
        if used:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            filled = buckets.setdefault((p.grad.dtype, p.grad.device), [[]])
            if filled[-1] and sum(g.numel() for g in filled[-1]) + p.numel() > BUCKET:
                filled.append([])
            filled[-1].append(p.grad)
    for gradients in (g for filled in buckets.values() for g in filled):
        flat = torch.cat([g.reshape(-1) for g in gradients])
        with _together():
            dist.all_reduce(flat)
        for gradient, piece in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(piece.view_as(gradient))


@contextmanager
def _together() -> Iterator[None]:
    """Around whatever waits for the others."""
    try:
        yield
    except RuntimeError as error:
        raise Lost("another process of this run has ended; what it said tells why") from error


def _join() -> None:
    global _store, _rank, _world
    import torch
    import torch.distributed as dist

    try:
        _store, _rank, _world = next(dist.rendezvous("env://"))
    except ValueError as error:
        raise UserError(
            f"WORLD_SIZE says that there are several processes, but {error}; start them with torchrun"
        ) from None
    backend = "gloo"
    if gpus := _gpus():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", _rank)) % gpus)
        if _here() <= gpus and dist.is_nccl_available():
            backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", _store),
        rank=_rank,
        world_size=_world,
        timeout=PATIENCE,
    )
    # Rank 0 may hold the store, by which the others still find each other: it must not leave before they have,
    # as it would at once where a command is refused.
    gathered(None)


def _here() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", _world))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _leave() -> None:
    global _store, _rank, _world
    import torch.distributed as dist

    dist.destroy_process_group()
    _store, _rank, _world = None, 0, 1
