"""The learner of a model whose weights are shared out among the ranks (FSDP2): what does not fit on one GPU.

Gradients, float32 weights and Adam's moments are shared out too, 16 bytes a parameter divided by the ranks. As in
`learner.local` the divisor is the count of the whole batch; the ranks make the same passes (who has no rows left runs
some again, times zero), and gradients are summed in the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.collate import take, to_device
from heedful.data.tokens import all_stop_tokens
from heedful.errors import UserError
from heedful.fast import process
from heedful.learner import shards
from heedful.learner.local import Forward, LossFn, Mixed, Optim, Sums, adamw, move, predict
from heedful.learner.passes import passes
from heedful.models.save import save_model
from heedful.models.sharded import Whole, ask, gathered, is_sharded, place_of
from heedful.ranks import Ranks, together
from heedful.registry import register
from heedful.types import Batch, Metrics, Outputs

Sync = Literal["last", "every"]


@register("learner", "fsdp", help="a model that is shared out among several ranks (FSDP2)")
class ShardedLearner:
    """`types.Learner` over a model that `models.sharded.shard` has shared out. All ranks call the same methods.

    `sync`: gradients are summed after the last micro-batch of a step, for which each rank keeps those of the whole
    model until then (4 bytes a parameter), or after every one, which takes more messages and no such memory.
    `sampler` is a whole copy that an engine samples from.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        forward: Forward,
        optim: Optim,
        *,
        ranks: Ranks,
        micro_batch_tokens: int = 16384,
        sync: Sync = "last",
        sampler: PreTrainedModel | None = None,
    ):
        if not is_sharded(model):
            raise TypeError(
                "the weights of the model are not shared out: models.sharded.shard does"
            )
        process.tune()
        self.model, self.forward, self.optim, self.ranks = model, forward, optim, ranks
        self.micro_batch_tokens, self.sync, self.steps = micro_batch_tokens, sync, 0
        self.optimizer = adamw(list(self._trained().values()), optim)
        self._sampler, self._moved = sampler, dict[str, float]()
        self._whole: dict[str, Tensor] | None = None

    def step(
        self,
        loss_fn: LossFn,
        batch: Batch,
        *,
        per: Literal["token", "group"] = "token",
        mixed: Sequence[Mixed] = (),
    ) -> Metrics:
        """See `LocalLearner.step`."""
        last = not mixed
        metrics = self._accumulate(loss_fn, batch, self.forward, per, 1.0, last)
        for m in mixed:
            last = m is mixed[-1]
            means = self._accumulate(m.loss_fn, m.batch, m.forward, "token", m.weight, last)
            metrics[f"{m.name}/loss"] = means["loss"]
        with together(computes=True):
            moved = move(self.optimizer, list(self._trained().values()), self.optim, self.steps)
        self.steps += 1
        return {**metrics, **moved}

    def _accumulate(
        self, loss_fn: LossFn, batch: Batch, forward: Forward, per: str, weight: float, last: bool
    ) -> Metrics:
        """Add weight × this rank's share of the gradient of the mean loss; the `last` batch of a step sums up."""
        root: Any = self.model
        sums = Sums(batch, per)
        todo = passes(batch, self.micro_batch_tokens, self.ranks, alike=True)
        for number, (rows, counts) in enumerate(todo, 1):
            part = to_device(take(batch, rows), place_of(self.model))
            root.set_requires_gradient_sync(self.sync == "every" or (last and number == len(todo)))
            total = sums.add(loss_fn(ask(self.model, forward, part), part), part, counts)
            with together(computes=True):
                (weight * (total / sums.count)).backward()
        return sums.means(self.ranks)

    def outputs(self, batch: Batch) -> Outputs:
        """The forward's outputs without gradients."""
        return predict(self.model, self.forward, batch, self.micro_batch_tokens, self.ranks)

    @property
    def sampler(self) -> PreTrainedModel:
        """The model that an engine samples from, into which `weights` fit."""
        if self._sampler is None:
            raise TypeError("a learner of a sharded model was given none to sample from")
        return self._sampler

    def gather(self) -> None:
        """All ranks call it before the first one calls `save`, which finds the whole weights then."""
        self._whole = gathered(self.model, self.ranks)

    def save(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        merge: bool = False,
        weights: bool = True,
    ) -> None:
        """Write the model and its tokenizer as `gather` found it, for plain `transformers`, or all but its weights."""
        if merge:
            raise UserError("--lora.merge: merge the saved adapter afterwards, with heedful merge")
        whole, self._whole = self._whole, None
        if not weights:
            whole = {}
        if whole is None:
            raise RuntimeError("gather(), by all ranks, comes before save()")
        stop = all_stop_tokens(tokenizer)
        save_model(self.model, tokenizer, Path(folder), stop=stop, weights=whole)

    def weights(self) -> Mapping[str, Tensor]:
        """The whole tensors, each gathered when it is asked for: all ranks must go through them alike."""
        return Whole(self.model)

    def state_dict(self) -> dict[str, Any]:
        """What is not in the shards: how many steps there were."""
        return {"moved": shards.moved(self.optimizer, self._trained()), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told, of one process too; of several `load_shards` follows."""
        self.steps = state["steps"]
        if "weights" not in state:
            self._moved = state["moved"]
            return
        trained = self._trained()
        shards.refuse_another(state["weights"], trained)
        names = {id(p): name for name, p in trained.items()}
        moved = [p for group in self.optimizer.param_groups for p in group["params"]]
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(_part(state["weights"][name], p))
        for number, of_one in state["optimizer"]["state"].items():
            p = trained[names[id(moved[number])]]
            moments = {m: _part(of_one[m], p) for m in shards.MOMENTS}
            self.optimizer.state[p] = {"step": of_one["step"], **moments}

    def save_shards(self, folder: Path) -> None:
        """Weights and moments, of which each rank writes its own."""
        shards.save(folder, shards.tensors_of(self.optimizer, self._trained()))

    def load_shards(self, folder: Path) -> None:
        """What `save_shards` of any number of ranks has written."""
        shards.load(folder, self.optimizer, self._trained(), self._moved, alone=False)

    def _trained(self) -> dict[str, Tensor]:
        root: Any = self.model
        root.reshard()
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


def _part(whole: Tensor, like: Any) -> Tensor:
    """This rank's part of a tensor that every rank has."""
    from torch.distributed.tensor import distribute_tensor

    placed = whole.to(like.device, like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)
