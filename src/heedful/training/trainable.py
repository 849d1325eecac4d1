"""Which of a model's weights a training command moves: all of them, adapters only, or the top layers only."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.common import Sharded, Training, refuse_nonsense
from heedful.errors import UserError
from heedful.fast.compiled import compile_layers
from heedful.fast.layers import checkpoint_layers
from heedful.fast.liger import use_liger
from heedful.learner import load_learner
from heedful.learner.local import Forward, LocalLearner, Optim
from heedful.models.adapter_files import has_adapter
from heedful.models.adapters import add_lora
from heedful.models.freeze import freeze_bottom
from heedful.models.limits import context_length
from heedful.models.load import (
    device_of,
    load_policy,
    load_reference,
    load_tokenizer,
    settle,
)
from heedful.models.merging import merge
from heedful.models.reference import Reference
from heedful.models.sharded import is_sharded, shard
from heedful.ranks import ALONE, Ranks

log = logging.getLogger("heedful")


def loaded(
    config: Any, ranks: Ranks = ALONE
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, int]:
    """Of the config of a method that learns from rows: its tokenizer, its policy as `prepare` makes it and `placed`,
    and how many tokens a sequence may have."""
    tokenizer = load_tokenizer(config.model)
    model = placed(prepare(base(config), config), config, ranks)
    return tokenizer, model, min(config.max_length or 1 << 30, context_length(model))


def base(config: Any) -> PreTrainedModel:
    """The policy that a config's training begins with, before it is `prepare`d."""
    return load_policy(
        config.model,
        dtype=config.dtype,
        device=loads_on(config),
        nf4=config.lora.nf4,
        mapped=_shared_out(config),
    )


def loads_on(config: Training) -> str:
    """The device that a whole model is loaded on, before it is `placed`."""
    return config.loads_on if isinstance(config, Sharded) else config.device


def _shared_out(config: Training) -> bool:
    return isinstance(config, Sharded) and config.shard


def placed(model: PreTrainedModel, config: Training, ranks: Ranks) -> PreTrainedModel:
    """A model that `prepare` has made ready: with --shard its weights shared out among several ranks, else on its
    device."""
    device = device_of(config.device)
    if not isinstance(config, Sharded) or not config.shard:
        return model
    if ranks.world == 1:
        log.warning("--shard: one process has everything; --nproc 8 starts several")
        return settle(model.to(device))  # type: ignore[arg-type]
    return shard(model, ranks, device=device, dtype=config.dtype, offload=config.shard_offload)


def learner_of(
    model: PreTrainedModel,
    forward: Forward,
    adam: Optim,
    config: Training,
    ranks: Ranks,
    sampler: PreTrainedModel | None = None,
) -> LocalLearner:
    """The learner of a model that was `placed`; `sampler` is a whole copy of a sharded one for an engine."""
    how: dict[str, Any] = {"micro_batch_tokens": config.micro_batch_tokens, "ranks": ranks}
    if not is_sharded(model):
        return load_learner(model, forward, adam, **how)
    assert isinstance(config, Sharded)
    return load_learner(
        model, forward, adam, "fsdp", sync=config.shard_sync, sampler=sampler, **how
    )


def prepare(model: PreTrainedModel, config: Training) -> PreTrainedModel:
    """A model as it was loaded, made ready for its learner: LoRA, frozen, compiled or checkpointed layers, Liger.

    Without --lora.rank an adapter that was loaded is merged into its base first, and all weights are
    trained. Call it before `reference_of` and before anything keeps a part of the model, such as an engine.
    """
    refuse_nonsense(config)
    if config.lora.rank:
        add_lora(
            model,
            rank=config.lora.rank,
            alpha=config.lora.alpha,
            targets=config.lora.targets,
            seed=config.seed,
        )
    elif getattr(model, "is_quantized", False):
        raise UserError(
            f"{model.name_or_path} is quantised, and only adapters can be trained on it: --lora.rank 16, or name the "
            "model that it was made from"
        )
    elif has_adapter(model):
        merge(model)
        _say(config, model, "the adapter is merged into its base, and all weights are trained")
    freeze_bottom(model, config.freeze)
    if config.liger:
        use_liger(model)
    if config.compile:
        compile_layers(model)
    if config.gradient_checkpointing:
        checkpoint_layers(model)
    trained, total = parameters(model)
    if trained < total:
        beside = f"; {without_adapter(model)}" if config.lora.rank else ""
        share = f"{trained:,} of {total:,} parameters are trained ({100 * trained / total:.2f} %)"
        _say(config, model, share + beside)
    return model


def _say(config: Training, model: PreTrainedModel, sentence: str) -> None:
    print(
        f"{config.out.name}, {type(model).__name__}: {sentence}",
        file=sys.stderr,
        flush=True,
    )


def without_adapter(model: PreTrainedModel) -> str:
    """How many matrices have an adapter, and which have none and stay as they are: embeddings, heads, experts that
    are no linear layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    adapted = {id(p) for layer in layers for p in layer.parameters()}
    frozen: Counter[str] = Counter()
    for name, p in model.named_parameters():
        if p.ndim > 1 and id(p) not in adapted and not p.requires_grad:
            words = [w for w in name.removesuffix(".weight").split(".") if not w.isdigit()]
            frozen[".".join(words[-2:]).removeprefix("model.")] += p.numel()
    kinds = ", ".join(f"{name} ({n:,} parameters)" for name, n in frozen.most_common())
    return f"LoRA on {len(layers)} layers, none on {kinds or 'nothing else'}"


def named_reference(name: str, config: Any) -> Reference:
    """A frozen model with the names of a plain one, so that it can be moved to whatever the policy is made of."""
    other = load_reference(
        name,
        config.model,
        dtype=config.dtype,
        device=loads_on(config),
        dequantised=True,
        mapped=_shared_out(config),
    )
    return Reference(merge(other).requires_grad_(False))


def parameters(model: PreTrainedModel) -> tuple[int, int]:
    """(trained, all) parameters; tied weights count once."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
