"""When an episode is truncated, and what is left until then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from heedful.errors import UserError

Cause = Literal["turns", "tokens", "time"]


class EpisodeOver(BaseException):
    """A limit is reached, and the episode truncated. No `Exception`, so that no environment catches it by accident."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an episode is truncated. None: never.

    `turns` of the policy in a branch; `turn_tokens` that it writes in a turn; `tokens` of a branch, all that was heard
    included; `seconds` of the whole episode, by the clock, `env_seconds` of it without the time in which the policy
    speaks. What the environment itself asks for in `say(max_tokens=…)` is no limit: such a turn may end early, and
    the episode goes on.
    """

    turns: int | None = None
    turn_tokens: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    env_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of the limits; infinite where there is none."""

    turns: float
    tokens: float
    seconds: float


def finite(value: Any, what: str) -> float:
    """A reward as a float; `UserError` for what is no finite number."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{what} is {value!r}; rewards must be finite numbers")
    return number
