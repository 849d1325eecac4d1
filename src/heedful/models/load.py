"""Models and tokenizers from and to Hugging Face folders; refuses what would fail silently later."""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from heedful.errors import UserError
from heedful.fast import process
from heedful.models.adapter_files import CONFIG, attach, base_of, has_adapter, save_adapter
from heedful.models.forward import VALUE_HEAD, lm_head, scalar_head

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name; an adapter without one speaks its base's."""
    name = str(name)
    with _errors_about(name, "tokenizer"):
        base = None if (Path(name) / "tokenizer_config.json").exists() else base_of(name)
        # For some architectures (Qwen2) AutoTokenizer believes the family's own class rather than the folder,
        # and splits text otherwise than the tokenizer that was saved.
        kind = PreTrainedTokenizerFast if _is_generic(Path(base or name)) else AutoTokenizer
        tokenizer = kind.from_pretrained(base or name)
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {name} has no eos token, so no response could ever end; "
            "set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def _is_generic(folder: Path) -> bool:
    """Whether tokenizer.json is all that the folder's tokenizer is, as in those that were trained on the spot."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return said.get("tokenizer_class") == "TokenizersBackend"


def load_policy(
    name: str | Path, *, dtype: str = "float32", device: str = "cpu"
) -> PreTrainedModel:
    """A causal language model in evaluation mode: dropout stays off, in sampling and in updates alike."""
    name = str(name)
    model, missing = _load(AutoModelForCausalLM, "causal language model", name, dtype)
    if missing:
        raise UserError(
            f"{name} holds no weights for {', '.join(missing[:3])}: it is no complete "
            "causal language model (a reward model, perhaps?)"
        )
    model = model.to(device).eval()
    _check_head(model, name)
    return model


def new_reward_model(
    name: str, *, seed: int, dtype: str = "float32", device: str = "cpu"
) -> PreTrainedModel:
    """A language model's body under a new one-output head, drawn from N(0, 1/(d+1)) as in Stiennon et al. 2020."""
    kind = "model for sequence classification"
    model, _ = _load(AutoModelForSequenceClassification, kind, name, dtype, num_labels=1)
    head = scalar_head(model)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(head.weight.shape, generator=generator)
    with torch.no_grad():
        head.weight.copy_(noise / (head.in_features + 1) ** 0.5)
    return model.to(device).eval()


def load_reward_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """A trained reward model; one whose head would have to be invented on loading is refused."""
    model, missing = _load(AutoModelForSequenceClassification, "reward model", name, dtype)
    if missing:
        raise UserError(
            f"{name} is no reward model: its scalar head ({', '.join(missing[:2])}) is not in "
            "its weights and would be random; train one with `heedful train reward`"
        )
    if model.config.num_labels != 1:
        raise UserError(
            f"{name} classifies into {model.config.num_labels} labels; a reward model has exactly one"
        )
    return model.to(device).eval()


def copy_model(model: PreTrainedModel) -> PreTrainedModel:
    """A frozen twin, e.g. the reference of a policy."""
    twin = copy.deepcopy(model).eval()
    return twin.requires_grad_(False)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    stop: Sequence[int] = (),
) -> None:
    """Weights (safetensors), config, generation config, tokenizer and chat template into an existing folder.

    `stop` are ids at which responses end besides eos, so that other programs stop there too. Of a model with
    an adapter only that is saved, as PEFT does.
    """
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = _ends(model.generation_config, tokenizer, stop)
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    # transformers finds a sequence's end by the pad id, so saved reward models must carry it.
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    if has_adapter(model):
        save_adapter(model, folder)
    elif hasattr(model, VALUE_HEAD):  # it belongs to the run, not to the policy that others load
        weights = {k: v for k, v in model.state_dict().items() if not k.startswith(VALUE_HEAD)}
        model.save_pretrained(folder, state_dict=weights)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _ends(
    generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase, stop: Sequence[int]
) -> Any:
    """eos, `stop`, and where the base stopped already if that is a special token still: one id, or several."""
    before = generation.eos_token_id
    before = before if isinstance(before, list) else [before]
    added: Any = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(i for i, t in added.items() if t.special)}
    ids = dict.fromkeys([tokenizer.eos_token_id, *stop, *(i for i in before if i in special)])
    return list(ids) if len(ids) > 1 else tokenizer.eos_token_id


def context_length(model: PreTrainedModel) -> int:
    """The most tokens the model was built for."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


@torch.no_grad()
def _check_head(model: PreTrainedModel, name: str) -> None:
    ids = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    # Padded, as theirs: packed batches attend in another precision where weights are in bfloat16.
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    ours = lm_head(model)(states).float()
    theirs = model(input_ids=ids, use_cache=False).logits[0].float()
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"{name} ({model.config.model_type}) changes its logits behind the output layer in a way "
            "heedful does not know; please report the architecture"
        )


def _load(auto: Any, what: str, name: str, dtype: str, **options: Any) -> tuple[Any, list[str]]:
    """The model, and the weights that the folder does not hold and that would be invented."""
    process.tune()
    with _errors_about(name, what), _quiet():
        base = base_of(name)
        if base is not None and auto is AutoModelForSequenceClassification:
            options["num_labels"] = 1  # the base is mostly a language model, which does not know
        model, info = auto.from_pretrained(
            base or name,
            dtype=DTYPES[dtype],
            output_loading_info=True,
            **options,
        )
        brought, homeless = (set(), set()) if base is None else attach(model, name)
    heads = [k for k in info["unexpected_keys"] if k.split(".")[0] in ("score", "classifier")]
    if (
        auto is AutoModelForCausalLM and heads
    ):  # its body alone would load where embeddings are tied
        raise UserError(
            f"{name} holds a reward model, which writes nothing ({heads[0]} has no place in a causal language model); "
            "name the language model that it was made from"
        )
    if auto is AutoModelForCausalLM and homeless:
        raise UserError(
            f"{name} brings weights that its base has no place for ({min(homeless)}): it is no adapter "
            "of a causal language model (of a reward model, perhaps?)"
        )
    recomputed = ("inv_freq", ".attn.bias")  # buffers that no folder needs to hold
    missing = set(info.get("missing_keys", [])) - brought
    return model, sorted(k for k in missing if not k.endswith(recomputed))


@functools.lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """Whether anybody is there at all, asked once, and not where HF_HUB_OFFLINE says that nobody is to be asked."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(proxy) for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # whoever answers is behind it
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _errors_about(name: str, what: str):
    path = Path(name)
    looks_local = path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not path.is_dir():
        raise UserError(f"model {name}: there is no such folder")
    if path.is_dir() and not any((path / file).exists() for file in ("config.json", CONFIG)):
        raise UserError(f"model {name}: the folder has no config.json, so it holds no model")
    cut_off = not path.is_dir() and not _hub_answers()
    if cut_off:  # what was fetched before can still be read; nothing retries for minutes
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        if cut_off:
            raise UserError(
                f"model {name}: there is no such folder, it was never fetched from the hub, and the hub "
                "cannot be reached"
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model {name}: cannot load a {what} from it: {reason}") from error


@contextmanager
def _quiet():
    """transformers warns about every new head; a head that should not be new is an error of ours instead."""
    logger = hf_logging.get_logger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
