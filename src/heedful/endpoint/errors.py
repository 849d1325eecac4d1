"""What an endpoint refuses, in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that is not answered: HTTP status, a sentence, and the machine-readable words beside it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ):
        super().__init__(message)
        self.message, self.status, self.kind, self.param, self.code = (
            message, status, kind, param, code,
        )  # fmt: skip

    def body(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`."""
        told = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": told}


def too_long(window: int, prompt: int, wanted: int) -> Refused:
    """More tokens than the model can take, in OpenAI's own words, which programs look for."""
    return Refused(
        f"This model's maximum context length is {window} tokens. However, you requested {prompt + wanted} tokens "
        f"({prompt} in the prompt, {wanted} in the completion). Please reduce the length of either.",
        param="messages",
        code="context_length_exceeded",
    )
