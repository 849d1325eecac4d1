"""What `import heedful` offers, each imported when it is asked for: docs/library.md."""

from __future__ import annotations

import importlib
from typing import Any

# name → where it is; those of this file are plain functions below
NAMES: dict[str, str] = {
    # whole commands
    "run": "heedful.api:run",
    # models, engines, learners
    "load_policy": "heedful.models.load:load_policy",
    "load_tokenizer": "heedful.models.load:load_tokenizer",
    "load_engine": "heedful.engine:load_engine",
    "load_learner": "heedful.api:load_learner",
    "reference_of": "heedful.models.adapters:reference_of",
    "logprobs": "heedful.api:logprobs",
    # sampling and judging
    "Sampling": "heedful.types:Sampling",
    "tasks": "heedful.rollout:tasks",
    "rollout": "heedful.rollout:rollout",
    "score": "heedful.rollout:score",
    "load_reward": "heedful.rewards.specs:load_rewards",
    "load_env": "heedful.envs:load_env",
    "judges": "heedful.raters.panel:judges",
    "read_prompts": "heedful.data.sources:read_prompts",
    "read_comparisons": "heedful.data.sources:read_comparisons",
    # one's own loop
    "collate": "heedful.data.collate:collate",
    "scored": "heedful.api:scored",
    "Loss": "heedful.learner.local:Loss",
    "leave_one_out": "heedful.losses.advantages:leave_one_out",
    "gae": "heedful.losses.advantages:gae",
    "ppo_clip": "heedful.losses.policy:ppo_clip",
    "k3": "heedful.losses.kl:k3",
    "dpo": "heedful.losses.preference:dpo",
    # what people said, and what packages add
    "open_store": "heedful.store.db:open_store",
    "register": "heedful.registry:register",
    "UserError": "heedful.errors:UserError",
}


def get(name: str) -> Any:
    """What a name of `NAMES` means; imports what it needs."""
    module, _, attribute = NAMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def run(name: str, **fields: Any) -> Any:
    """A whole command from Python: `run("train dpo", model="runs/sft", data="pairs.jsonl", out="runs/dpo", beta=0.2)`.

    Fields are the command's flags with underscores; what it returns is the recipe's, a folder mostly. UserError for
    what the command line would refuse.
    """
    from heedful.configs.commands import command, refuse
    from heedful.configs.typed import made

    found = command(name)
    if found.flags is None:
        raise ValueError(f"{name} draws files; heedful.report.build does it from Python")
    config = made(found.flags.Config, {**found.sets, **fields}, name)
    refuse(found, config)
    return importlib.import_module(f"heedful.{found.module}").run(config)


def load_learner(model: Any, *, lr: float, steps: int = 1000, **options: Any) -> Any:
    """A learner of a policy: AdamW at `lr`, which falls linearly to 0 over so many `steps`. Its loss functions read
    `out.logp` `[B, T]`, the log-probs at temperature 1.

    Other options: `schedule`, `warmup`, `max_grad_norm` of `learner.local.Optim`, and `micro_batch_tokens`.
    """
    from heedful.learner import load_learner as load
    from heedful.learner.local import Optim
    from heedful.training.forwards import policy_forward

    tokens = options.pop("micro_batch_tokens", 8192)
    optim = Optim(lr, steps, **options)
    return load(model, policy_forward(), optim, micro_batch_tokens=tokens)


def logprobs(model: Any, batch: Any, *, micro_batch_tokens: int = 8192) -> Any:
    """Log-probs `[B, T]` of a batch's tokens under a model, or under a `Reference`; without gradients."""
    from heedful.learner.local import predict
    from heedful.models.reference import Reference
    from heedful.training.forwards import policy_forward

    if isinstance(model, Reference):
        with model.active() as frozen:
            return predict(frozen, policy_forward(), batch, micro_batch_tokens).logp
    return predict(model, policy_forward(), batch, micro_batch_tokens).logp


def scored(batch: Any, *, adv: Any, ref_logp: Any = None) -> Any:
    """The batch with advantages, `[B]` of whole responses or `[B, T]`, and the reference's log-probs, by default the
    policy's own: what losses of policy gradients read."""
    from dataclasses import fields

    from heedful.types import Batch, Scored

    mask = batch.mask
    adv = (adv[:, None] if adv.ndim == 1 else adv) * mask
    own = {f.name: getattr(batch, f.name) for f in fields(Batch)}
    ref = batch.old_logp if ref_logp is None else ref_logp
    return Scored(**own, ref_logp=ref, adv=adv, weight=mask.float())
