"""How a round of `heedful iterate` moves the policy: any method that `heedful train` knows, from one set of fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from heedful.configs import policy, preference
from heedful.configs.commands import find
from heedful.configs.common import refuse_unread, unread
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1
from heedful.tagged import compose


@dataclass(frozen=True, kw_only=True)
class Optimise:
    """How the policy is optimised."""

    method: str = "dpo"
    """On the answers themselves: dpo, ipo, simpo, …; against the refitted reward model: ppo, rloo, grpo, …"""
    beta: Annotated[float | None, AT_LEAST_0] = None
    """β, the strength of the KL constraint to the round's initial policy; default, here and below: the method's own."""
    learning_rate: Annotated[float | None, AT_LEAST_0] = None
    """Peak learning rate."""
    batch_size: Annotated[int | None, AT_LEAST_1] = None
    """Pairs (preference methods) or responses (policy gradients) in a step."""
    epochs: Annotated[float | None, ABOVE_0] = None
    """Epochs over the comparisons (preference methods)."""
    steps: Annotated[int | None, AT_LEAST_1] = None
    """Rounds of sampling and updating (policy gradients)."""
    critic_learning_rate: Annotated[float | None, AT_LEAST_0] = None
    """Peak learning rate of the critic (ppo, a2c)."""


def check(how: Optimise) -> None:
    """Before anybody is asked anything: a method that is known, and fields that it reads."""
    flags, method = find(how.method, "optimise.method", preference, policy)
    others = ("steps", "critic_learning_rate") if flags is preference else ("epochs",)
    why = f"{how.method} counts {'epochs' if flags is preference else 'steps'}"
    refuse_unread(how, {}, dict.fromkeys(others, why), "optimise.")
    config = planned(how, model="", reward=Path(), comparisons=Path(), prompts="", out=Path())
    refuse_unread(config, method.sets, unread(flags, config), "optimise.")
    flags.refuse_nonsense(config)


def learns_from_comparisons(how: Optimise) -> bool:
    """Whether it learns from what was compared itself, not against the reward model."""
    return find(how.method, "optimise.method", preference, policy)[0] is preference


def planned(
    how: Optimise,
    *,
    model: str,
    reward: Path,
    comparisons: Path,
    prompts: str,
    out: Path,
    **other: Any,
) -> Any:
    """The complete config of the method; what it has no field for is left out of `other`."""
    flags, method = find(how.method, "optimise.method", preference, policy)
    fields_set = {
        "beta": how.beta,
        "learning_rate": how.learning_rate,
        "batch_size": how.batch_size,
    }
    if flags is preference:
        fields_set |= {"data": str(comparisons), "epochs": how.epochs}
    else:
        fields_set |= {"steps": how.steps, "critic_learning_rate": how.critic_learning_rate}
        fields_set |= {"data": prompts, "reward": (str(reward),)}
        if how.batch_size is not None and "minibatch_size" not in method.sets:
            fields_set["minibatch_size"] = min(64, how.batch_size)
    takes = {f.name for f in fields(flags.Config)}
    rest = {k: v for k, v in other.items() if k in takes}
    given = {k: v for k, v in fields_set.items() if v is not None}
    fixed = {"model": model, "out": out, "command": f"train {how.method}"}
    return compose(flags.Config, {**method.sets, **given, **rest, **fixed}, where="optimise.")
