"""A reward that depends on whose it is: heads beside a reward model's own, and what they make of a user's answers.

    q(z | answers) = N(μ, 1/Λ),   Λ = 1 + Σ λ(d),   μ = Σ η(d) / Λ      over the user's pairs, d = h(better) − h(worse)
    r(x, y, z) = (w + f(z)/s)·h(x, y)

h is the body's state at the last token, w the scalar head, s the size of differences at the start. η is odd, λ even
in d, so that an answer turned round says the reverse, as surely. The sum makes a deep set of it (Zaheer et al. 2017),
of the kind in which each answer is evidence and none is the prior (Volpp et al. 2021); the reward is that of
variational preference learning (Poddar et al. 2024). f(0) = 0: without answers it is a plain reward model, which is
what plain `transformers` loads of a folder, and with a user's answers another plain one, see `fold_user`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import softplus
from transformers import PreTrainedModel

from heedful.data.collate import microbatches, take, to_device
from heedful.errors import UserError
from heedful.losses.kl import to_standard_normal
from heedful.losses.reward import places
from heedful.models.forward import hidden_states, scalar_head
from heedful.models.save import PERSONAL_FILE, PERSONAL_HEADS
from heedful.models.scores import at_last_token, scores_of
from heedful.types import Batch, Outputs
from heedful.types.tensors import RankedOfUsers

HIDDEN = 128


class Posterior(NamedTuple):
    """q(z | answers) of U users, both `[U, D]`."""

    mean: Tensor
    log_var: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """z of standard normal noise `[…, U, D]`."""
        return self.mean + (0.5 * self.log_var).exp() * noise


class PersonalHeads(nn.Module):
    """η and λ of a difference `[N, d]`, and f of z `[…, D]`, in float32 whatever the model is in."""

    scale: Tensor

    def __init__(self, width: int, size: int):
        super().__init__()
        self.size = size
        self.told = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 2 * size, bias=False)
        )
        self.taste = nn.Sequential(nn.Linear(size, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, width))
        # Both begin with one random view of d, so that from the first step on what is like a liked answer is liked;
        # otherwise z means nothing to f, and f asks nothing of z, for the first hundred steps.
        self.view = nn.Linear(width, size, bias=False)
        self.back = nn.Linear(size, width, bias=False)
        with torch.no_grad():
            self.view.weight.normal_(0, width**-0.5)
            self.back.weight.copy_(self.view.weight.T * size**-0.5)
        self.register_buffer("scale", torch.ones(()))

    def evidence(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        """η and λ, both `[N, D]`."""
        d = difference.float() / self.scale
        forward, backward = self.told(d), self.told(-d)
        eta = self.view(d) + forward[:, : self.size] - backward[:, : self.size]
        return eta, 0.5 * (softplus(forward[:, self.size :]) + softplus(backward[:, self.size :]))

    def posterior(
        self, difference: Tensor, user: Tensor, users: int, weight: Tensor | None = None
    ) -> Posterior:
        """Of differences `[N, d]`, each an answer of user 0 … users − 1 that counts `weight` `[N]`."""
        weight = torch.ones_like(user, dtype=torch.float32) if weight is None else weight
        eta, precision = (weight[:, None] * x for x in self.evidence(difference))
        empty = eta.new_zeros(users, self.size)
        total = 1 + empty.index_add(0, user, precision)
        return Posterior(empty.index_add(0, user, eta) / total, -total.log())

    def direction(self, z: Tensor) -> Tensor:
        """f(z)/s: what z `[…, D]` adds to the scalar head's weights, `[…, d]`."""
        return (self.back(z) + self.taste(z) - self.taste(torch.zeros_like(z))) / self.scale

    def save(self, folder: Path) -> None:
        """Beside the model, which plain transformers loads without them."""
        weights = {k: x.contiguous() for k, x in self.state_dict().items()}
        save_file(weights, folder / PERSONAL_FILE, metadata={"dimensions": str(self.size)})


