"""Decoding on a GPU by CUDA graphs: the operations of a token are recorded once and then started by one call.

A token is some hundreds of short operations, which Python starts more slowly than a GPU does them. A graph does what
was recorded, in the memory in which it was recorded: tokens and lengths are copied to where they stood then, rows and
widths are rounded so that there are few graphs, and rows too many decode in slots that are free. Graphs are made for
one queue of requests and dropped with it; a model's weights may change meanwhile, the model itself may not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.engine.modules import Modules
from heedful.engine.prepared import OF_A_BATCH
from heedful.engine.slots import SlotCache
from heedful.models.process import rounded

NARROW = 128  # tokens of a row: below this all widths are this one
log = logging.getLogger("heedful")


def graphs(model: PreTrainedModel) -> bool:
    """Whether a step of this model, which is known to be the family's own (`passes.suits`), can be recorded."""
    base: Any = model.base_model
    return model.device.type == "cuda" and base.rotary_emb.rope_type not in OF_A_BATCH


class Recorder:
    """Makes graphs of steps; those of one recorder do not run at the same time, so they share memory."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What runs the step again, and where its result then lies; the step has been taken before."""
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        )
        with torch.cuda.device(self.device), recording:
            result = step()
        return graph.replay, result


class Graphed:
    """`passes.Stack` of a model's modules, which decodes by graphs.

    Each graph is tried beside the step it was made of. Should one not be recorded, or give other logits, a line says
    so and decoding goes on without graphs.
    """

    def __init__(self, modules: Modules):
        self.modules = modules
        self.recorder: Callable[..., tuple[Callable[[], None], Tensor]] | None = None
        self.recorded: dict[tuple[int, int], tuple[Callable[[], None], Tensor]] = {}
        self.slots: tuple[int, ...] = ()  # those that the graphs write to
        self.given = torch.zeros(2, 0, dtype=torch.long)  # tokens and lengths of all rows
        self.trusted = True

    def stale(self) -> bool:
        return self.modules.stale()

    def __call__(
        self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor | None
    ) -> Tensor:
        return self.modules(tokens, positions, attend, last)

    def decode(self, tokens: Tensor, lengths: Tensor, cache: SlotCache) -> Tensor:
        if not self.trusted:
            return self.modules.decode(tokens, lengths, cache)
        self._follow(cache, tokens.device)
        n = len(tokens)
        rows = min(rounded(n), cache.rows)
        width = min(rounded(max(NARROW, int(lengths.max()) + 1)), cache.capacity)
        self.given[0, :n], self.given[1, :n] = tokens, lengths
        self.given[:, n:rows] = 0
        if (rows, width) not in self.recorded:
            return self._recorded(rows, width, cache)[:n]
        replay, logits = self.recorded[rows, width]
        replay()
        return logits[:n]

    def _follow(self, cache: SlotCache, device: torch.device) -> None:
        """Forget graphs of slots that have been given up for larger ones."""
        slots = (cache.rows, cache.capacity, *(keys.data_ptr() for keys, _ in cache.filled()))
        if slots != self.slots:
            self.recorded.clear()
            self.slots = slots
            self.given = torch.zeros(2, cache.rows, dtype=torch.long, device=device)

    def _recorded(self, rows: int, width: int, cache: SlotCache) -> Tensor:
        """The logits of the step, taken as ever; from now on there is a graph of it."""
        tokens, lengths = self.given[:, :rows]

        def step() -> Tensor:
            return self.modules(
                tokens, lengths, cache.attention(lengths, self.modules.dtype, width), None
            )

        logits = step()
        try:
            self.recorder = self.recorder or Recorder(logits.device)
            replay, again = self.recorder(step)
            replay()  # it writes once more what the step has written
            if not _close(again, logits):
                raise RuntimeError("a graph gave other logits than the step it was made of")
            self.recorded[rows, width] = replay, again
        except RuntimeError as error:
            log.warning("sampling goes on without CUDA graphs, more slowly: %s", error)
            self.trusted = False
            self.recorded.clear()
        return logits


def _close(ours: Tensor, theirs: Tensor) -> bool:
    near = 1e-3 if theirs.dtype == torch.float32 else 5e-2
    return bool((ours - theirs).abs().max() <= near * theirs.abs().max())
