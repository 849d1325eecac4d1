"""Environments: whom the policy talks with, and what that is worth. See `chat`, and docs/envs.md."""

from __future__ import annotations

from heedful.envs.chat import Call, Chat, Env, EpisodeOver, Left, Limits, Reply
from heedful.registry import load

__all__ = ["Call", "Chat", "Env", "EpisodeOver", "Left", "Limits", "Reply", "load_env"]


def load_env(spec: str) -> Env:
    """An environment by its name, or the user's `package.module:function` of (task, chat)."""
    return load("environment", spec)
