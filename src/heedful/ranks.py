"""Several processes that train one model (data parallelism), as torchrun starts them; nothing at all with one.

Every rank holds the whole model and knows the whole batch. What is costly (gradients, samples, rewards) is
shared out and put together again, in the order of one process; files and lines are rank 0's alone. The ranks
meet in the methods of `Ranks`, so each of them must be reached by all ranks, and in the same order. Who is not
given any works alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from heedful.errors import UserError, one_line
from heedful.waiting import all_of

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")
BUCKET = 1 << 24  # numbers that travel together: large enough to be fast, small beside a model
# One rank may wait long for another: for a judge, for a model to be saved. Who dies is noticed by torchrun, who is
# there and does nothing by `_watch`.
LONGEST = timedelta(hours=12)
PATIENCE = 600.0  # seconds without a sign of life; HEEDFUL_PATIENCE says otherwise
ENDED = 1 << 40  # added to a rank's heartbeats when it leaves in good order
log = logging.getLogger("heedful")


class Lost(Exception):
    """Another rank has ended, and with it the run."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, seen from one of them; the defaults are a process on its own."""

    rank: int = 0
    """Which of the processes this is: 0 is the one that writes."""
    world: int = 1
    """How many processes train together."""
    local_rank: int = 0
    """Which it is on its machine, and so which GPU it takes."""
    local_world: int = 1
    """How many there are on its machine."""
    store: Any = field(default=None, repr=False, compare=False)
    """What the ranks share besides messages; None: there is one process."""

    def gather(self, value: Item) -> list[Item]:
        """The values of all ranks, in the order of the ranks; they must be picklable."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        with together():
            dist.all_gather_object(values, value)
        return values

    def on_first(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """`function(*args)` on rank 0 only; the others wait and get what it returns, or the UserError that it raises.

        Nothing in `function` may wait for the other ranks.
        """
        if self.world == 1:
            return function(*args, **kwargs)
        import torch.distributed as dist

        result_box: list[Any] = [None]
        if self.rank == 0:
            try:
                result_box = [function(*args, **kwargs)]
            except UserError as error:
                result_box = [error]
        with together():
            dist.broadcast_object_list(result_box, src=0)
        if isinstance(result_box[0], UserError):
            raise result_box[0]
        return result_box[0]

    async def share_out(
        self, items: Sequence[Item], work: Callable[[Item], Awaitable[Result]]
    ) -> list[Result]:
        """`work(item)` of all items in their order, each done by one rank, those of a rank at the same time.

        A UserError of one is raised on all ranks. Nothing in `work` may wait for the other ranks.
        """
        answers: list[Result] | UserError
        try:
            answers = await all_of(map(work, items[self.rank :: self.world]))
        except UserError as error:
            answers = error
        results: list[Any] = [None] * len(items)
        for number, of_rank in enumerate(self.gather(answers)):
            if isinstance(of_rank, UserError):
                raise of_rank
            results[number :: self.world] = of_rank
        return results

    def all_reduce_gradients(self, params: Sequence[Tensor]) -> None:
        """Every gradient becomes the sum over the ranks, the same bits on all; None counts as 0 where another has
        one."""
        if self.world == 1:
            return
        import torch
        import torch.distributed as dist

        anywhere = map(any, zip(*self.gather([p.grad is not None for p in params]), strict=True))
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
            with together():
                dist.all_reduce(flat)
            pieces = flat.split([g.numel() for g in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def says_first(self, sentence: str) -> bool:
        """Whether no other rank has said this before: what all of them have to say is said once."""
        if self.store is None:
            return True
        key = f"said/{hashlib.sha256(sentence.encode()).hexdigest()}"
        try:
            return self.store.add(key, 1) == 1
        except RuntimeError:
            # Without torchrun rank 0 keeps the store: it has ended, and said this itself.
            return False

    def check_device(self, device: str) -> None:
        """What `--device` cannot be when there are several ranks: each takes the GPU of its own number."""
        if self.world == 1:
            return
        if device not in ("cpu", "cuda", "auto"):
            raise UserError(
                f"--device {device}: with {self.world} processes it must be auto, cpu or cuda, of which each process "
                "takes the GPU of its own number"
            )
        if device == "cuda" and self.local_world > (gpus := _gpus()):
            log.warning(
                "%d processes share %d GPU(s): slower than one each, and no nccl",
                self.local_world,
                gpus,
            )


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that a launcher has started (WORLD_SIZE), or `ALONE`; only rank 0's lines are shown meanwhile."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        yield ALONE
        return
    with ExitStack() as stack:
        ranks = _join(stack)
        if ranks.rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield ranks
    # Not after an error: others may be waiting, and are ended by the launcher.
    import torch.distributed as dist

    dist.destroy_process_group()


def _join(stack: ExitStack) -> Ranks:
    import torch
    import torch.distributed as dist

    patience = seconds_of_patience()
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=timedelta(seconds=patience)))
    except dist.DistError as error:
        raise UserError(
            f"the {os.environ['WORLD_SIZE']} processes have not come together within {patience:g} seconds: "
            f"{one_line(error)}"
        ) from None
    except ValueError as error:
        raise UserError(
            f"WORLD_SIZE says that there are several processes, but {error}; start them with torchrun"
        ) from None
    # torchrun keeps one store for all attempts: what a dead one has left in it is not for the next.
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    stack.enter_context(_watch(rank, world, patience))
    ranks = Ranks(
        rank,
        world,
        int(os.environ.get("LOCAL_RANK", rank)),
        int(os.environ.get("LOCAL_WORLD_SIZE", world)),
        store,
    )
    backend = "gloo"
    if gpus := _gpus():
        torch.cuda.set_device(ranks.local_rank % gpus)
        if ranks.local_world <= gpus and dist.is_nccl_available():
            backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=world,
        timeout=LONGEST,
    )
    # Rank 0 may hold the store, by which the others still find each other: it must not leave before they have,
    # as it would at once where a command is refused.
    ranks.gather(None)
    return ranks


def seconds_of_patience() -> float:
    """What HEEDFUL_PATIENCE says, or `PATIENCE`. UserError for what is no such number."""
    given = os.environ.get("HEEDFUL_PATIENCE", str(PATIENCE))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < LONGEST.total_seconds():
        raise UserError(
            f"HEEDFUL_PATIENCE={given}: a number of seconds above 0 and below twelve hours is wanted"
        )
    return seconds


@contextmanager
def _watch(rank: int, world: int, patience: float) -> Iterator[None]:
    """While it lasts this rank tells that it is alive, and looks after the next one: if that one, or who keeps the
    store, has been silent for `patience` seconds, this process says so and ends with code 2.

    The threads of Python take turns even where the main one waits for a message, so that who is silent is stopped,
    unreachable or gone. Each has one other to look after: a message more a second, however many there are.
    """
    import torch.distributed as dist

    attempt, following = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0), (rank + 1) % world
    # A connection of its own: another one may be waiting for an answer.
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False
    )
    beats = dist.PrefixStore(f"alive {attempt}", store)
    seen, heard, over = 0, time.monotonic(), threading.Event()
    asked = heard  # when the store answered last

    def beat() -> None:
        nonlocal seen, heard, asked
        while not over.wait(min(1.0, patience / 4)):
            try:
                beats.add(str(rank), 1)
                count = beats.add(str(following), 0)
            except (
                RuntimeError
            ):  # who keeps the store has ended: its launcher, or the next message, tells
                over.set()
                return
            asked = time.monotonic()
            if count != seen:
                seen, heard = count, asked

    def judge() -> None:
        while not over.wait(min(1.0, patience / 4)):
            now = time.monotonic()
            silent = following if now - heard > patience and seen < ENDED else None
            silent = 0 if now - asked > patience else silent
            if silent is not None:
                # The main thread waits in a message that will not come, which nothing interrupts.
                told = f"process {silent} of {world} has been silent for {patience:g} seconds"
                os.write(2, f"heedful: {told}; the same command goes on\n".encode())
                os._exit(2)

    for work in (beat, judge):
        threading.Thread(target=work, daemon=True).start()
    try:
        yield
        with suppress(RuntimeError):
            beats.add(str(rank), ENDED)
    finally:
        over.set()


@contextmanager
def together(*, computes: bool = False) -> Iterator[None]:
    """Around whatever waits for the others. Where it `computes` besides, errors of that stay what they are."""
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        if computes and not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise Lost("another process of this run has ended; what it said tells why") from error


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
