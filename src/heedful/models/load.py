"""Models and tokenizers from and to Hugging Face folders; refuses what would fail silently later."""

from __future__ import annotations

import copy
import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from heedful.data.tokens import remember_ends
from heedful.errors import UserError
from heedful.fast import process
from heedful.fast.head import head_is_known
from heedful.models import quantised
from heedful.models.adapter_files import attach, base_of, has_adapter, of_adapter, outputs
from heedful.models.backend import backend_of
from heedful.models.folders import (
    errors_about,
    errors_about_base,
    is_generic,
    quiet,
    refuse_unsound,
    saved_dtype,
)
from heedful.models.forward import HEADS, scalar_head, scalar_head_name
from heedful.models.limits import declared_ends
from heedful.models.merging import untie
from heedful.models.scores import scores_of

log = logging.getLogger("heedful")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# On a model whose weights have their files' type: the one that they are to have.
LATER = "_heedful_dtype"


def device_of(name: str) -> torch.device:
    """What `--device` names; `auto` is the GPU where PyTorch sees one, else the CPU. UserError for what is absent."""
    if name == "cpu":
        _tell_of_idle_gpus()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: no device; cpu, cuda, cuda:1 or auto") from None
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise UserError(
            f"--device {name}: PyTorch {torch.__version__} sees {there or 'no'} GPU{'s' * (there > 1)} here; "
            "--device auto takes what is there"
        )
    return device


@functools.cache
def _tell_of_idle_gpus() -> None:
    """Once: other trainers take a GPU unasked, so who types no --device beside one has mostly forgotten it."""
    if gpus := torch.cuda.device_count():
        log.warning(
            "runs on the CPU; --device auto takes a GPU, of which PyTorch sees %d here", gpus
        )


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name; an adapter without one speaks its base's."""
    name = str(name)
    with errors_about(name, "tokenizer"):
        base = None if (Path(name) / "tokenizer_config.json").exists() else base_of(name)
        # For some architectures (Qwen2) AutoTokenizer believes the family's own class rather than the folder,
        # and splits text otherwise than the tokenizer that was saved.
        generic = is_generic(Path(base or name))
        kind = PreTrainedTokenizerFast if generic else AutoTokenizer
        options: dict[str, Any] = {} if generic else {"trust_remote_code": False}  # or it asks
        with errors_about_base(base, name, "tokenizer"):
            tokenizer = kind.from_pretrained(base or name, **options)
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {name} has no eos token, so no response could ever end; "
            "set eos_token in its tokenizer_config.json"
        )
    remember_ends(tokenizer, declared_ends(base or name))
    return tokenizer


def refuse_other_ids(name: str, reference: str) -> None:
    """UserError where most ids of the tokenizer beside model `name` are other tokens beside `reference`, whose
    log-probs of what the policy says would be of other words. Tokens that were added or renamed are no matter."""
    try:
        theirs = {i: token for token, i in load_tokenizer(reference).get_vocab().items()}
    except UserError:  # it may lack a tokenizer; who loads the model says what else is wrong
        return
    ours = load_tokenizer(name).get_vocab()
    other = sum(theirs.get(i, token) != token for token, i in ours.items())
    if 2 * other > len(ours):
        raise UserError(
            f"--reference {reference}: {other:,} of {len(ours):,} ids are other tokens there than in {name}, so its "
            "log-probs would be of other words; take the model that the policy was made from"
        )


def load_reference(name: str, policy: str, **how: Any) -> PreTrainedModel:
    """The model `name`, loaded as `load_policy` does, beside which what the model `policy` says has log-probs.
    UserError where its tokens have none."""
    refuse_other_ids(policy, name)
    model = load_policy(name, **how)
    rows = len(model.get_input_embeddings().weight)  # type: ignore[union-attr]
    tokenizer = load_tokenizer(policy)
    ids = tokenizer.get_vocab().values()
    beyond = sum(i >= rows and i != tokenizer.pad_token_id for i in ids)
    if beyond:
        raise UserError(
            f"--reference {name} has {rows:,} rows of embeddings, and {beyond:,} tokens of {policy} have none "
            "there; take the model that the policy was made from"
        )
    return model


