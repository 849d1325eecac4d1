"""Whether a way through a model gives what plain `transformers` gives: tried on the model itself, with made-up tokens.

The plain way is the model's own forward on one row at a time, without padding, mask or cache. How far rounding alone
may move its results is measured, not chosen: every number of the embedded tokens goes one unit in its last place up or
down, so that everything behind them is rounded otherwise (Parker 1997, Monte Carlo arithmetic). Another order of sums
does as much; a mask, a position or a state that is wrong does a thousand times that in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

LENGTHS = (12, 8, 5)  # of the rows; the first two begin alike
ALIKE = 4
MARGIN = 8  # times the usual error, since many numbers are looked at

Run = Callable[[Tensor], Tensor]  # ids `[1, T]` → what is compared, `[T, …]`


@dataclass(frozen=True)
class Plain:
    """Rows of made-up tokens, and what plain `transformers` gives at each of them."""

    model: PreTrainedModel
    run: Run
    rows: list[Tensor]
    outputs: list[Tensor]

    @property
    def sound(self) -> bool:
        """Whether there are numbers to compare with; a model of NaN has none."""
        return all(bool(x.isfinite().all()) for x in self.outputs)

    @cached_property
    def bound(self) -> float:
        """The largest difference that is rounding."""
        # Log-probs and scores are float32 at the end, also of a model in float64.
        eps = max(torch.finfo(dtype).eps for dtype in (self.model.dtype, torch.float32))
        exact = self.outputs[0]
        moved = [eps * float(exact.abs().max())]
        few = exact.numel() == 1  # a single number may hardly move by chance
        for row, exact in list(zip(self.rows, self.outputs, strict=True))[: None if few else 1]:
            for seed in (0, 1):
                with torch.no_grad(), _nudged(self.model, eps, seed):
                    moved.append(float((self.run(row[None]) - exact).abs().max()))
        return MARGIN * max(moved)

    @property
    def causal(self) -> bool:
        """Whether what comes later changes nothing: two rows that begin alike give the same there."""
        first, second = (x[:ALIKE] for x in self.outputs[:2])
        return float((first - second).abs().max()) <= self.bound

    def gap(self, row: int, start: int, ours: Tensor) -> float:
        """How far results `[n, …]` of a row's tokens from `start` on are from the plain ones; of NaN infinitely."""
        theirs = self.outputs[row][start : start + len(ours)]
        gap = float((ours - theirs).abs().max())
        return gap if gap == gap else float("inf")


@torch.no_grad()
def plainly(model: PreTrainedModel, run: Run) -> Plain:
    """`run`, which is a plain forward, of each of some rows of unlike lengths."""
    rows = made_up(model)
    return Plain(model, run, rows, [run(row[None]) for row in rows])


def made_up(model: PreTrainedModel) -> list[Tensor]:
    """Rows of tokens that mean nothing to the model: none that its config names (padding, ends, images)."""
    config: Any = model.config.get_text_config()
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    size = min(rows, getattr(config, "vocab_size", None) or rows)
    named: set[Any] = set()
    for part in (model.config, config):
        for name, value in part.to_dict().items():
            if name.endswith(("token_id", "token_index")):
                named |= set(value) if isinstance(value, list | tuple) else {value}
    ordinary = torch.tensor([i for i in range(min(size, 4096)) if i not in named] or [0])
    count = sum(LENGTHS)
    picked = (torch.arange(count) * 7919 + 1) % len(ordinary)
    tokens = list(ordinary[picked].to(model.device).split(LENGTHS))
    tokens[1][:ALIKE] = tokens[0][:ALIKE]
    return tokens


def body(model: PreTrainedModel) -> Any:
    """The model without its head. Of some its class names another place, where there is nothing."""
    return model.base_model if model.base_model is not model else getattr(model, "model", model)


def states(model: PreTrainedModel) -> Run:
    """The last hidden states `[T, d]` of a plain forward."""
    return lambda ids: wide(body(model)(input_ids=ids, use_cache=False).last_hidden_state[0])


def log_probs(model: PreTrainedModel) -> Run:
    """The log-probs `[T, V]` of a plain forward of the whole model."""
    return lambda ids: wide(model(input_ids=ids, use_cache=False).logits[0]).log_softmax(-1)


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.float() if x.dtype.itemsize < 4 else x


@contextmanager
def _nudged(model: PreTrainedModel, eps: float, seed: int) -> Iterator[None]:
    """Each number of the embedded tokens a unit in its last place larger or smaller."""

    def nudge(module: Any, inputs: Any, out: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, out.shape, generator=generator).to(out.device, out.dtype)
        return out * (1 + eps * (2 * signs - 1))

    embeddings: Any = model.get_input_embeddings()
    hook = embeddings.register_forward_hook(nudge)
    try:
        yield
    finally:
        hook.remove()
