"""Decoding on a GPU by CUDA graphs: the operations of a token are recorded once and then started by one call.

A token is some hundreds of short operations, which Python starts more slowly than a GPU does them. A graph does what
was recorded, in the memory in which it was recorded, the slots' and the weights': tokens and lengths are copied to
where they stood then, rows and widths are rounded so that there are few graphs, and rows too many decode in slots that
are free. Graphs are made for one queue of requests and dropped with it; weights may change meanwhile in their place,
but an adapter that is switched off is not noticed before the next queue.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.engine.modules import Modules
from heedful.engine.prepared import OF_A_BATCH
from heedful.engine.slots import SlotCache
from heedful.fast.process import rounded
from heedful.fast.trials import bound, near

NARROW = 128  # tokens of a row: below this all widths are this one
OFTEN = 3  # steps of as many rows and the same width, of which the last is recorded
log = logging.getLogger("heedful")


def graphs(model: PreTrainedModel) -> bool:
    """Whether a step of this model, which is known to be the family's own (`passes.suits`), can be recorded."""
    base: Any = model.base_model
    return (
        Graphed.trusted
        and model.device.type == "cuda"
        and base.rotary_emb.rope_type not in OF_A_BATCH
    )


class Recorder:
    """Makes graphs of steps on a device; as they never run at the same time, they share memory."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, _stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """What takes the step again. What it leaves in tensors that it has made itself is lost with the next graph."""
        graph, now = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        self.stream.wait_stream(now)
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            step()  # what is set up at a first call on a stream must not be recorded
            # Not torch.cuda.graph, which first gives all free memory back to the system.
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                step()
            finally:
                graph.capture_end()
        now.wait_stream(self.stream)
        return graph.replay


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: memory that libraries set up for a stream stays with it."""
    return torch.cuda.Stream(device)


class Graphed:
    """`passes.Stack` of a model's modules, which decodes by graphs.

    Each graph is tried beside the step it was made of. Should one not be recorded, or give other logits, a line says
    so and the process decodes without graphs.
    """

    trusted = True  # of all

    def __init__(self, modules: Modules):
        self.modules = modules
        self.slots: tuple[int, ...] = ()
        self.seen: Counter[tuple[int, int]] = Counter()  # (rows, width) of steps
        self.graphs: dict[tuple[int, int], Callable[[], None]] = {}
        # Of the slots at hand: tokens and lengths of all rows, logits, and what makes graphs of all this.
        self.given = self.logits = torch.zeros(0)
        self.recorder: Callable[[Callable[[], None]], Callable[[], None]] | None = None

    def stale(self) -> bool:
        return self.modules.stale()

    def __call__(
        self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor | None
    ) -> Tensor:
        return self.modules(tokens, positions, attend, last)

    def decode(self, tokens: Tensor, lengths: Tensor, cache: SlotCache) -> Tensor:
        """See `passes.Passes.decode`; the logits stand until the next call."""
        n = len(tokens)
        rows = min(rounded(n, 2), cache.rows)
        width = min(rounded(max(NARROW, int(lengths.max()) + 1)), cache.capacity)
        self._follow(cache)
        self.seen[rows, width] += 1
        if not Graphed.trusted or self.seen[rows, width] < OFTEN:
            return self.modules.decode(tokens, lengths, cache)
        if self.seen[rows, width] == OFTEN:
            logits = self.modules.decode(tokens, lengths, cache)
            self._record(rows, width, tokens, lengths, cache, logits)
            return logits
        self._give(rows, tokens, lengths)
        self.graphs[rows, width]()
        return self.logits[:n]

    def _follow(self, cache: SlotCache) -> None:
        """Forget graphs of slots that have been given up for larger ones, and the memory that they had."""
        slots = (cache.rows, cache.capacity, *(keys.data_ptr() for keys, _ in cache.filled()))
        if slots != self.slots:
            self.slots, self.recorder = slots, None
            self.seen.clear()
            self.graphs.clear()

    def _give(self, rows: int, tokens: Tensor, lengths: Tensor) -> None:
        """Rows too many decode, too: from the start of slots that are free."""
        self.given[:, :rows] = 0
        self.given[0, : len(tokens)], self.given[1, : len(tokens)] = tokens, lengths

    def _record(
        self,
        rows: int,
        width: int,
        tokens: Tensor,
        lengths: Tensor,
        cache: SlotCache,
        logits: Tensor,
    ) -> None:
        """Make a graph of the step that gave these logits."""
        try:
            if self.recorder is None:
                self.recorder = Recorder(tokens.device)
                self.given = tokens.new_zeros(2, cache.rows)
                self.logits = logits.new_zeros(cache.rows, logits.shape[1])
            ids, at = self.given[:, :rows]

            def step() -> None:
                attend = cache.attention(at, self.modules.dtype, width)
                self.logits[:rows] = self.modules(ids, at, attend, None)

            self._give(rows, tokens, lengths)
            graph = self.recorder(step)
            graph()  # it writes once more what the step has written
            if not near(self.logits[: len(logits)], logits, bound(logits.dtype)):
                raise RuntimeError("a graph gave other logits than the step it was made of")
            self.graphs[rows, width] = graph
        except RuntimeError as error:
            log.warning("sampling goes on without CUDA graphs, more slowly: %s", error)
            Graphed.trusted = False
            self.graphs.clear()
            self.modules.decode(tokens, lengths, cache)  # over what a wrong graph may have written
