"""Heads that say what a token is worth, beside a policy's output layer, and a policy that listens to them (ILQL).

They stand on the policy's last hidden states: Q of every next token, twice, and V. In a model's folder they are a file
of their own, `value_heads.safetensors`, which plain `transformers` does not look at: the folder is the policy alone to
it. `load_steered` adds β(min Q̂ − V) to the logits, wherever these are asked for.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.errors import UserError
from heedful.fast.head import linear_head, lm_head
from heedful.models.forward import hidden_states, in_chunks
from heedful.models.load import load_policy
from heedful.models.sampling import log_policy
from heedful.models.save import VALUE_HEADS, VALUES_FILE
from heedful.types import Outputs, Sampling

COLUMNS = ("logp", "q1", "q2", "target", "v", "chosen1", "chosen2")  # what `value_outputs` gives


class ValueHeads(nn.Module):
    """Two Qs and V of hidden states, in float32 whatever the model is in; `target1` and `target2` follow the Qs slowly.

    Each is a layer of twice the width, ReLU, and an output layer, as in ILQL's code.
    """

    def __init__(self, width: int, vocabulary: int, beta: float):
        super().__init__()
        self.beta = beta  # of decoding, kept with them
        self.q1, self.q2 = (_mlp(width, vocabulary) for _ in range(2))
        self.target1, self.target2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.v = _mlp(width, 1)
        self.target1.requires_grad_(False)
        self.target2.requires_grad_(False)

    def target(self, h: Tensor) -> Tensor:
        """The smaller of the target Qs: hidden states `[N, d]` → `[N, V]`."""
        return torch.minimum(self.target1(h), self.target2(h))

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Polyak averaging: the targets move by a share of the way to the Qs."""
        for targets, qs in ((self.target1, self.q1), (self.target2, self.q2)):
            for target, q in zip(targets.parameters(), qs.parameters(), strict=True):
                target.lerp_(q, share)

    def save(self, folder: Path) -> None:
        """What decoding reads: V and the target Qs; the Qs themselves are no better and as large."""
        weights = self.state_dict().items()
        kept = {k: x.contiguous() for k, x in weights if not k.startswith(("q1.", "q2."))}
        # One entry: safetensors writes several in any order, and equal values are to be equal files.
        save_file(kept, folder / VALUES_FILE, metadata={"beta": repr(self.beta)})


def _mlp(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, outputs))


def add_value_heads(model: PreTrainedModel, seed: int, beta: float) -> ValueHeads:
    """Give a policy heads, drawn from a seed; they are trained with it, and saved beside it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = ValueHeads(*_sizes(model), beta).to(model.device)
    model.add_module(VALUE_HEADS, heads)
    return heads


def _sizes(model: PreTrainedModel) -> tuple[int, int]:
    """Width of the hidden states, tokens of the output layer."""
    out = model.get_output_embeddings()
    assert out is not None
    return model.config.get_text_config().hidden_size, len(out.weight)  # type: ignore[arg-type]


def value_outputs(model: PreTrainedModel, tokens: Tensor, mask: Tensor) -> Outputs:
    """Of one pass, all `[B, T]`: log π of the tokens that were written, and what `losses.values.TokenValues` holds.
    tokens `[B, T+1]`, mask `[B, T]`."""
    heads, head = getattr(model, VALUE_HEADS), lm_head(model)
    hidden = hidden_states(model, tokens[:, :-1], mask).at(mask)

    def about_next(h: Tensor, y: Tensor) -> Tensor:
        log_pi, wide = log_policy(head(h), Sampling(), keep=y), h.float()
        q1, q2 = heads.q1(wide), heads.q2(wide)
        with torch.no_grad():
            target = heads.target(wide)
        tables = (log_pi, q1, q2, target, q1.log_softmax(-1), q2.log_softmax(-1))
        logp, *of_token = (x.gather(1, y[:, None]) for x in tables)
        return torch.cat([logp, *of_token[:3], heads.v(wide), *of_token[3:]], -1)

    columns = in_chunks(model, about_next, mask, hidden, tokens[:, 1:][mask])
    return Outputs(zip(COLUMNS, columns.unbind(-1), strict=True))


class SteeredHead(nn.Module):
    """An output layer whose logits are the policy's and β(min Q̂ − V): hidden states `[…, d]` → `[…, V]`."""

    def __init__(self, head: nn.Linear, heads: ValueHeads):
        super().__init__()
        self.head, self.heads = head, heads

    @property
    def weight(self) -> Tensor:
        return self.head.weight

    def forward(self, h: Tensor) -> Tensor:
        wide = h.float()
        advantages = self.heads.target(wide) - self.heads.v(wide)
        return self.head(h).float() + self.heads.beta * advantages


def load_steered(name: str, *, beta: float | None = None, device: str = "cpu") -> PreTrainedModel:
    """The policy of a folder, steered by the values that stand beside it: to be sampled from, not to be trained.

    β is what it was trained with where none is given; 0 is the policy alone, and so is a folder without values.
    UserError where a β is given and there are none.
    """
    model, path = load_policy(name, device=device), Path(name) / VALUES_FILE
    if not path.is_file():
        if beta:
            raise UserError(
                f"--value-weight: {name} has no values; `heedful train ilql` learns them"
            )
        return model
    if beta == 0:
        return model
    heads = _load(model, path)
    heads.beta = heads.beta if beta is None else beta
    if not heads.beta:
        return model
    if (linear := linear_head(model)) is None or linear[1] != 1:
        raise UserError(
            f"{name} ({model.config.model_type}) changes its logits behind the output layer, where values cannot be "
            "added; --value-weight 0 samples from the policy alone"
        )
    model.set_output_embeddings(SteeredHead(linear[0], heads.to(model.device)))
    return model.eval()


def _load(model: PreTrainedModel, path: Path) -> ValueHeads:
    """The heads of a file, both Qs as their targets are."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            heads = ValueHeads(*_sizes(model), float((file.metadata() or {})["beta"]))
        targets = {f"q{k[6:]}": x for k, x in weights.items() if k.startswith("target")}
        heads.load_state_dict({**weights, **targets})
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} holds no values of this model ({' '.join(str(error).split())[:200]}); --value-weight 0 does "
            "without them"
        ) from error
    if not math.isfinite(heads.beta):
        raise UserError(f"{path}: the weight of the values is {heads.beta}")
    return heads.requires_grad_(False)
