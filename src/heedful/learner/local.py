"""The learner of a whole model: splits a batch into micro-batches and divides by the *global* count, once.

So neither the micro-batch size nor padding nor the number of processes changes a gradient, which the usual mean
of means does. With several ranks each takes its share of every batch, and the sums are added up (`ranks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.collate import take, to_device
from heedful.data.tokens import all_stop_tokens
from heedful.errors import UserError
from heedful.fast import process
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SHARE, refuse_out_of_range
from heedful.learner import shards
from heedful.learner.masters import Masters
from heedful.learner.passes import passes
from heedful.models.merging import merged_copy
from heedful.models.save import save_model
from heedful.models.sharded import ask, is_sharded, place_of
from heedful.ranks import ALONE, Ranks
from heedful.registry import register
from heedful.types import Batch, Metrics, Outputs

# A model's pass over a batch.
Forward = Callable[[PreTrainedModel, Batch], Outputs]


@dataclass(frozen=True)
class Loss:
    """Unreduced: `value` and every metric have the shape of what is counted (tokens `[B, T]` or groups `[G]`)."""

    value: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


# A bare tensor is a loss without metrics.
LossFn = Callable[[Outputs, Batch], Loss | Tensor]


@dataclass(frozen=True)
class Mixed:
    """A second loss in the same optimiser step, e.g. PPO-ptx's likelihood of pre-training text."""

    name: str
    batch: Batch
    forward: Forward
    loss_fn: LossFn
    weight: float


Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Optim:
    """AdamW and its learning-rate schedule over `total_steps` steps. UserError for numbers that nobody can mean."""

    learning_rate: Annotated[float, AT_LEAST_0]
    total_steps: Annotated[int, AT_LEAST_1]
    schedule: Schedule = "linear"
    warmup: Annotated[float, SHARE] = 0.05  # share of the steps
    weight_decay: Annotated[float, AT_LEAST_0] = 0.0
    max_grad_norm: Annotated[float, ABOVE_0] = 1.0
    adam_eps: Annotated[float, ABOVE_0] = 1e-8
    beta2: Annotated[float, SHARE] = 0.999  # language models from nothing learn faster with 0.95

    def __post_init__(self) -> None:
        refuse_out_of_range(self, "")

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, …"""
        warm = max(1, round(self.warmup * self.total_steps))
        if step < warm and self.warmup > 0:
            return self.learning_rate * (step + 1) / warm
        done = min(1.0, (step - warm + 1) / max(1, self.total_steps - warm + 1))
        left = {
            "constant": 1.0,
            "linear": 1 - done,
            "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        }
        return self.learning_rate * left[self.schedule]


def adamw(params: Sequence[Tensor], optim: Optim) -> torch.optim.AdamW:
    """The optimiser of so many weights; matrices alone decay."""
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (0.9, optim.beta2)
    return torch.optim.AdamW(
        groups, lr=optim.learning_rate, eps=optim.adam_eps, betas=betas, fused=True
    )


def move(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], optim: Optim, steps: int
) -> Metrics:
    """Clip the gradients and take the step after so many. Returns grad_norm before clipping and the learning_rate."""
    moved = [p for p in params if p.grad is not None]
    norm: Any = torch.nn.utils.clip_grad_norm_(moved, optim.max_grad_norm)
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of all ranks
    if not torch.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        raise UserError(
            f"the gradient became {norm.item()} at step {steps + 1}; "
            "look at the rewards and the data, or begin anew with --restart and a lower --learning-rate"
        )
    rate = optim.rate(steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"grad_norm": norm.item(), "learning_rate": rate}


class Sums:
    """Losses and metrics of a batch, micro-batch by micro-batch; what they are divided by is the whole batch's."""

    def __init__(self, batch: Batch, per: str):
        self.per, self.totals = per, dict[str, float]()
        groups = len(batch.group.unique_consecutive())
        self.count = float(batch.mask.sum().clamp(min=1)) if per == "token" else float(groups)

    def add(self, given: Loss | Tensor, part: Batch, counts: int = 1) -> Tensor:
        """The sum of a part's losses; what counts 0 is not among the metrics."""
        loss = given if isinstance(given, Loss) else Loss(given)
        where = part.mask if self.per == "token" else torch.ones_like(loss.value, dtype=torch.bool)
        if counts:
            for name, value in {"loss": loss.value, **loss.metrics}.items():
                summed = value.detach().masked_fill(~where, 0.0).sum().item()
                self.totals[name] = self.totals.get(name, 0.0) + summed
        return counts * loss.value.masked_fill(~where, 0.0).sum()

    def means(self, ranks: Ranks) -> Metrics:
        """Of the whole batch, from what all ranks have added. UserError if they were given different ones."""
        of_ranks = ranks.gather((self.count, self.totals))
        if any(other != self.count for other, _ in of_ranks):
            raise UserError(
                "the processes were given different batches; do all of them read the same files?"
            )
        names = {name: None for _, sums in of_ranks for name in sums}
        return {n: math.fsum(sums.get(n, 0.0) for _, sums in of_ranks) / self.count for n in names}


