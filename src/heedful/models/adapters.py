"""LoRA: small matrices are trained beside frozen ones, and switched off they leave the model as it was.

W x becomes W x + (α/r)·B A x with A `[r, in]`, B `[out, r]` (Hu et al. 2021, eq. 3). B starts at zero, so
that the first step begins exactly at the base. Where the model already *is* an adapter on a base, that
adapter is trained on: a frozen twin stays beside it, because the reference is the policy as it started,
never the bare base.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from heedful.errors import UserError, did_you_mean
from heedful.models.adapter_files import START, TRAINED, inject, need_peft
from heedful.models.forward import scalar_head, scalar_head_name
from heedful.models.load import LATER, copy_model
from heedful.models.reference import Reference

ALL_LINEAR = ("all-linear",)


def add_lora(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = ALL_LINEAR,
    seed: int = 0,
) -> None:
    """Give the model an adapter to train and freeze everything else but a reward model's scalar head.

    `alpha` is twice the rank unless given; `targets` are names of linear layers. On a model that was
    loaded from an adapter's folder, that adapter is trained on: what is asked for must be what it is.
    """
    peft = need_peft()
    if rank < 1 or (alpha is not None and alpha <= 0):
        raise UserError(f"--lora.rank {rank} and --lora.alpha {alpha} must be above 0")
    if START in getattr(model, "peft_config", {}):
        config = _same_again(model.peft_config[START], rank, alpha, targets)
    else:
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha or 2 * rank,
            target_modules=_targets(model, targets),
            base_model_name_or_path=_place(model.name_or_path),
        )
    config.task_type = "SEQ_CLS" if scalar_head_name(model) else "CAUSAL_LM"
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            with _of_the_type_to_come(model):
                inject(model, config, TRAINED)
        except (
            KeyError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # kinds that cannot stand together
            raise UserError(
                f"PEFT cannot train another adapter on {model.name_or_path}: {' '.join(str(error).split())[:200]}"
            ) from error
    if START in model.peft_config:
        weights = peft.get_peft_model_state_dict(
            model, adapter_name=START, save_embedding_layers=False
        )
        peft.set_peft_model_state_dict(model, weights, adapter_name=TRAINED)
    _activate(model, TRAINED)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{TRAINED}." in f".{name}.")
    if scalar_head_name(model):
        scalar_head(model).requires_grad_(True)


@contextmanager
def _of_the_type_to_come(model: PreTrainedModel) -> Iterator[None]:
    """Weights that stay in their files look, within it, as `settle` will make them: PEFT rounds what it draws to the
    type of the weights it stands beside, which it does not read."""
    dtype = getattr(model, LATER, None)
    held = [(p, p.data) for p in model.parameters()] if dtype else []
    for p, data in held:
        p.data = torch.empty(1, dtype=dtype).expand(data.shape)
    try:
        yield
    finally:
        for p, data in held:
            p.data = data


def reference_of(policy: PreTrainedModel) -> Reference:
    """The policy as it is before its first step; call it after `add_lora` and before training.

    With LoRA no second copy is needed: the adapter is switched off or, where the policy started as an
    adapter (an SFT model, say), to the frozen one that it started as. Without LoRA it is a frozen copy.
    """
    if TRAINED in getattr(policy, "peft_config", {}):
        return Reference(policy, _at_start)
    return Reference(copy_model(policy))


@contextmanager
def _at_start(model: PreTrainedModel) -> Iterator[None]:
    """The adapter switched off, or to the one that the policy started as, until the block ends."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    _activate(model, START if START in model.peft_config else None)
    try:
        yield
    finally:
        _activate(model, TRAINED)
        for parameter, flag in flags:  # PEFT also moves these whenever an adapter is switched
            parameter.requires_grad_(flag)


def _activate(model: PreTrainedModel, adapter: str | None) -> None:
    """Let one adapter speak, or none. (transformers' enable_adapters forgets modules that were trained whole.)"""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
            module.enable_adapters(adapter is not None)
            if adapter is not None:
                module.set_adapter(adapter)


def _targets(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """The last names of the linear layers to adapt. Heads are left out: they are tied, or trained as they are."""
    heads = [model.get_output_embeddings(), getattr(model, scalar_head_name(model) or "", None)]
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and all(module is not head for head in heads)
    ]
    kinds = sorted({name.rpartition(".")[2] for name in linear})
    if tuple(targets) == ALL_LINEAR:
        return kinds
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            if any(name.rpartition(".")[2] == target for name, _ in model.named_modules()):
                raise UserError(
                    f"--lora.targets: '{target}' is no layer that adapters are put on: heads stay as they are; there "
                    f"are {', '.join(kinds)}, or say all-linear"
                )
            raise UserError(
                f"--lora.targets: the model has no linear layer '{target}'"
                f"{did_you_mean(target, kinds)}; it has {', '.join(kinds)}, or say all-linear"
            )
    return list(targets)


def _same_again(config: Any, rank: int, alpha: float | None, targets: Sequence[str]) -> Any:
    """The configuration of the adapter that is trained on, if that is what was asked for."""
    own = config.target_modules if not isinstance(config.target_modules, str) else ()
    differs = {
        f"rank {rank}": rank != getattr(config, "r", rank),
        f"alpha {alpha}": alpha not in (None, getattr(config, "lora_alpha", alpha)),
        f"targets {' '.join(targets)}": tuple(targets) != ALL_LINEAR and set(targets) != set(own),
    }
    if wrong := [f"--lora.{flag}" for flag, is_so in differs.items() if is_so]:
        raise UserError(
            f"the model is an adapter itself and is trained on as it is, with rank {config.r} and "
            f"alpha {config.lora_alpha}, not {', '.join(wrong)}; for another one on top, make it a "
            "whole model first: heedful merge"
        )
    config = copy.deepcopy(config)
    config.inference_mode = False
    return config


def _place(name: str | None) -> str:
    """A folder as a full path, so that the adapter finds its base from anywhere; hub names as they are."""
    if not name:
        raise UserError("LoRA needs a saved model to stand on: --lora.rank goes with --model")
    return str(Path(name).resolve()) if Path(name).is_dir() else name
