"""Environments: whom the policy talks with, and what that is worth. See `chat`, and docs/envs.md."""

from __future__ import annotations

from heedful.envs.ask import ask
from heedful.envs.chat import Call, Chat, Env, EpisodeOver, Left, Limits, Reply
from heedful.errors import UserError, did_you_mean
from heedful.registry import load_function

__all__ = ["Call", "Chat", "Env", "EpisodeOver", "Left", "Limits", "Reply", "load_env"]

SHIPPED: dict[str, Env] = {"ask": ask}


def load_env(spec: str) -> Env:
    """A shipped environment by its name, or the user's `package.module:function` of (task, chat)."""
    if spec in SHIPPED:
        return SHIPPED[spec]
    if ":" not in spec:
        raise UserError(
            f"there is no environment '{spec}'{did_you_mean(spec, SHIPPED)}; one of your own is package.module:function"
        )
    return load_function(spec)
