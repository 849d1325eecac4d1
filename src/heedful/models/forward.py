"""What heedful asks of a model: log-probs of given tokens, values of a head beside the output layer.

Batches are right-padded, so causal attention needs no padding mask: no real token can see what comes
after it. That keeps attention on its fast path and makes the pad id irrelevant. How a model is run is its backend's
affair (`models.backend`), which computes each distinct token that something needed depends on once, where it can.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful.fast.head import linear_head, lm_head, with_spare
from heedful.losses.kl import analytic
from heedful.models.backend import Hidden, backend_of
from heedful.models.reference import Reference
from heedful.models.sampling import log_policy
from heedful.types import Outputs, Sampling

# Logits of one chunk are at most this many numbers (256 MiB in float32), never [tokens × vocabulary].
CHUNK = 1 << 26
HEADS = "heedful_heads"  # in config.json of a model with several outputs: what they are, see `rewards.heads`
VALUE_HEAD = "value_head"  # the attribute under which a policy carries one, see `add_value_head`


def hidden_states(
    model: PreTrainedModel, tokens: Tensor, needed: Tensor, position_ids: Tensor | None = None
) -> Hidden:
    """See `models.backend.Backend.hidden`."""
    return backend_of(model).hidden(tokens, needed, position_ids)


def token_logps(
    model: PreTrainedModel,
    tokens: Tensor,
    mask: Tensor,
    sampling: Sampling | None = None,
    position_ids: Tensor | None = None,
) -> Tensor:
    """Log π(tokens[:, t+1] | tokens[:, ≤t]) where mask `[B, T]` is True, 0 elsewhere. tokens `[B, T+1]` → `[B, T]`.

    Logits exist only at masked positions, and only a piece of them at a time; what is too large to keep is
    computed again in the backward pass.
    """
    sampling = sampling or Sampling()
    positions = None if position_ids is None else position_ids[:, :-1]
    backend = backend_of(model)
    hidden, targets = backend.hidden(tokens[:, :-1], mask, positions).at(mask), tokens[:, 1:][mask]
    linear = linear_head(model)
    if linear and sampling.top_k == 0 and sampling.top_p == 1:  # π is a softmax and nothing more
        factor = linear[1] / (sampling.temperature or 1.0)
        return placed(mask, backend.logps(hidden, linear[0], targets, factor))
    head = lm_head(model)

    def logps(h: Tensor, y: Tensor) -> Tensor:
        return log_policy(head(h), sampling, keep=y).gather(1, y[:, None]).squeeze(1)

    return in_chunks(model, logps, mask, hidden, targets)


def policy_outputs(
    model: PreTrainedModel,
    tokens: Tensor,
    mask: Tensor,
    sampling: Sampling,
    *,
    reference: Reference | None = None,
) -> Outputs:
    """Log-probs and, of the same pass, the KL to a reference's next token and the values of a value head.

    The reference is tempered as the policy is, but not masked: see `losses.kl.analytic`.
    """
    value_head = getattr(model, VALUE_HEAD, None)
    if reference is None and value_head is None:
        return Outputs(logp=token_logps(model, tokens, mask, sampling))
    before, after = nn.functional.pad(mask, (0, 1)), nn.functional.pad(mask, (1, 0))
    hidden = hidden_states(model, tokens, before | after)
    head = lm_head(model)
    inputs = [hidden.at(before), tokens[:, 1:][mask]]
    if reference is not None:
        with torch.no_grad(), reference.active() as frozen:
            inputs.append(hidden_states(frozen, tokens[:, :-1], mask).at(mask))

    def about_next(h: Tensor, y: Tensor, ref: Tensor | None = None) -> Tensor:
        log_pi = log_policy(head(h), sampling, keep=y)
        chosen = log_pi.gather(1, y[:, None])
        if ref is None or reference is None:
            return chosen
        with torch.no_grad(), reference.active() as frozen:  # its head, too, may carry an adapter
            log_ref = log_policy(lm_head(frozen)(ref), Sampling(sampling.temperature))
        return torch.cat([chosen, analytic(log_pi, log_ref)[:, None]], -1)

    columns = in_chunks(model, about_next, mask, *inputs).unbind(-1)
    outputs = Outputs(zip(("logp", "kl"), columns, strict=False))
    if value_head is not None:
        values = value_head(hidden.states).float().index_select(0, hidden.index.flatten())
        outputs["value"] = values.view(tokens.shape)
    return outputs


def action_outputs(model: PreTrainedModel, tokens: Tensor, mask: Tensor) -> Outputs:
    """Of the tokens that the mask `[B, T]` names, all `[B, T]`: log π of each (`logp`), of the likeliest in its place
    (`top`), and the value head's of the state before (`value`). tokens `[B, T+1]`."""
    hidden = hidden_states(model, tokens[:, :-1], mask).at(mask)
    head, value_head = lm_head(model), getattr(model, VALUE_HEAD)

    def about_next(h: Tensor, y: Tensor) -> Tensor:
        log_pi = log_policy(head(h), Sampling())
        of_token = log_pi.gather(1, y[:, None])
        return torch.cat([of_token, log_pi.amax(-1, keepdim=True), value_head(h).float()], -1)

    columns = in_chunks(model, about_next, mask, hidden, tokens[:, 1:][mask])
    return Outputs(zip(("logp", "top", "value"), columns.unbind(-1), strict=True))