def predict(
    model: PreTrainedModel,
    forward: Forward,
    batch: Batch,
    micro_batch_tokens: int,
    ranks: Ranks = ALONE,
) -> Outputs:
    """`forward` without gradients over the whole batch, micro-batch by micro-batch, rows in the batch's order."""
    if not len(batch.tokens):
        raise ValueError("an empty batch")
    mine: list[tuple[str, Tensor, Tensor]] = []
    with torch.no_grad():
        for rows, counts in passes(batch, micro_batch_tokens, ranks, alike=is_sharded(model)):
            trimmed = to_device(take(batch, rows), place_of(model))
            extra = batch.mask.shape[1] - trimmed.mask.shape[1]
            for name, x in ask(model, forward, trimmed).items():
                if counts:
                    mine.append((name, rows, _widened(x, extra).to(batch.tokens.device)))
    whole = Outputs()
    for name, rows, x in (piece for of_rank in ranks.gather(mine) for piece in of_rank):
        if name not in whole:
            whole[name] = x.new_zeros(len(batch.tokens), *x.shape[1:])
        whole[name][rows] = x
    return whole


def _widened(x: Tensor, columns: int) -> Tensor:
    """`[b]` as it is; `[b, T']` of a trimmed part with so many columns of zeros behind."""
    return x if x.ndim == 1 else torch.nn.functional.pad(x, (0, columns))


@register(
    "learner", "local", help="a whole model in this process; with several ranks a copy in each"
)
class LocalLearner:
    """`types.Learner` over one model in this process."""

    def __init__(
        self,
        model: PreTrainedModel,
        forward: Forward,
        optim: Optim,
        *,
        micro_batch_tokens: int = 16384,
        ranks: Ranks = ALONE,
    ):
        process.tune()
        self.ranks = ranks
        self.model, self.forward, self.optim = model, forward, optim
        self.micro_batch_tokens = micro_batch_tokens
        self.steps = 0
        self.masters = Masters(p for p in model.parameters() if p.requires_grad)
        self.optimizer = adamw(self.masters.params, optim)

    def step(
        self,
        loss_fn: LossFn,
        batch: Batch,
        *,
        per: Literal["token", "group"] = "token",
        mixed: Sequence[Mixed] = (),
    ) -> Metrics:
        """One optimiser step on `batch` and on what is mixed in.

        Returns the means of the losses and metrics, grad_norm before clipping and the learning_rate.
        """
        metrics = self._accumulate(loss_fn, batch, self.forward, per, 1.0)
        for m in mixed:
            means = self._accumulate(m.loss_fn, m.batch, m.forward, "token", m.weight)
            metrics[f"{m.name}/loss"] = means["loss"]
        self.ranks.all_reduce_gradients(self.masters.params)
        moved = move(self.optimizer, self.masters.params, self.optim, self.steps)
        self.masters.publish()
        self.steps += 1
        return {**metrics, **moved}

    def _accumulate(
        self, loss_fn: LossFn, batch: Batch, forward: Forward, per: str, weight: float
    ) -> Metrics:
        """Add weight × this rank's share of the gradient of the mean loss; returns the means of the whole batch."""
        sums = Sums(batch, per)
        for rows, _ in passes(batch, self.micro_batch_tokens, self.ranks, alike=False):
            part = to_device(take(batch, rows), self.model.device)
            total = sums.add(loss_fn(forward(self.model, part), part), part)
            (weight * (total / sums.count)).backward()
            self.masters.gather()
        return sums.means(self.ranks)

    @property
    def sampler(self) -> PreTrainedModel:
        """The model that an engine samples from, into which `weights` fit."""
        return self.model

    def outputs(self, batch: Batch) -> Outputs:
        """The forward's outputs without gradients."""
        return predict(self.model, self.forward, batch, self.micro_batch_tokens, self.ranks)

    def gather(self) -> None:
        """All ranks call it before the first one calls `save`: here each has everything already."""

    def save(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        merge: bool = False,
        weights: bool = True,
    ) -> None:
        """Write the model and its tokenizer; of a model with adapters these alone, unless they are to be merged.

        Without `weights` everything is written but those of a whole model.
        """
        model = merged_copy(self.model) if merge else self.model
        stop = all_stop_tokens(tokenizer)
        save_model(model, tokenizer, Path(folder), stop=stop, weights=weights)

    def weights(self) -> Mapping[str, Tensor]:
        """The model's tensors, shared with the learner: copy before the next step if they must stay."""
        return self.model.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """What learning changes: the trainable weights, the optimiser, how many steps (and so the schedule)."""
        return {
            "weights": {name: master.detach() for name, master in self._trained().items()},
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told. UserError if that was another model."""
        if "weights" not in state:  # several ranks had shared them out, see `load_shards`
            self._moved, self.steps = state["moved"], state["steps"]
            return
        parameters = self._trained()
        shards.refuse_another(state["weights"], parameters)
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(state["weights"][name])
        self.masters.publish()
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]

    def load_shards(self, folder: Path) -> None:
        """After `load_state_dict`: what ranks with a sharded model have written beside its state."""
        shards.load(
            folder, self.optimizer, self._trained(), self._moved, alone=self.ranks.world == 1
        )
        self.masters.publish()

    def _trained(self) -> dict[str, Tensor]:
        """What the optimiser moves, by name: float32 masters where the weights are kept in less."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        pairs = zip(self.masters.weights, self.masters.params, strict=True)
        return {names[id(weight)]: master for weight, master in pairs}
