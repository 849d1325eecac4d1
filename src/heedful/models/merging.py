"""Adapters added to the weights they stand beside: the merged model is the same model, or is refused.

Small models tie the output layer to the embedding. An adapter on one of them, or a copy of one that was trained whole
(PEFT's modules_to_save), makes them two: merged into the shared tensor it would change both.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.errors import UserError
from heedful.models.adapter_files import adapter_of, has_adapter, need_peft
from heedful.models.quantised import is_nf4

PROBES = 16  # tokens of the text on which the model is compared before and after


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Add the adapter to the weights it stands beside, in place, and take PEFT's layers out again.

    The model is a plain one afterwards, to be trained as a whole; one without an adapter stays as it is. UserError
    where the merged model would be another one.
    """
    if not has_adapter(model):
        return model
    if is_nf4(model):
        raise UserError(
            f"an adapter on {model.name_or_path} in four bits cannot be merged into four bits; heedful merge writes a "
            "whole model, to be named in its place"
        )
    before = probe(model)
    try:
        tied = _untie(model)
        _unload(model, adapter_of(model))
        del model.peft_config
        model._hf_peft_config_loaded = False
        if tied:
            _tie_if_equal(model)
    except Exception as error:  # PEFT's own: weights that are not finite, kinds it cannot merge
        raise UserError(
            f"the adapter cannot be merged into {model.name_or_path}: {type(error).__name__}: {error}"
        ) from error
    _refuse_another(model, before, probe(model))
    return model.requires_grad_(True)


def whole(model: PreTrainedModel) -> PreTrainedModel:
    """The model with the names of a plain one: itself, or a merged copy where it carries an adapter."""
    return merged_copy(model) if has_adapter(model) else model


def merged_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A whole model with the adapter's weights in it; the model itself goes on with its adapter."""
    return merge(copy.deepcopy(model)).requires_grad_(False)


def _unload(model: PreTrainedModel, which: str) -> None:
    """Merge adapter `which` and put plain layers in the places of PEFT's, outermost first."""
    need_peft()
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    done: list[str] = []
    for name, module in list(model.named_modules()):
        if any(name.startswith(f"{outer}.") for outer in done):
            continue
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True, adapter_names=[which])
            plain: Any = module.get_base_layer()
        elif isinstance(module, AuxiliaryTrainingWrapper):
            plain = module.unload_and_optionally_merge_module(True, True, [which])
        else:
            continue
        model.set_submodule(name, plain)
        done.append(name)


def _untie(model: PreTrainedModel) -> bool:
    """Give the output layer weights of its own where it shares them with the embedding and an adapter is on either.

    Returns whether they were shared.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    into, out = (_plain(layer) for layer in layers)
    if out is None or into.weight is not out.weight:
        return False
    if any(isinstance(layer, BaseTunerLayer | ModulesToSaveWrapper) for layer in layers):
        out.weight = nn.Parameter(out.weight.detach().clone())
    return True


def _plain(layer: Any) -> Any:
    """The layer inside PEFT's."""
    while layer is not None:
        inner = getattr(layer, "base_layer", None) or getattr(layer, "original_module", None)
        inner = inner or getattr(layer, "token_adapter", None)
        if inner is None:
            return layer
        layer = inner
    return None


def _tie_if_equal(model: PreTrainedModel) -> None:
    """What was tied stays one tensor where it is still the same; else the config says that it is two."""
    into: Any = model.get_input_embeddings()
    out: Any = model.get_output_embeddings()
    if torch.equal(into.weight, out.weight):
        out.weight = into.weight
        return
    untie(model)


def untie(model: PreTrainedModel) -> None:
    """Have the config say that embedding and output layer are two tensors, as readers of what is saved go by it."""
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


@torch.no_grad()
def probe(model: PreTrainedModel) -> Tensor:
    """Log-probs after each token of a text from all over the vocabulary, or the scores of it."""
    rows = len(model.get_input_embeddings().weight)  # type: ignore[union-attr]
    ids = torch.linspace(0, rows - 1, PROBES, device=model.device).long()[None]
    cached = getattr(model.config, "use_cache", None) is not None  # encoders take no such word
    logits = model(input_ids=ids, **({"use_cache": False} if cached else {})).logits.float()
    # Scores are of a text, logits of each token: inside PEFT's wrapper a head has no name that we know.
    return logits if logits.ndim == 2 else logits.log_softmax(-1)


def rounding(model: PreTrainedModel, outputs: Tensor) -> float:
    """How far outputs may be off by rounding: it may take half of their digits, which is much; of another model's
    there are none left."""
    return torch.finfo(model.dtype).eps ** 0.5 * float(outputs.abs().max().clamp(min=1))


def _refuse_another(model: PreTrainedModel, before: Tensor, after: Tensor) -> None:
    allowed = rounding(model, before)
    off = float((after - before).abs().max())
    if not off <= allowed:
        raise UserError(
            f"the adapter cannot be merged into {model.name_or_path}: the merged model would be another one, whose "
            f"log-probs differ by {off:.2g} where rounding explains {allowed:.2g}; use the adapter as it is, with "
            "--lora.rank of its own rank"
        )