def distilled_outputs(
    model: PreTrainedModel, tokens: Tensor, mask: Tensor, lengths: Tensor, teacher: Reference
) -> Outputs:
    """`kl` `[B, T]`: KL(teacher(· | its row) ‖ π(· | its row)) of each token that the mask names.

    Rows 0, 2, … are the model's, which the mask names; rows 1, 3, … have as many tokens at their end, those of the
    same response, and are read by the teacher.
    """
    count = mask[0::2].sum(1)
    place = torch.arange(mask.shape[1], device=mask.device)
    end = (lengths[1::2] - 1)[:, None]
    theirs = torch.zeros_like(mask)
    theirs[1::2] = (place < end) & (place >= end - count[:, None])
    before = tokens[:, :-1]
    with torch.no_grad(), teacher.active() as frozen:
        told = hidden_states(frozen, before, theirs).at(theirs)
    hidden = hidden_states(model, before, mask).at(mask)
    head = lm_head(model)

    def apart(h: Tensor, ref: Tensor) -> Tensor:
        with torch.no_grad(), teacher.active() as frozen:
            wanted = log_policy(lm_head(frozen)(ref), Sampling())
        return analytic(wanted, log_policy(head(h), Sampling()))

    return Outputs(kl=in_chunks(model, apart, mask, hidden, told))


def in_chunks(
    model: PreTrainedModel, function: Callable[..., Tensor], mask: Tensor, *inputs: Tensor
) -> Tensor:
    """`function` of rows of the inputs `[N, …]`, chunk by chunk, set into zeros where the mask is True."""
    rows = max(1, CHUNK // model.config.get_text_config().vocab_size)
    given = with_spare(model, *inputs)
    pieces = []
    for part in zip(*(x.split(rows) for x in given), strict=True):
        if len(given[0]) > rows and torch.is_grad_enabled():
            pieces.append(checkpoint(function, *part, use_reentrant=False))
        else:
            pieces.append(function(*part))
    return placed(mask, torch.cat(pieces)[: len(inputs[0])])


def placed(mask: Tensor, found: Tensor) -> Tensor:
    """Rows `[N, …]`, one for each place where the mask `[B, T]` is True, set into zeros `[B, T, …]`."""
    placed = found.new_zeros(*mask.shape, *found.shape[1:], dtype=torch.float32)
    wide = mask.reshape(*mask.shape, *[1] * (found.ndim - 1)).expand_as(placed)
    return placed.masked_scatter(wide, found)


def scalar_head_name(model: PreTrainedModel) -> str | None:
    """What a sequence-classification model calls the linear layer that it ends in; None where there is none."""
    for name in ("score", "classifier", "classifier.out_proj"):
        try:
            head = model.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(head, nn.Linear):
            return name
    return None


def scalar_head(model: PreTrainedModel) -> nn.Linear:
    """The head of a sequence-classification model: one output, or one for each of several heads (`rewards.heads`)."""
    if (name := scalar_head_name(model)) is None:
        raise TypeError(f"{type(model).__name__} has no linear head named 'score' or 'classifier'")
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear)
    return head


def add_value_head(model: PreTrainedModel) -> None:
    """Give a policy a one-output head, which starts at 0, for a critic that shares the policy's body."""
    width = model.config.get_text_config().hidden_size
    head = nn.Linear(width, 1, device=model.device, dtype=model.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.add_module(VALUE_HEAD, head)
