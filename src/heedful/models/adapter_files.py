"""Adapters as PEFT keeps them: from a folder onto a model, and from a model into a folder.

Such a folder holds adapter_model.safetensors, adapter_config.json and no config.json: with one,
transformers would look for the whole model's weights in the same place. The model keeps its class: PEFT's
layers stand inside it, so everything that runs it sees the adapter without knowing of it.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import find_adapter_config_file

from heedful.disk import folders_meant
from heedful.errors import UserError
from heedful.models.forward import HEADS, scalar_head, scalar_head_name

CONFIG = "adapter_config.json"
NOTES = "heedful.json"  # what a whole model would have in its config.json, such as a reward's shift
TRAINED = "default"  # PEFT's own name for the only adapter
START = "start"  # the adapter that a folder brought; it is never trained
PREFIX = "base_model.model."  # of every key in PEFT's files
# The attribute of a model: names of weights of the base's own, such as embeddings of added tokens, that its adapter's
# folder brought, and that belong into every folder it is saved to.
BROUGHT = "heedful_brought"


def need_peft() -> ModuleType:
    """PEFT, which is imported only where there is an adapter."""
    try:
        import peft
    except ImportError:
        raise UserError("adapters need the package peft: pip install 'heedful[lora]'") from None
    return peft


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether PEFT's layers stand in the model."""
    return bool(getattr(model, "peft_config", None))


def adapter_of(model: PreTrainedModel) -> str:
    """The name of the adapter that counts: the trained one, or the one from a folder where none is trained."""
    return TRAINED if TRAINED in model.peft_config else START


def adapter_base(model: PreTrainedModel) -> str | None:
    """The base model that the model's adapter stands on; None for a whole model."""
    return (
        model.peft_config[adapter_of(model)].base_model_name_or_path if has_adapter(model) else None
    )  # type: ignore[union-attr]


def base_of(name: str) -> str | None:
    """The base model that the adapter in folder (or hub repository) `name` belongs to; None if it is a whole model."""
    folder = Path(name)
    if (folder / "config.json").exists():
        if not (folder / CONFIG).exists():
            return None
        if any(
            folder.glob("model*.safetensors")
        ):  # transformers would load the adapter, on its own base
            raise UserError(
                f"{name} holds a whole model and an adapter beside it; put one of them into a folder of its own"
            )
    config_file = find_adapter_config_file(name)
    if config_file is None:
        return None
    need_peft()
    base = json.loads(Path(config_file).read_text(encoding="utf-8")).get("base_model_name_or_path")
    mend = f"write its place into base_model_name_or_path of {name}/{CONFIG}"
    if not base:
        raise UserError(f"the adapter {name} does not say which base model it belongs to; {mend}")
    places = folders_meant(base, folder)
    if len(places) > 1:
        raise UserError(
            f"the base model of the adapter {name}, {base}, may be {' or '.join(map(str, places))}; {mend}"
        )
    base = str(places[0]) if places else base
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise UserError(f"the base model of the adapter {name} is not at {base}; {mend}")
    if (Path(base) / CONFIG).exists() and not (Path(base) / "config.json").exists():
        raise UserError(
            f"the base model of the adapter {name} is itself an adapter; make {base} a whole model "
            "first: heedful merge"
        )
    return base


def inject(model: PreTrainedModel, config: Any, adapter: str) -> None:
    """PEFT's layers in place of the linear ones that `config` names; a second adapter goes beside the first.

    On weights of low precision the adapter's are float32: they are few, and the only ones that move.
    """
    peft = need_peft()
    from peft.tuners.tuners_utils import cast_adapter_dtype

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the second, and that GPT-2 transposes weights
        peft.inject_adapter_in_model(config, model, adapter)
    cast_adapter_dtype(model, adapter)
    model._hf_peft_config_loaded = True


def attach(model: PreTrainedModel, name: str) -> tuple[set[str], set[str]]:
    """Put the adapter of folder `name` onto its base, frozen.

    A scalar head that comes with it takes the place of the base's, and embeddings with more rows, of tokens that were
    added for it, the place of the base's too. Returns the keys that the folder brought besides the adapter's, and
    those that fit nowhere in this model.
    """
    peft = need_peft()
    config = peft.PeftConfig.from_pretrained(name)
    weights = adapter_weights(name)
    _resize_embeddings(model, weights, name)
    head = scalar_head_name(model)
    head_keys = {k for k in weights if head and k.startswith(f"{head}.")}
    # PEFT would wrap the head and keep the old one beside the new; one head is enough.
    aside = [m for m in config.modules_to_save or () if m not in ("score", "classifier")]
    config.modules_to_save = aside or None
    inject(model, config, START)
    # Where a trained token's output row is its embedding, a file with all rows of both has that one twice.
    twice = tuple(f"{n}.token_adapter." for n, m in model.named_modules() if _follows_embedding(m))
    weights = {k: v for k, v in weights.items() if not k.startswith(twice)}
    model.load_state_dict({k: weights.pop(k) for k in head_keys}, strict=False)
    setattr(model, BROUGHT, sorted(weights.keys() & model.state_dict().keys()))
    result = peft.set_peft_model_state_dict(model, weights, adapter_name=START)
    if missing := [k for k in result.missing_keys if f".{START}." in k]:
        raise UserError(f"the adapter {name} holds no weights for {', '.join(missing[:3])}")
    notes = Path(name) / NOTES
    if notes.exists():
        for key, value in json.loads(notes.read_text(encoding="utf-8")).items():
            setattr(model.config, key, value)
    model.requires_grad_(False)
    return head_keys, set(result.unexpected_keys)


