"""How a round of `heedful iterate` moves the policy: any method that `heedful train` knows, from one set of fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from heedful.configs import policy, preference
from heedful.configs.common import refuse_unread
from heedful.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Optimise:
    """How the policy is moved."""

    method: str = "dpo"
    """On the answers themselves: dpo, ipo, simpo, …; against the refitted reward model: ppo, rloo, grpo, …"""
    beta: float | None = None
    """Strength of the pull towards the policy that the round began with; default, here and below: the method's own."""
    learning_rate: float | None = None
    """Peak learning rate."""
    batch_size: int | None = None
    """Pairs (dpo and its kin) or responses (ppo and its kin) in a step."""
    epochs: float | None = None
    """Passes over the comparisons (dpo and its kin)."""
    steps: int | None = None
    """Rounds of sampling and updating (ppo and its kin)."""
    critic_learning_rate: float | None = None
    """Peak learning rate of the critic (ppo, a2c)."""


def check(how: Optimise) -> None:
    """Before anybody is asked anything: a method that is known, and fields that it reads."""
    known = [*preference.PRESETS, *policy.PRESETS]
    if how.method not in known:
        raise UserError(
            f"optimise.method '{how.method}' is unknown{did_you_mean(how.method, known)}"
        )
    here = {"model": "", "reward": Path(), "comparisons": Path(), "prompts": "", "out": Path()}
    flags, config = planned(how, **here)
    _, usual = planned(Optimise(method=how.method), **here)
    refuse_unread(config, vars(usual), flags.unread(config), "optimise.")
    flags.refuse_nonsense(config)
    others = ("steps", "critic_learning_rate") if flags is preference else ("epochs",)
    why = f"{how.method} counts {'epochs' if flags is preference else 'steps'}"
    refuse_unread(how, {}, dict.fromkeys(others, why), "optimise.")


def planned(
    how: Optimise,
    *,
    model: str,
    reward: Path,
    comparisons: Path,
    prompts: str,
    out: Path,
    **other: Any,
) -> tuple[Any, Any]:
    """The flags of the method, and its complete config; what a recipe has no field for is left out of `other`."""
    same = {"beta": how.beta, "learning_rate": how.learning_rate, "batch_size": how.batch_size}
    flags: Any
    if how.method in preference.PRESETS:
        flags, preset = preference, preference.PRESETS[how.method]
        own = {"data": str(comparisons), "epochs": how.epochs}
    else:
        flags, preset = policy, policy.PRESETS[how.method]
        own = {
            "data": prompts,
            "reward": (str(reward),),
            "steps": how.steps,
            "critic_learning_rate": how.critic_learning_rate,
        }
        if how.batch_size is not None and "minibatch_size" not in preset:
            own["minibatch_size"] = min(64, how.batch_size)
    takes = {f.name for f in fields(flags.Config)}
    rest = {k: v for k, v in other.items() if k in takes}
    told = {k: v for k, v in {**own, **same}.items() if v is not None}
    return flags, flags.Config(**{**preset, **told, **rest, "model": model, "out": out})