def load_policy(
    name: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    nf4: bool = False,
    dequantised: bool = False,
    mapped: bool = False,
) -> PreTrainedModel:
    """A causal language model in evaluation mode: dropout stays off, in sampling and in updates alike.

    `nf4`: in four bits, for adapters beside it; so is the base of an adapter that was trained on such a one, or
    `dequantised`, plain layers with the same numbers. `mapped`: on a CPU weights of another type than `dtype` stay
    in their files, which take no memory of the process's own, until `settle` gives them theirs.
    """
    name = str(name)
    how = {"nf4": nf4, "dequantised": dequantised, "mapped": mapped}
    loaded = _load(AutoModelForCausalLM, "causal language model", name, dtype, **how)
    if loaded.missing:
        raise UserError(
            f"{name} holds no weights for {_few(loaded.missing)}: it is no complete "
            "causal language model (a reward model, perhaps?)"
        )
    _say_left_out(name, "causal language model", loaded.left_out)
    model = loaded.model.to(device_of(device)).eval()
    check_head(model, name)
    out = model.get_output_embeddings()
    # PEFT's layers share theirs in ways of their own; `merging` sees to them.
    tied = has_adapter(model) or out is None or out.weight is model.get_input_embeddings().weight
    if model.config.get_text_config().tie_word_embeddings and not tied:
        log.warning(
            "%s: by its config embedding and output layer are one tensor, and its weights hold two that differ; they "
            "stay two, and what is saved says so",
            name,
        )
        untie(model)
    return model


def new_reward_model(
    name: str,
    *,
    seed: int,
    outputs: int = 1,
    dtype: str = "float32",
    device: str = "cpu",
    nf4: bool = False,
) -> PreTrainedModel:
    """A language model's body under a new head, drawn from N(0, 1/(d+1)) as in Stiennon et al. 2020.

    Of a reward model with as many outputs the trained head is kept, and said. `nf4`: as in `load_policy`.
    """
    kind = "model for sequence classification"
    with torch.random.fork_rng(
        devices=[]
    ):  # whatever else the architecture has between body and head
        torch.manual_seed(seed)
        loaded = _load(
            AutoModelForSequenceClassification, kind, name, dtype, nf4=nf4, num_labels=outputs
        )
    model, head = loaded.model, _head(loaded.model, name)
    within = f"{model.base_model_prefix}."
    drawn = any(k.startswith(f"{scalar_head_name(model)}.") for k in loaded.missing)
    # Between body and head some encoders have a pooler, which is as new as the head is.
    new = (f"{model.base_model_prefix}.pooler", "pooler", "classifier", "score") if drawn else ()
    if lost := [k for k in loaded.missing if not k.startswith(new)]:
        raise UserError(f"{name} holds no weights for {_few(lost)}: they would be random")
    _say_left_out(name, kind, [k for k in loaded.left_out if k.startswith(within)])
    if not drawn:
        log.warning("%s is a reward model: its trained head is kept and trained on", name)
        return model.to(device_of(device)).eval()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(head.weight.shape, generator=generator)
    with torch.no_grad():
        head.weight.copy_(noise / (head.in_features + 1) ** 0.5)
    return model.to(device_of(device)).eval()


def load_reward_model(
    name: str,
    *,
    several: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    dequantised: bool = False,
) -> PreTrainedModel:
    """A trained reward model; one whose head would have to be invented on loading is refused, and so is one with more
    than one output unless `several` may be: those of heedful's own, whose config says what they are. `dequantised`: as
    in `load_policy`."""
    auto = AutoModelForSequenceClassification
    loaded = _load(auto, "reward model", name, dtype, dequantised=dequantised)
    if loaded.missing:
        raise UserError(
            f"{name} is no reward model: its scalar head ({_few(loaded.missing)}) is not in "
            "its weights and would be random; train one with `heedful train reward`"
        )
    if (number := loaded.model.config.num_labels) != 1 and HEADS in vars(loaded.model.config):
        if not several:
            raise UserError(
                f"{name} is a reward model of {number} outputs; here one with a single output is needed"
            )
    elif number != 1:
        raise UserError(f"{name} classifies into {number} labels; a reward model has exactly one")
    _head(loaded.model, name)
    _say_left_out(name, "reward model", loaded.left_out)
    model = loaded.model.to(device_of(device)).eval()
    scores_of(model)  # says so if it gives none
    return model


@torch.no_grad()
def settle(model: PreTrainedModel) -> PreTrainedModel:
    """Give the weights of a model that was loaded `mapped` the type that was asked for, in place; of any other nothing
    changes."""
    if (dtype := getattr(model, LATER, None)) is not None:
        for name, p in model.named_parameters():
            if not of_adapter(name):
                p.data = p.data.to(dtype)
    return model