def _follows_embedding(module: Any) -> bool:
    """Whether `module` is PEFT's wrapper of a tied output layer, which has no trained tokens of its own."""
    return getattr(getattr(module, "token_adapter", None), "tied_adapter", None) is not None


def adapter_weights(name: str) -> dict[str, Tensor]:
    """What is in an adapter's file, by the names that the weights have in a plain model.

    Of embeddings that were trained whole and have added rows PEFT writes the insides of its wrapper besides, which
    nobody reads.
    """
    weights = need_peft().load_peft_weights(name, device="cpu")
    inside = (".modules_to_save.", ".original_module.")
    return {
        k.removeprefix(PREFIX): v
        for k, v in weights.items()
        if not any(part in k for part in inside)
    }


def scores(name: str) -> bool:
    """Whether the adapter `name` is one of a reward model."""
    if need_peft().PeftConfig.from_pretrained(name).task_type == "SEQ_CLS":
        return True
    return any(key.startswith(("score.", "classifier.")) for key in adapter_weights(name))


def outputs(name: str) -> int:
    """Of how many outputs the head is that comes with the adapter of a reward model."""
    notes = Path(name) / NOTES
    told = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    return told.get(HEADS, {}).get("outputs", 1)


def _resize_embeddings(model: PreTrainedModel, weights: Mapping[str, Tensor], name: str) -> None:
    """As many rows in embedding and output layer as the adapter's own have, all of which it must bring."""
    layers = {id(m): m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m}
    names = [n for n, m in model.named_modules() if id(m) in layers]
    rows = {
        layer: {
            len(weights[key])
            for inside in ("", "base_layer.", "token_adapter.base_layer.")
            if (key := f"{layer}.{inside}weight") in weights
        }
        for layer in names
    }
    wanted = {n for sizes in rows.values() for n in sizes}
    before = len(model.get_input_embeddings().weight)  # type: ignore[union-attr]
    if wanted <= {before}:
        return
    tied = len({id(m.weight) for m in layers.values()}) == 1
    lacking = [layer for layer, sizes in rows.items() if not sizes]
    if len(wanted) > 1 or (lacking and not tied):
        raise UserError(
            f"the adapter {name} was made for {max(wanted)} tokens and its base has {before}, but it does not bring "
            f"the added rows of {lacking[0] if lacking else ' and '.join(names)}; save it again with "
            "save_embedding_layers=True"
        )
    with torch.random.fork_rng(devices=[]):
        model.resize_token_embeddings(wanted.pop(), mean_resizing=False)


def of_adapter(name: str) -> bool:
    """Whether a weight of this name is an adapter's that is trained, which is float32 in any run."""
    return f".{TRAINED}." in f".{name}."


def save_adapter(
    model: PreTrainedModel, folder: Path, given: Mapping[str, Tensor] | None = None
) -> None:
    """The adapter, with the scalar head where there is one, so that `PeftModel.from_pretrained` gives the same.

    `given` are all of the model's weights where it has parts of them only; an empty one writes none.
    """
    peft, which = need_peft(), adapter_of(model)
    state = model.state_dict() if given is None else given
    weights = peft.get_peft_model_state_dict(
        model, state_dict=dict(state), adapter_name=which, save_embedding_layers=False
    )
    config: Any = copy.deepcopy(model.peft_config[which])
    if brought := getattr(model, BROUGHT, ()):
        weights |= {key: state[key] for key in brought if key in state}
    if head := scalar_head_name(model):
        names = (f"{head}.{k}" for k in scalar_head(model).state_dict())
        weights |= {name: state[name] for name in names if name in state}
        config.modules_to_save = [*(config.modules_to_save or ()), head]
    config.inference_mode = True
    if not isinstance(config.target_modules, str):  # a set, whose order differs from run to run
        config.target_modules = sorted(config.target_modules or ())
    # Copies: tied weights under two names would be refused.
    tensors = {PREFIX + k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))
    notes = {k: v for k, v in vars(model.config).items() if k.startswith("heedful_")}
    if notes:
        (folder / NOTES).write_text(json.dumps(notes) + "\n", encoding="utf-8")
