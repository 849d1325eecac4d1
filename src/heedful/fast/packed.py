"""Every token once: dense layers see the tokens of a batch in one row `[1, N]`, only attention sees sequences.

Every decoder of `transformers` that attends through its attention interface can be run so; `can_pack` tries it on the
model itself and the others keep their padded rows.
"""

from __future__ import annotations

from contextvars import ContextVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from heedful import trial
from heedful.fast.attention import attend
from heedful.fast.layout import Layout, lay_out

NAME = "heedful"  # of the attention; given anything but `Layout` it is transformers' own "sdpa"


def attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """query `[1, H, N, d]`, key and value `[1, K, N, d]` → `[1, N, H, d]`, as transformers' interface wants it."""
    if not isinstance(attention_mask, Layout):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    if unknown := [k for k in ("softcap", "s_aux", "position_bias") if kwargs.get(k) is not None]:
        raise NotImplementedError(f"packed attention with {', '.join(unknown)}")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = scaling or q.shape[2] ** -0.5
    return attend(q, k, v, attention_mask, scale, kwargs.get("sliding_window"))[None], None


_current: ContextVar[Layout | None] = ContextVar("layout", default=None)


def _mask(*args, **kwargs):
    """What a model hands to its layers as their mask: the layout, so that it reaches every architecture's attention."""
    layout = _current.get()
    return sdpa_mask(*args, **kwargs) if layout is None else layout


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)


def packed_hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Last hidden states `[M, d]` of the tokens that are read; `can_pack` says whether a model can do it."""
    token = _current.set(layout)
    try:
        out = trial.body(model)(
            input_ids=layout.tokens[None], position_ids=layout.positions[None], use_cache=False
        )
    finally:
        _current.reset(token)
    return out.last_hidden_state[0].index_select(0, layout.read)


_can_pack: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def can_pack(model: PreTrainedModel) -> bool:
    """Whether the model gives the same hidden states packed as row by row: tried once on made-up tokens (`trial`).

    Models without transformers' attention interface, and those whose tokens meet elsewhere too (recurrences,
    convolutions, alibi), do not.
    """
    packs = _can_pack.get(model)
    if packs and model.config.get_text_config()._attn_implementation != NAME:
        packs = None  # somebody has chosen another attention since
    if packs is None:
        # Layers that mix tokens otherwise, however little, might escape a trial.
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        attends = kinds <= {"full_attention", "sliding_attention"}
        packs = attends and _switch(model, NAME) and _agrees(model)
        if not packs:
            _switch(model, "sdpa")  # does nothing to a model that attends in a third way
        _can_pack[model] = packs
    return packs


def _switch(model: PreTrainedModel, name: str) -> bool:
    """Let the model attend by `name`, from now on: layers that are checkpointed ask again in the backward pass."""
    configs = [model.config, model.config.get_text_config()]
    if any(c._attn_implementation not in ("sdpa", NAME) for c in configs):
        return False
    for config in configs:
        config._attn_implementation = name
    return True


@torch.no_grad()
def _agrees(model: PreTrainedModel) -> bool:
    """Rows of unlike lengths, two of which begin alike, in one row and each by itself."""
    try:
        plain = trial.plainly(model, trial.states(model))
        ids = pad_sequence(plain.rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in plain.rows], device=ids.device)
        needed = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        layout = lay_out(ids, needed)
        packed = packed_hidden(model, layout)
        found = [packed[i[:n]] for i, n in zip(layout.index, lengths.tolist(), strict=True)]
        gaps = [plain.gap(i, 0, states) for i, states in enumerate(found)]
        return plain.sound and max(gaps) <= plain.bound
    except Exception:  # whatever an architecture says to a mask it does not know
        return False
