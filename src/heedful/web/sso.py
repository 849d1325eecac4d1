"""Single sign-on by OpenID Connect, with Authlib: there with PKCE, state and nonce; what comes back is checked.

Authlib is an extra (`pip install 'heedful[sso]'`) and imported when it is needed.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlsplit

from heedful.errors import UserError, one_line
from heedful.store.membership.identities import Claims

SECRET = "HEEDFUL_OIDC_SECRET"
# Signed with a key that only the issuer has: neither `none` nor what a shared secret signs.
ALGORITHMS = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
KEPT = 3600.0  # seconds for which what the issuer says of itself holds
SECONDS = 10.0
LEEWAY = 60  # seconds by which clocks may differ


@dataclass(frozen=True)
class Way:
    """What the browser keeps while its person is at the issuer's."""

    state: str
    nonce: str
    verifier: str


@dataclass
class Provider:
    """An issuer, and how this server is known there."""

    issuer: str
    client_id: str
    secret: str | None = field(default=None, repr=False)
    domains: tuple[str, ...] = ()
    transport: Any = field(default=None, repr=False)  # for tests
    _metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    _read_at: float = -KEPT
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self, back: str) -> tuple[str, Way]:
        """The address to send somebody to, and what their browser keeps meanwhile; `back` is where they return to."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        way = Way(*(secrets.token_urlsafe(n) for n in (24, 24, 48)))
        url = prepare_grant_uri(
            self._about()["authorization_endpoint"],
            self.client_id,
            "code",
            redirect_uri=back,
            scope="openid email profile",
            state=way.state,
            nonce=way.nonce,
            code_challenge=create_s256_code_challenge(way.verifier),
            code_challenge_method="S256",
        )
        return url, way

    def finish(self, back: str, code: str, way: Way) -> Claims:
        """Who has come back with this code; `UserError` where the issuer's word does not hold."""
        from authlib.common.errors import AuthlibBaseError
        from joserfc.errors import JoseError  # pyright: ignore[reportMissingImports]

        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
        form["code_verifier"] = way.verifier
        auth = None
        if self.secret:  # RFC 6749 §2.3.1: both as in a form
            auth = (quote_plus(self.client_id), quote_plus(self.secret))
        else:
            form["client_id"] = self.client_id
        try:
            token = self._ask("POST", self._about()["token_endpoint"], data=form, auth=auth)
            return self._checked(token, way.nonce)
        except (AuthlibBaseError, JoseError, KeyError, ValueError) as error:
            reason = one_line(error)[:200]
            raise UserError(f"the sign-in could not be checked ({reason}); try again") from error

    def _about(self, *, keys: bool = False) -> dict[str, Any]:
        """The issuer's word of itself, with its keys; read once an hour, and anew where `keys` are not known there."""
        with self._lock:
            if keys or time.monotonic() - self._read_at > KEPT:
                about = self._ask(
                    "GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
                )
                if about.get("issuer") != self.issuer:
                    raise UserError(
                        f"the sign-in server calls itself {about.get('issuer')!r}, not {self.issuer}"
                    )
                self._metadata = about | {"keys": self._ask("GET", about["jwks_uri"])}
                self._read_at = time.monotonic()
            return self._metadata

    def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """A JSON object; `UserError` with what the issuer says where it refuses."""
        import httpx

        try:
            with httpx.Client(timeout=SECONDS, transport=self.transport) as client:
                reply = client.request(method, url, **options)
                value = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            reason = one_line(error)[:200]
            raise UserError(f"the sign-in server does not answer as it should: {reason}") from error
        if not isinstance(value, dict) or not reply.is_success:
            told = value.get("error") if isinstance(value, dict) else None
            raise UserError(
                f"the sign-in could not be checked ({told or reply.status_code}); try again"
            )
        return value

    def _checked(self, token: dict[str, Any], nonce: str) -> Claims:
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt  # pyright: ignore[reportMissingImports]
        from joserfc.errors import InvalidKeyIdError  # pyright: ignore[reportMissingImports]
        from joserfc.jwk import KeySet  # pyright: ignore[reportMissingImports]

        def decoded(about: dict[str, Any]) -> Any:
            return jwt.decode(token["id_token"], KeySet.import_key_set(about["keys"]), ALGORITHMS)

        try:
            found = decoded(self._about())
        except InvalidKeyIdError:  # its keys have changed
            found = decoded(self._about(keys=True))
        must = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self.client_id},
            "nonce": {"essential": True, "value": nonce},
        }
        known: dict[str, Any] = {"nonce": nonce, "client_id": self.client_id}
        known |= {"access_token": token.get("access_token")}
        claims = CodeIDToken(found.claims, found.header, must, known)
        claims.validate(leeway=LEEWAY)
        subject, email, name = (claims.get(n) for n in ("sub", "email", "name"))
        if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
            raise ValueError("it names nobody")
        return Claims(
            self.issuer,
            subject,
            email if isinstance(email, str) else None,
            claims.get("email_verified") is True,
            name[:200] if isinstance(name, str) else None,
        )


def provider_of(
    issuer: str | None, client_id: str | None, domains: tuple[str, ...]
) -> Provider | None:
    """Of the options of `heedful serve`, with the secret out of the environment; None where none is given."""
    if issuer is None and client_id is None and not domains:
        return None
    if not issuer or not client_id:
        raise UserError("single sign-on needs both --oidc-issuer and --oidc-client-id")
    try:
        parts = urlsplit(issuer)
    except ValueError:
        parts = urlsplit("")
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and local)):
        raise UserError(
            "--oidc-issuer must be an address such as https://login.example.org/realms/lab"
        )
    try:
        import authlib  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("single sign-on needs Authlib: pip install 'heedful[sso]'") from None
    return Provider(issuer, client_id, os.environ.get(SECRET) or None, domains)
