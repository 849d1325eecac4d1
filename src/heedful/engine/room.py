"""Whether what an engine is asked for fits."""

from __future__ import annotations

from collections.abc import Sequence

from heedful.errors import UserError


def refuse_without_room(tokens: Sequence[int], max_tokens: int, window: int) -> None:
    """UserError for a prompt without tokens, or one that leaves no room for the completion in a window of tokens."""
    if not tokens:
        raise UserError("a prompt has no tokens at all; even an empty one needs a BOS token")
    if len(tokens) + max_tokens > window:
        raise UserError(
            f"a prompt of {len(tokens)} tokens and {max_tokens} new ones exceed the model's "
            f"context of {window}"
        )
