"""The last step before the first: what a run would save, loaded by plain transformers and PEFT and compared.

A model that cannot be saved, or not be loaded again, is told before anything is spent. Of a large model everything is
saved but its weights, whose names and shapes are compared with those that the saved config asks for.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heedful.errors import UserError
from heedful.models.adapter_files import CONFIG, adapter_base, has_adapter, need_peft
from heedful.models.folders import errors_about, is_generic, quiet
from heedful.models.forward import scalar_head, scalar_head_name
from heedful.models.load import load_tokenizer
from heedful.models.merging import probe, rounding
from heedful.models.quantised import is_nf4, nf4, settle
from heedful.models.save import saved_weights

SMALL = 1 << 24  # bytes of weights that are written and read twice without anybody noticing
TEXT = "What is 2 + 2?  Zwölf Boxkämpfer, 1234!\n\tУтро, 早上好 🙂"
log = logging.getLogger("heedful")


def size(model: PreTrainedModel) -> int:
    """Bytes of a model's weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def check_saved(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, weights: bool
) -> None:
    """UserError unless what was saved of a model in `folder`, with its `weights` or all but these, is that model, for
    whoever loads it."""
    _check_tokenizer(folder, tokenizer)
    with errors_about(str(folder), "model as it will be saved"), quiet(), torch.random.fork_rng([]):
        if weights:
            _check_outputs(folder, model)
        elif not (folder / CONFIG).exists():
            _check_names(folder, model)


def _check_outputs(folder: Path, model: PreTrainedModel) -> None:
    """The same log-probs, or scores, by a plain model."""
    plain = _plain(folder, model).to(model.device).eval()
    expected, loaded = probe(model), probe(plain)
    off, allowed = float((loaded - expected).abs().max()), rounding(model, expected)
    if not off <= allowed:
        raise UserError(
            "what would be saved is another model than what is trained: plain transformers gives "
            f"{'log-probs' if scalar_head_name(model) is None else 'scores'} {off:.2g} off; please report the "
            f"architecture ({model.config.model_type})"
        )


def _plain(folder: Path, model: PreTrainedModel) -> Any:
    scores = scalar_head_name(model) is not None
    auto: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    if not (folder / CONFIG).exists():
        plain, info = auto.from_pretrained(folder, dtype=model.dtype, output_loading_info=True)
        if lost := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
            raise UserError(f"what would be saved lacks weights or has too many: {lost[0]}")
        return plain
    options: dict[str, Any] = {"num_labels": scalar_head(model).out_features} if scores else {}
    if in_four_bits := is_nf4(model):
        options["quantization_config"] = nf4(model.dtype)
    plain = auto.from_pretrained(adapter_base(model), dtype=model.dtype, **options)
    rows = len(model.get_input_embeddings().weight)  # type: ignore[union-attr]
    if rows != len(plain.get_input_embeddings().weight):  # as PEFT has it, before the adapter
        plain.resize_token_embeddings(rows, mean_resizing=False)
    if in_four_bits:
        settle(plain)
    return need_peft().PeftModel.from_pretrained(plain, folder)


def _check_names(folder: Path, model: PreTrainedModel) -> None:
    """Names and shapes of the weights, and whether embedding and output layer are one tensor, by the saved config."""
    if has_adapter(model):  # saved merged: names as PEFT has them here
        return
    scores = scalar_head_name(model) is not None
    auto: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    with torch.device("meta"):
        plain = auto.from_config(AutoConfig.from_pretrained(folder))
    expected = {k: tuple(v.shape) for k, v in plain.state_dict().items()}
    ours = {k: tuple(v.shape) for k, v in saved_weights(model).items()}
    if different := sorted(k for k in expected | ours if expected.get(k) != ours.get(k)):
        raise UserError(
            f"the config that would be saved is of another model: {different[0]} is {ours.get(different[0])} here and "
            f"{expected.get(different[0])} by the config"
        )
    if _tied(plain) != _tied(model):
        raise UserError(
            "the config that would be saved ties embedding and output layer otherwise than the model does; set "
            "tie_word_embeddings in its config.json"
        )


def _tied(model: Any) -> bool:
    into, out = model.get_input_embeddings(), model.get_output_embeddings()
    return out is not None and into.weight is out.weight


def _check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    again = load_tokenizer(folder)
    for what, of in {
        "ids": lambda t: t(TEXT)["input_ids"],
        "vocabulary": lambda t: t.get_vocab(),
        "chat template": lambda t: t.chat_template,
        "end token": lambda t: t.eos_token_id,
    }.items():
        if of(again) != of(tokenizer):
            raise UserError(
                f"the tokenizer would not come back as it is: its {what} would change by saving and loading; "
                "please report the tokenizer"
            )
    if not is_generic(folder):  # `load_tokenizer` has asked AutoTokenizer itself
        return
    with quiet():
        plain = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if plain(TEXT)["input_ids"] != again(TEXT)["input_ids"]:
        log.warning(
            "AutoTokenizer will split text otherwise than this tokenizer, since it believes the architecture rather "
            "than the folder: load it with PreTrainedTokenizerFast elsewhere, as the model card says"
        )
