"""Liger's Triton kernels for what the layers of the Llama family do between their products on a GPU (Hsu et al. 2024):
norms and gates. Its own switch replaces classes for every model of the process, and more; here one model changes."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from heedful.errors import UserError
from heedful.fast.llama import NAMES, family_of


def use_liger(model: PreTrainedModel) -> None:
    """Norms and gates of this model by Liger's kernels, wherever it is called; deep copies call their own weights.

    UserError where there is no kernel for the model, or no Liger.
    """
    family, gate = family_of(model), getattr(model.config.get_text_config(), "hidden_act", None)
    if family is None or gate != "silu":
        raise UserError(
            f"--liger knows {', '.join(NAMES)} with SiLU gates, not this {type(model).__name__}; leave it out"
        )
    try:
        import liger_kernel.transformers.functional  # noqa: F401
    except ImportError as error:
        raise UserError("--liger needs its extra: pip install 'heedful[liger]'") from error
    by_kernel = {family["RMSNorm"]: _normed, family["MLP"]: _gated}
    for module in model.modules():
        if type(module) in by_kernel:
            module.forward = MethodType(by_kernel[type(module)], module)


def _normed(norm: Any, hidden_states: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import liger_rms_norm

    # Not in place: its backward pass would write over a gradient that others may hold.
    return liger_rms_norm(hidden_states, norm.weight, norm.variance_epsilon, in_place=False)


def _gated(mlp: Any, x: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import liger_swiglu

    return mlp.down_proj(liger_swiglu(mlp.gate_proj(x), mlp.up_proj(x)))
