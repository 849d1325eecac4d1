"""How a round of `heedful iterate` moves the policy: any method that `heedful train` knows, from one set of fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from heedful.errors import UserError, did_you_mean
from heedful.recipes import policy, preference
from heedful.recipes.config import refuse_unread


@dataclass(frozen=True, kw_only=True)
class Optimise:
    """How the policy is moved."""

    method: str = "dpo"
    """On the answers themselves: dpo, ipo, simpo, …; against the refitted reward model: ppo, rloo, grpo, …"""
    beta: float = 0.1
    """Strength of the pull towards the policy that the round began with."""
    learning_rate: float = 1e-6
    """Peak learning rate."""
    batch_size: int = 64
    """Pairs (dpo and its kin) or responses (ppo and its kin) in a step."""
    epochs: float = 1.0
    """Passes over the comparisons (dpo and its kin)."""
    steps: int = 50
    """Rounds of sampling and updating (ppo and its kin)."""
    critic_learning_rate: float = 1e-5
    """Peak learning rate of the critic (ppo, a2c)."""


def check(how: Optimise) -> None:
    """Before anybody is asked anything: a method that is known, and fields that it reads."""
    known = [*preference.PRESETS, *policy.PRESETS]
    if how.method not in known:
        raise UserError(
            f"optimise.method '{how.method}' is unknown{did_you_mean(how.method, known)}"
        )
    here = {"model": "", "reward": Path(), "comparisons": Path(), "prompts": "", "out": Path()}
    recipe, config = _planned(how, **here)
    _, usual = _planned(Optimise(method=how.method), **here)
    refuse_unread(config, vars(usual), recipe.unread(config), "optimise.")
    others = ("steps", "critic_learning_rate") if recipe is preference else ("epochs",)
    why = f"{how.method} counts {'epochs' if recipe is preference else 'steps'}"
    refuse_unread(how, {}, dict.fromkeys(others, why), "optimise.")


def moved(
    how: Optimise,
    *,
    model: str,
    reward: Path,
    comparisons: Path,
    prompts: str,
    out: Path,
    **other: Any,
) -> Path:
    """Run the method; returns the new policy's folder. What a recipe has no field for is left out of `other`."""
    recipe, config = _planned(
        how,
        model=model,
        reward=reward,
        comparisons=comparisons,
        prompts=prompts,
        out=out,
        **other,
    )
    return recipe.run(config)


def _planned(
    how: Optimise,
    *,
    model: str,
    reward: Path,
    comparisons: Path,
    prompts: str,
    out: Path,
    **other: Any,
) -> tuple[Any, Any]:
    """The recipe of the method, and its complete config."""
    same = {"beta": how.beta, "learning_rate": how.learning_rate, "batch_size": how.batch_size}
    recipe: Any
    if how.method in preference.PRESETS:
        recipe, preset = preference, preference.PRESETS[how.method]
        own = {"data": str(comparisons), "epochs": how.epochs}
    else:
        recipe, preset = policy, policy.PRESETS[how.method]
        own = {
            "data": prompts,
            "reward": (str(reward),),
            "steps": how.steps,
            "critic_learning_rate": how.critic_learning_rate,
            "minibatch_size": preset.get("minibatch_size", min(64, how.batch_size)),
        }
    takes = {f.name for f in fields(recipe.Config)}
    rest = {k: v for k, v in other.items() if k in takes}
    return recipe, recipe.Config(**{**preset, **own, **same, **rest, "model": model, "out": out})
