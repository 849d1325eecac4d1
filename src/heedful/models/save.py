"""Models and tokenizers into folders of Hugging Face's form, which plain transformers and PEFT load."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.tokens import special_ids
from heedful.models.adapter_files import has_adapter, save_adapter
from heedful.models.folders import quiet
from heedful.models.forward import VALUE_HEAD, scalar_head_name

log = logging.getLogger("heedful")
_told: WeakSet[PreTrainedTokenizerBase] = WeakSet()  # whose lack of a pad token has been said
KEPT = "_heedful_kept"  # of a sharded model, which trains in float32: the type in which it is saved
VALUE_HEADS = "value_heads"  # the attribute under which a policy carries those of `models.values`
VALUES_FILE = "value_heads.safetensors"  # which plain transformers does not look at
PERSONAL_HEADS = "personal_heads"  # of a reward model: those of `models.personal`
PERSONAL_FILE = "personal_heads.safetensors"
BESIDE = (VALUE_HEADS, PERSONAL_HEADS)  # what has a `save` of its own


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    stop: Sequence[int] = (),
    weights: bool | Mapping[str, Tensor] = True,
) -> None:
    """Weights (safetensors), config, generation config, tokenizer and chat template into an existing folder.

    `stop` are ids at which responses end besides eos, so that other programs stop there too. Of a model with
    an adapter only that is saved, as PEFT does. Without `weights` of a whole model everything but these; or they are
    given, gathered from elsewhere.
    """
    given = weights if isinstance(weights, Mapping) else None
    _settle_ids(model, tokenizer, stop)
    if has_adapter(model):
        save_adapter(model, folder, given)
    else:
        with quiet():
            own = {} if given is not None or not weights else saved_weights(model)
            model.save_pretrained(folder, state_dict={**own, **(given or {})})
            if kept := getattr(model, KEPT, None):  # transformers wrote down the type of training
                model.config.dtype = kept
                model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in BESIDE if weights else ():
        if (heads := getattr(model, name, None)) is not None:
            heads.save(folder)


def saved_weights(model: PreTrainedModel) -> dict[str, Any]:
    """What is saved of a whole model: not the heads that stand beside it, which are no part of it."""
    beside = tuple(f"{name}." for name in (VALUE_HEAD, *BESIDE))
    return {k: v for k, v in model.state_dict().items() if not k.startswith(beside)}


def _settle_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: Sequence[int]
) -> None:
    """End and pad of tokenizer, config and generation config agree, in place."""
    ends, scores = [tokenizer.eos_token_id, *stop], scalar_head_name(model) is not None
    if scores:
        _pad_that_ends_nothing(model, tokenizer, ends)
    # transformers finds a sequence's end by the pad id, so saved reward models must carry it. Of a language model
    # nn.Embedding would give the pad's row no gradient, which the end of a response needs.
    pad = tokenizer.pad_token_id if scores or tokenizer.pad_token_id not in ends else None
    for config in (model.config, model.config.get_text_config()):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, pad
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        generation.eos_token_id = _ends(generation, tokenizer, stop)
        generation.pad_token_id = tokenizer.pad_token_id
        mend_generation_config(generation)


def _pad_that_ends_nothing(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Sequence[Any]
) -> None:
    """Give a reward model's tokenizer a pad token that ends no response, if it has none.

    transformers scores at the last token that is not the pad token: with pad = eos that is the one before the end.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return
    rows = len(model.get_input_embeddings().weight)  # type: ignore[union-attr]
    named = [tokenizer.unk_token_id, *sorted(special_ids(tokenizer)), tokenizer.bos_token_id]
    usable = [i for i in named if i is not None and i not in ends and i < rows]
    if tokenizer.bos_token_id in usable[:-1]:  # last, since it begins prompts
        usable.remove(tokenizer.bos_token_id)
    usable.sort(key=lambda i: "pad" not in str(tokenizer.convert_ids_to_tokens(i)).lower())
    if not usable:
        if tokenizer not in _told:  # at the first state that is saved, and not at each
            _told.add(tokenizer)
            log.warning(
                "the tokenizer has no token that could pad and ends no response, so plain transformers will score "
                "this reward model at another token than heedful; add a pad token to the tokenizer"
            )
        return
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(usable[0])
    log.warning(
        "the reward model pads with %s, since transformers looks for a response's end by the pad token",
        tokenizer.pad_token,
    )


def mend_generation_config(generation: GenerationConfig) -> None:
    """Make what transformers would refuse to save valid, in place, as its own message recommends, and say so.

    Many published models have a temperature without `do_sample`, which they mean; whatever else has no effect goes.
    """
    if (trouble := _trouble(generation)) is None:
        return
    before = generation.to_dict()
    # Who says do_sample: false, or a temperature of 0, means greedy decoding: there the others go.
    if generation.do_sample is None and generation.temperature != 0 and "do_sample" in trouble:
        generation.do_sample = True
        trouble = _trouble(generation)
    usual = GenerationConfig()
    if trouble is not None:
        for name in re.findall(r"^- `(\w+)`", trouble, re.MULTILINE):
            setattr(generation, name, getattr(usual, name, None))
        trouble = _trouble(generation)
    if trouble is not None:  # nothing of it can be trusted but where it stops
        kept = {k: before[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
        generation.__dict__.update(vars(GenerationConfig(**kept)))
    after = generation.to_dict()
    changed = [
        f"{k} is {after.get(k)}" for k in sorted(before | after) if before.get(k) != after.get(k)
    ]
    log.warning(
        "generation_config.json would be refused by transformers and is saved mended: %s",
        ", ".join(changed),
    )


def _trouble(generation: GenerationConfig) -> str | None:
    try:
        generation.validate(strict=True)
    except ValueError as error:
        return str(error)
    return None


def _ends(
    generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase, stop: Sequence[int]
) -> Any:
    """eos, `stop`, and where the base stopped already if that is a special token still: one id, or several."""
    before = generation.eos_token_id
    before = before if isinstance(before, list) else [before]
    special, known = special_ids(tokenizer), len(tokenizer)
    if unknown := [i for i in before if isinstance(i, int) and i >= known]:
        log.warning(
            "generation_config.json stops at %s, which the tokenizer of %d tokens does not have: left out on saving",
            ", ".join(map(str, unknown)),
            known,
        )
    ids = dict.fromkeys([tokenizer.eos_token_id, *stop, *(i for i in before if i in special)])
    return list(ids) if len(ids) > 1 else tokenizer.eos_token_id
