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

from heedful.data.collate import microbatches, take, to_device
from heedful.data.tokens import all_stop_tokens
from heedful.errors import UserError
from heedful.fast import process
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SHARE, refuse_out_of_range
from heedful.learner.masters import Masters
from heedful.models.merging import merged_copy
from heedful.models.save import save_model
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
        for rows in microbatches(batch, micro_batch_tokens, (ranks.rank, ranks.world)):
            trimmed = to_device(take(batch, rows), model.device)
            extra = batch.mask.shape[1] - trimmed.mask.shape[1]
            for name, x in forward(model, trimmed).items():
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
        decay = [p for p in self.masters.params if p.ndim >= 2]
        rest = [p for p in self.masters.params if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": optim.weight_decay},
                {"params": rest, "weight_decay": 0.0},
            ],
            lr=optim.learning_rate,
            eps=optim.adam_eps,
            betas=(0.9, optim.beta2),
            fused=True,
        )

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
        params = [p for p in self.masters.params if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(params, self.optim.max_grad_norm)
        if not torch.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise UserError(
                f"the gradient became {norm.item()} at step {self.steps + 1}; "
                "look at the rewards and the data, or begin anew with --restart and a lower --learning-rate"
            )
        rate = self.optim.rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.masters.publish()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return {**metrics, "grad_norm": norm.item(), "learning_rate": rate}

    def _accumulate(
        self, loss_fn: LossFn, batch: Batch, forward: Forward, per: str, weight: float
    ) -> Metrics:
        """Add weight × this rank's share of the gradient of the mean loss; returns the means of the whole batch."""
        count = self._count(batch, per)
        totals: dict[str, float] = {}
        for rows in microbatches(
            batch, self.micro_batch_tokens, (self.ranks.rank, self.ranks.world)
        ):
            part = to_device(take(batch, rows), self.model.device)
            given = loss_fn(forward(self.model, part), part)
            loss = given if isinstance(given, Loss) else Loss(given)
            where = part.mask if per == "token" else torch.ones_like(loss.value, dtype=torch.bool)
            total = loss.value.masked_fill(~where, 0.0).sum()
            (weight * (total / count)).backward()
            self.masters.gather()
            for name, value in {"loss": loss.value, **loss.metrics}.items():
                summed = value.detach().masked_fill(~where, 0.0).sum().item()
                totals[name] = totals.get(name, 0.0) + summed
        of_ranks = self.ranks.gather((count, totals))
        if any(other != count for other, _ in of_ranks):
            raise UserError(
                "the processes were given different batches; do all of them read the same files?"
            )
        names = {name: None for _, sums in of_ranks for name in sums}
        return {n: math.fsum(sums.get(n, 0.0) for _, sums in of_ranks) / count for n in names}

    def outputs(self, batch: Batch) -> Outputs:
        """The forward's outputs without gradients."""
        return predict(self.model, self.forward, batch, self.micro_batch_tokens, self.ranks)

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
        parameters = self._trained()
        shapes = {name: tensor.shape for name, tensor in state["weights"].items()}
        if shapes != {name: p.shape for name, p in parameters.items()}:
            raise UserError("the saved state belongs to a model with other weights than this one")
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(state["weights"][name])
        self.masters.publish()
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]

    def _trained(self) -> dict[str, Tensor]:
        """What the optimiser moves, by name: float32 masters where the weights are kept in less."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        pairs = zip(self.masters.weights, self.masters.params, strict=True)
        return {names[id(weight)]: master for weight, master in pairs}

    @staticmethod
    def _count(batch: Batch, per: str) -> float:
        if per == "token":
            return float(batch.mask.sum().clamp(min=1))
        return float(len(batch.group.unique_consecutive()))
