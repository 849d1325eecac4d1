"""How the client asks: what is tried again, what a refusal becomes."""

from __future__ import annotations

import json
import time
from typing import Any, Self

Values = dict[str, Any]
AWAY = (502, 503, 504)


class ClientError(Exception):
    """What the server said no to; status 0 where it could not be reached."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Calls:
    """A connection to a server; close it, or use it in a `with` statement."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        attempts: int = 5,
        transport: Any = None,
    ):
        import httpx

        self._network_errors = (httpx.TransportError,)
        self._attempts = attempts
        self._keys: dict[str, str] = {}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=timeout, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _signed_in(self, path: str, body: Values) -> Values:
        found = self._call("POST", path, body)
        if found.get("csrf"):
            self._http.headers["X-CSRF-Token"] = found["csrf"]
        return found

    def _call(
        self,
        method: str,
        path: str,
        body: Values | None = None,
        *,
        again: bool = False,
        **options: Any,
    ) -> Any:
        if body is not None:
            options.setdefault("headers", {})["Content-Type"] = "application/json"
            options["content"] = ascii_json(body)
        response = self._send(method, path, again=again or method == "GET", **options)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, *, again: bool = False, **options: Any) -> Any:
        """The response; with `again`, after as many attempts as it takes, waiting longer each time."""
        for attempt in range(1, self._attempts + 1):
            last = not again or attempt == self._attempts
            wait = min(8.0, 0.25 * 2**attempt)
            try:
                response = self._http.request(method, path, **options)
            except self._network_errors as error:
                if last:
                    reason = str(error) or type(error).__name__
                    raise ClientError(0, f"the server cannot be reached: {reason}") from error
            else:
                if response.status_code not in AWAY or last:
                    if response.is_error or response.is_redirect:
                        raise refused(response)
                    return response
                asked = response.headers.get("Retry-After", "")
                wait = float(asked) if asked.isdigit() else wait
            time.sleep(wait)
        raise AssertionError("unreachable")


def ascii_json(body: Values) -> bytes:
    """JSON; texts may hold lone surrogates, which are no UTF-8."""
    return json.dumps(body).encode()


def refused(response: Any) -> ClientError:
    try:
        sentence = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        sentence = f"the server answered with status {response.status_code}"
    return ClientError(response.status_code, str(sentence))
