"""Checks of the weights themselves, without a forward pass: ties, rows that never learnt, rounding of updates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heedful.data.tokens import eos_id, special_ids
from heedful.doctor.context import Context, render
from heedful.doctor.finding import Finding, failed, graded, passed, quoted, warned
from heedful.errors import UserError
from heedful.types import Message

ENTRIES = 10_000  # of each matrix are looked at


def ties(context: Context) -> Finding:
    """Embedding and output layer are one tensor exactly where the config says so."""
    model = context.model
    into: Any = model.get_input_embeddings()
    out: Any = model.get_output_embeddings()
    if out is None:
        return failed("the model has no output layer", "use a causal language model")
    if len(into.weight) != len(out.weight):
        return failed(
            f"the embedding has {len(into.weight):,} rows, the output layer {len(out.weight):,}",
            "model.resize_token_embeddings() resizes both",
            float(len(into.weight) - len(out.weight)),
        )
    says = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    is_ = into.weight.data_ptr() == out.weight.data_ptr()
    if says and not is_:
        return failed(
            "the config ties embedding and output layer, but they are two tensors",
            "model.tie_weights(), or set tie_word_embeddings to false: saving would lose one of them",
            1.0,
        )
    if is_ and not says:
        return warned(
            "embedding and output layer are one tensor, though the config does not say so",
            "set tie_word_embeddings to true in config.json",
            1.0,
        )
    return passed(f"embedding and output layer are {'one tensor' if is_ else 'two tensors'}", 0.0)


@torch.no_grad()
def control_tokens_learnt(context: Context) -> Finding:
    """The control tokens of prompts and responses have rows of their own that were trained."""
    model, tok = context.model, context.tokenizer
    used = _control_tokens(context)
    tables: dict[str, Any] = {"embedding": model.get_input_embeddings()}
    if getattr(model.get_output_embeddings(), "weight", None) is not tables["embedding"].weight:
        tables["output layer"] = model.get_output_embeddings()
    for where, table in tables.items():
        if table is None:
            continue
        used = [i for i in used if i < len(table.weight)]
        norms = table.weight.float().norm(dim=1)
        weak = [i for i in used if norms[i] < 1e-3 * norms.median()]
        if weak:
            name = quoted(str(tok.convert_ids_to_tokens(weak[0])))
            return warned(
                f"{len(weak)} of {len(used)} control tokens in use have untrained rows in the {where}, "
                f"such as {name}",
                "fine-tune with the whole embedding, or use a template with tokens the model knows",
                float(len(weak)),
            )
        rows = table.weight[used]
        twins = len(used) - len(torch.unique(rows, dim=0))
        if twins:
            return warned(
                f"{twins} of {len(used)} control tokens in use share a row in the {where} with another",
                "the model cannot tell them apart until they are trained: fine-tune first",
                float(twins),
            )
    return passed(f"all {len(used)} control tokens in use have rows of their own", 0.0)


@torch.no_grad()
def rounding(context: Context) -> Finding:
    """A step of the learning rate is not lost to rounding in the weights' type."""
    rate, changed, total = context.learning_rate, 0, 0
    for p in context.model.parameters():
        if p.ndim < 2:
            continue
        step = max(1, p.numel() // ENTRIES)
        w: Tensor = p.detach().flatten()[::step]
        changed += int((w + rate != w).sum())
        total += len(w)
    lost = 1 - changed / max(1, total)
    dtype = str(context.model.dtype).removeprefix("torch.")
    return graded(
        f"a step of {rate:g} leaves {100 * lost:.0f} % of the {dtype} weights unchanged",
        lost,
        warn=0.1,
        fail=0.9,
        remedy="train with --dtype float32, or with a higher --learning-rate",
    )


def _control_tokens(context: Context) -> list[int]:
    """Special ids that a chat or the end of a response has, and that somebody must have learnt."""
    tok = context.tokenizer
    ids: set[int] = set() if tok.eos_token_id is None else {eos_id(tok)}
    if tok.chat_template:
        try:
            turns = (Message("user", "Why?"), Message("assistant", "So."))
            text = render(tok, turns) + render(tok, turns[:1], generate=True)
            ids |= set(tok(text, add_special_tokens=False)["input_ids"])
        except UserError:
            pass
    return sorted(ids & special_ids(tok))