def copy_model(model: PreTrainedModel, *, apart: bool = True) -> PreTrainedModel:
    """A frozen twin, e.g. the reference of a policy. One that is not `apart` has the same memory, which nobody may
    write to: both are to be shared out."""
    same = () if apart else model.parameters()
    twin = copy.deepcopy(model, {id(p): nn.Parameter(p.data, False) for p in same}).eval()
    return twin.requires_grad_(False)


@torch.no_grad()
def check_head(model: PreTrainedModel, name: str) -> None:
    backend_of(model)  # says so if there is no way to run it
    if not head_is_known(model):
        raise UserError(
            f"{name} ({model.config.model_type}) changes its logits behind the output layer in a way "
            "heedful does not know; please report the architecture"
        )


@dataclass(frozen=True)
class Loaded:
    """A model with the names of weights that its folder does not hold and that were invented, and of those that it
    holds and that have no place in the model."""

    model: Any
    missing: list[str]
    left_out: list[str]


def _load(
    auto: Any,
    what: str,
    name: str,
    dtype: str,
    *,
    nf4: bool = False,
    dequantised: bool = False,
    mapped: bool = False,
    **options: Any,
) -> Loaded:
    with errors_about(name, what), quiet():
        process.tune()
        base = base_of(name)
        nf4 = nf4 or quantised.says_nf4(name)
        wanted = kept = DTYPES[dtype]
        if nf4:
            options["quantization_config"] = quantised.nf4(DTYPES[dtype])
        if base is not None:
            refuse_unsound(name, "adapter_model")
        if base is not None and auto is AutoModelForSequenceClassification:
            options.setdefault("num_labels", outputs(name))  # its base is a language model mostly
        with errors_about_base(base, name, what):
            refuse_unsound(base or name)
            if mapped and base is None and not nf4:
                kept = saved_dtype(name) or wanted
            model, info = auto.from_pretrained(
                base or name,
                dtype=kept,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, by name
                trust_remote_code=False,
                **options,
            )
            _refuse_other_shapes(base or name, info["mismatched_keys"])
        if kept != wanted:
            if model._keep_in_fp32_modules or model._keep_in_fp32_modules_strict:
                # Whatever the type that is asked for: transformers has to be told of it.
                return _load(auto, what, name, dtype, **options)
            setattr(model, LATER, wanted)
        if nf4:
            quantised.settle(model, dequantised=dequantised)
        quantised.forget_gguf(model)
        _let_every_row_learn(model)
        brought, homeless = (set(), set()) if base is None else attach(model, name)
        if dequantised:  # the adapter's notes say that its base was in four bits
            vars(model.config).pop(quantised.NF4, None)
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
    missing = set(info["missing_keys"]) - brought
    left_out = {k for k in info["unexpected_keys"] if not k.startswith("lm_head")} | homeless
    return Loaded(
        model,
        sorted(k for k in missing if not k.endswith(recomputed)),
        sorted(k for k in left_out if not k.endswith(recomputed)),
    )


def _refuse_other_shapes(name: str, mismatched: Any) -> None:
    for key, in_file, in_model in sorted(mismatched):
        if key.split(".")[0] in ("score", "classifier"):
            raise UserError(
                f"{name} has a head of {in_file[0]} labels ({key}); the reward model asked for has exactly "
                f"{'one' if in_model[0] == 1 else in_model[0]}, so name the language model that it was made from"
            )
        raise UserError(
            f"model {name}: {key} is {list(in_file)} in its weights and {list(in_model)} by its config.json; "
            f"{len(mismatched)} weights do not fit: the two are not of one model"
        )


def _let_every_row_learn(model: PreTrainedModel) -> None:
    """No row of the embedding is the padding's: masks and lengths say what is real, and pad may be the end token,
    whose row nn.Embedding would give no gradient."""
    embedding = model.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        embedding.padding_idx = None


def _head(model: PreTrainedModel, name: str) -> nn.Linear:
    try:
        return scalar_head(model)
    except TypeError:
        raise UserError(
            f"{name} ({model.config.model_type}) has no head that is one linear layer, which "
            "heedful's reward models need; choose another architecture"
        ) from None


def _say_left_out(name: str, what: str, keys: list[str]) -> None:
    if keys:
        log.warning(
            "%s holds %d weights that have no place in a %s by its config.json and are left out, such as %s",
            name,
            len(keys),
            what,
            keys[0],
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
