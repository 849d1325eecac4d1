"""Rules about a response's form. Each function takes options and returns a scorer of text, how it began and ended."""

from __future__ import annotations

import re
from collections.abc import Callable

from heedful.registry import register
from heedful.types import Prompt

THOUGHT = re.compile(r"\s*<think>((?:(?!</?think>).)*)</think>(?:(?!</?think>).)*", re.DOTALL)


@register("reward", "length", help="a penalty for each word")
def length(
    *, price: float = 0.01, free: int = 0, unit: str = "words"
) -> Callable[[Prompt, str], float]:
    """−price for each word beyond the first `free` ones; `unit` words or characters."""
    if unit not in ("words", "characters"):
        raise ValueError(f"unit must be words or characters, not '{unit}'")

    def score(prompt: Prompt, response: str) -> float:
        size = len(response.split()) if unit == "words" else len(response)
        return -price * max(0, size - free)

    return score


@register("reward", "no_eos", help="a penalty for responses that were truncated")
def no_eos(*, penalty: float = 1.0) -> Callable[..., float]:
    """−penalty for a response that was truncated by the length limit, 0 for one that ended by itself.

    Read from how sampling stopped. An end token in the ids proves nothing: the prompt has some, too.
    """

    def score(prompt: Prompt, response: str, ended: bool) -> float:
        return 0.0 if ended else -penalty

    return score


@register("reward", "regex", help="1 where a pattern is found")
def regex(*, pattern: str) -> Callable[[Prompt, str], float]:
    """1 where the pattern is found in the response, else 0. Anchor it with ^ and $; a dot matches line breaks too."""
    try:
        found = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error

    def score(prompt: Prompt, response: str) -> float:
        return float(found.search(response) is not None)

    return score


@register("reward", "think_format", help="1 for <think>…</think> and then the answer")
def think_format() -> Callable[..., float]:
    """1 where the response is one `<think>…</think>` and then the answer, as DeepSeek-R1 (2025) was asked to.

    What the chat template has written of it counts: many open the thought, some close an empty one, too.
    """

    def score(prompt: Prompt, response: str, prefilled: str) -> float:
        return float(THOUGHT.fullmatch(prefilled + response) is not None)

    return score
