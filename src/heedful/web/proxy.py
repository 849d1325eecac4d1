"""Where a request comes from, and under which address people know this server, with and without proxies between.

A header that names another address is believed only where the connection comes from a proxy that the server was told
to trust; uvicorn's own handling of such headers stays off. Links within pages are relative, so pages work under any
path prefix, whether or not the server knows of it.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from heedful.errors import UserError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
OWN = {  # first steps of this site's own paths
    "api", "static", "lead", "rate", "runs", "login", "join", "setup", "reset", "account", "people", "docs", "sso",
    "openapi.json",
}  # fmt: skip
log = logging.getLogger("heedful")


def networks(names: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks of proxies, such as 127.0.0.1 or 10.0.0.0/8."""
    try:
        return tuple(ipaddress.ip_network(name.strip(), strict=False) for name in names)
    except ValueError as error:
        raise UserError(
            f"--trusted-proxies: {error}; name addresses or networks, such as 127.0.0.1 or 10.0.0.0/8"
        ) from None


def checked_url(url: str) -> str:
    """`--url` without a slash at its end; `UserError` unless people can type it."""
    wrong = f"--url {url}: write it as people type it, such as https://rate.example.org/heedful"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UserError(wrong) from None
    prefix = parts.path.rstrip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UserError(wrong)
    if (
        not url.isprintable()
        or parts.query
        or parts.fragment
        or (prefix and not PREFIX.fullmatch(prefix))
    ):
        raise UserError(wrong)
    if prefix and prefix.split("/")[1] in OWN:
        raise UserError(f"--url {url}: a path that begins with /{prefix.split('/')[1]} is a page's")
    return f"{parts.scheme}://{parts.netloc}{prefix}"


def address(request: Request) -> str:
    """The address that a request comes from: the last one that no trusted proxy has."""
    peer = request.client.host if request.client else "unknown"
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    if not _trusted(request, peer):
        if any(hops):
            _warn(request, peer)
        return str(_ip(peer) or peer)
    nearest = peer
    for hop in reversed(hops):
        ip = _ip(hop)
        if ip is None:  # what it is supposed to be, only the proxy that wrote it knows
            break
        nearest = str(ip)
        if not _trusted(request, nearest):
            break
    return nearest


def network(of: str) -> str:
    """What one person has of addresses: an IPv4 address, or an IPv6 network of 64 bits."""
    ip = _ip(of)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return of


def shortened(of: str) -> str | None:
    """As much of an address as people need to know a place of theirs again: 203.0.113.0/24."""
    ip = _ip(of)
    if ip is None:
        return None
    return str(ipaddress.ip_network((ip, 48 if ip.version == 6 else 24), strict=False))


def public_url(request: Request) -> str:
    """The address that people type: `--url`, or what a trusted proxy says, or that of the request."""
    if base := request.app.state.base_url:
        return base
    headers, scheme, prefix = request.headers, request.url.scheme, ""
    host = headers.get("host") or request.url.netloc
    if _trusted(request, request.client.host if request.client else ""):
        proto = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip()
        scheme = proto if proto in ("http", "https") else scheme
        host = headers.get("x-forwarded-host", "").rpartition(",")[2].strip() or host
        said = headers.get("x-forwarded-prefix", "").rstrip("/")
        prefix = said if PREFIX.fullmatch(said) else ""
    return f"{scheme}://{host}{prefix}"


def cookie(request: Request, name: str) -> tuple[str, str]:
    """The name and the path of a cookie: those of the path prefix of `--url`, if it has one.

    Another heedful may have the rest of the site, whose cookies browsers send along.
    """
    prefix = urlsplit(request.app.state.base_url or "").path
    return name + prefix.replace("/", "_"), prefix or "/"


def root(request: Request) -> str:
    """The way from a page back to the start, such as ../../"""
    # Undecoded: to the browser %2F is no slash.
    path = request.scope.get("raw_path") or request.url.path.encode()
    return "../" * (path.partition(b"?")[0].count(b"/") - 1) or "./"


class Prefix:
    """Takes the path prefix of `--url` off, for proxies that pass it on; most do not."""

    def __init__(self, app: Any, prefix: str):
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self.prefix}/"):
            raw = scope.get("raw_path") or scope["path"].encode()
            scope = scope | {
                "path": scope["path"][len(self.prefix) :] or "/",
                "raw_path": raw[len(self.prefix) :] or b"/",
            }
        await self.app(scope, receive, send)


def _trusted(request: Request, address: str) -> bool:
    ip = _ip(address)
    return ip is not None and any(ip in network for network in request.app.state.proxies)


def _ip(text: str) -> Address | None:
    """Also of 203.0.113.7:1234 and [2001:db8::1]:1234, as some proxies write them."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _warn(request: Request, peer: str) -> None:
    """Once: behind a proxy that is not trusted all people share one address."""
    if not getattr(request.app.state, "warned_of_proxy", False):
        request.app.state.warned_of_proxy = True
        log.warning(
            "requests from %s name other addresses in X-Forwarded-For, which is not believed: if it is your proxy, "
            "start with --trusted-proxies %s",
            peer,
            peer,
        )