def add_personal_heads(model: PreTrainedModel, seed: int, size: int) -> PersonalHeads:
    """Give a reward model heads, drawn from a seed; they are trained with it, and saved beside it."""
    _refuse_encoder(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = PersonalHeads(scalar_head(model).in_features, size).to(model.device)
    model.add_module(PERSONAL_HEADS, heads)
    return heads


def heads_of(model: PreTrainedModel) -> PersonalHeads:
    """Those that `add_personal_heads` or `load_personal_heads` gave it."""
    heads = getattr(model, PERSONAL_HEADS)
    assert isinstance(heads, PersonalHeads)
    return heads


def states(model: PreTrainedModel, tokens: Tensor, lengths: Tensor) -> Tensor:
    """h: the body's state at each row's last real token. tokens `[B, T]`, lengths `[B]` → `[B, d]`."""
    last = torch.arange(tokens.shape[1], device=tokens.device) == lengths[:, None] - 1
    return hidden_states(model, tokens, last).at(last)


@torch.no_grad()
def all_states(model: PreTrainedModel, batch: Batch, micro_batch_tokens: int) -> Tensor:
    """`states` of a whole batch, on the CPU."""
    h = torch.zeros(len(batch.tokens), scalar_head(model).in_features)
    for rows in microbatches(batch, micro_batch_tokens):
        part = to_device(take(batch, rows), model.device)
        h[rows] = states(model, part.tokens, part.lengths).float().cpu()
    return h


def told(batch: RankedOfUsers, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (better, worse) `[N]` of the ordered pairs of the comparisons whose rows are `used` `[B]`, and their
    weights: a ranking of K is C(K, 2) pairs, which count as K − 1. A tie tells nothing."""
    place, real = places(batch.rank), (batch.rank != 0) & used
    same = batch.comparison[:, None] == batch.comparison[None, :]
    ordered = same & (place[:, None] < place[None, :]) & real[:, None] & real[None, :]
    better, worse = ordered.nonzero(as_tuple=True)
    number = batch.comparison - batch.comparison.min()
    responses, pairs = (torch.bincount(x)[number[better]] for x in (number, number[better]))
    weight = (responses - 1) / pairs
    return better, worse, weight.float().clamp(max=1.0)


def posterior(heads: PersonalHeads, h: Tensor, batch: RankedOfUsers, used: Tensor) -> Posterior:
    """q(z | the used comparisons) of each group of a batch, whose states are h `[B, d]`."""
    user = user_of(batch)
    better, worse, weight = told(batch, used)
    difference = h[better].float() - h[worse].float()
    return heads.posterior(difference, user[better], int(user.max()) + 1, weight)


def user_of(batch: Batch) -> Tensor:
    """`[B]`: which group each row belongs to, counted from 0."""
    return batch.group.unique_consecutive(return_inverse=True)[1]


def scores(head: nn.Linear, heads: PersonalHeads, h: Tensor, z: Tensor, user: Tensor) -> Tensor:
    """r(x, y, z) `[B]` of states h `[B, d]`, with z `[U, D]` and the user `[B]` of each row."""
    plain = head(h).squeeze(-1).float()
    return plain + (heads.direction(z)[user] * h.float()).sum(1)


def forward(model: PreTrainedModel, batch: Batch) -> Outputs:
    """`learner.Forward`: score `[B]` under one z that is drawn for each user from what the context tells, and `kl_i`
    `[B]`, the KL of dimension i of it to the prior."""
    assert isinstance(batch, RankedOfUsers)
    h, heads, user = states(model, batch.tokens, batch.lengths), heads_of(model), user_of(batch)
    q = posterior(heads, h, batch, batch.context)
    z = q.sample(noise(batch, heads.size).to(h.device))
    kl = to_standard_normal(*q)[user]
    named_kl = {f"kl_{i}": column for i, column in enumerate(kl.unbind(1))}
    return Outputs(score=scores(scalar_head(model), heads, h, z, user), **named_kl)


def noise(batch: RankedOfUsers, size: int) -> Tensor:
    """`[U, D]` from each user's seed alone, so that micro-batches and ranks change nothing."""
    first = batch.seed[batch.group.diff(prepend=batch.group[:1] - 1) != 0]
    rows = [torch.randn(size, generator=torch.Generator().manual_seed(s)) for s in first.tolist()]
    return torch.stack(rows)


def load_personal_heads(model: PreTrainedModel, name: str) -> PersonalHeads:
    """Add the heads of a folder to the reward model that was loaded from it. UserError where there are none."""
    path = Path(name) / PERSONAL_FILE
    if not path.is_file():
        raise UserError(
            f"{name} is a reward model for everybody; `heedful train reward --personal` makes one that asks who it is"
        )
    try:
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            size = int((file.metadata() or {})["dimensions"])
        heads = PersonalHeads(scalar_head(model).in_features, size)
        heads.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} does not belong to this reward model ({' '.join(str(error).split())[:200]})"
        ) from error
    _refuse_encoder(model)
    model.add_module(PERSONAL_HEADS, heads.to(model.device).requires_grad_(False))
    return heads


@torch.no_grad()
def fold_user(model: PreTrainedModel, z: Tensor) -> PreTrainedModel:
    """Put a user's z `[D]` into the scalar head, in place, and take the heads away: a reward model like any other."""
    head, heads = scalar_head(model), heads_of(model)
    head.weight.add_(heads.direction(z)[None].to(head.weight.dtype))
    delattr(model, PERSONAL_HEADS)
    return model


def _refuse_encoder(model: PreTrainedModel) -> None:
    if scores_of(model) is not at_last_token:
        raise UserError(
            f"{type(model).__name__} is not read at its last token, so that --personal has no state to build on; start "
            "from a decoder"
        )
