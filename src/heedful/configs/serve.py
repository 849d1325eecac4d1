"""What `heedful serve` takes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.errors import UserError
from heedful.fields import POSITIONAL, Range


@dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a workspace to people: compare, rank, rate, edit, write and talk in the browser."""

    workspace: Annotated[Path, POSITIONAL] = Path(".")
    """The workspace; without one here, the demo's in runs/demo."""
    host: str = "127.0.0.1"
    """Where to listen. Other addresses than this machine's own need --allow-remote."""
    port: Annotated[int, Range(0, 65535)] = 8765
    """The port; 0 takes a free one."""
    allow_remote: bool = False
    """Listen to other machines too. Put a proxy with HTTPS before it: passwords travel."""
    allow_private_webhooks: bool = False
    """Let webhooks call addresses of this machine and of private networks."""
    url: str | None = None
    """The address that people type, where a proxy stands before this one; such as https://rate.example.org/heedful."""
    models: tuple[str, ...] = ()
    """Models that leads may name for conversations, besides those in the workspace's folders: folders elsewhere, or
    names on the hub."""
    envs: tuple[str, ...] = ()
    """Environments that leads may ask people to play in the browser: calculator, 'maze(size=5)', ./file.py:env, and
    all others that --env of the commands takes. They run with the rights of this server."""
    smtp: str | None = None
    """A mail server, for invitations by mail: smtp://USER@HOST:PORT (STARTTLS) or smtps://…; the password is read from
    HEEDFUL_SMTP_PASSWORD."""
    mail_from: str | None = None
    """The address that mails are from."""
    oidc_issuer: str | None = None
    """The server by which people sign in (OpenID Connect), such as https://login.example.org/realms/lab; needs the
    extra heedful[sso]."""
    oidc_client_id: str | None = None
    """How this server is known there; the secret, if it has one, is read from HEEDFUL_OIDC_SECRET."""
    oidc_domains: tuple[str, ...] = ()
    """Domains of verified e-mail addresses whose people need no invitation, such as example.org; they become raters."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of the proxies before this one, such as 127.0.0.1 or 10.0.0.0/8: what they say in
    X-Forwarded-For is believed. Without it all people behind a proxy share one address."""


def refuse_nonsense(config: Config) -> None:
    """Nobody lets other machines in by accident."""
    if not config.allow_remote and not loopback(config.host):
        raise UserError(
            f"--host {config.host} lets other machines in; add --allow-remote if that is what you want"
        )


def loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
