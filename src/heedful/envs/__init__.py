"""Environments: whom the policy talks with, and what that is worth. See `chat`, and docs/envs.md."""

from heedful.envs.chat import Chat, Env, Reply
from heedful.envs.formats import Call
from heedful.envs.limits import EpisodeOver, Left, Limits
from heedful.envs.plain import rehearse
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
    "rehearse",
]
