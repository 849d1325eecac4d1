"""Environments: whom the policy talks with, and what that is worth. See `chat`, and docs/envs.md."""

from heedful.envs.chat import Call, Chat, Env, EpisodeOver, Left, Limits, Reply
from heedful.envs.specs import Environment, load_env

__all__ = [
    "Call",
    "Chat",
    "Env",
    "Environment",
    "EpisodeOver",
    "Left",
    "Limits",
    "Reply",
    "load_env",
]
