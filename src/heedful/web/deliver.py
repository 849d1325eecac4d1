"""Delivery of webhooks: a thread that posts what is due, signed, and to public addresses only.

A host name is resolved once and its IP address called, so that the name cannot point elsewhere between the check and
the call. Redirects are not followed, only the status of the response is read, and all must be done in five seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from heedful.errors import UserError
from heedful.store.database.db import Store, Unavailable
from heedful.store.database.patience import patiently
from heedful.store.exports import hooks

SECONDS = 5.0  # for one delivery, from resolving the name to the status
PAUSE = 1.0  # seconds between queries for what is due
MAX_URL = 2000
TUNNELS = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"))
log = logging.getLogger("heedful")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """The address must not be called."""


class Deliverer:
    """A thread that delivers while the server runs. Several servers may run on one database."""

    def __init__(self, store: Store, *, allow_private: bool = False):
        self._store, self._allow_private = store, allow_private
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for what is being sent."""
        self._stop.set()
        self._thread.join(SECONDS + 5)

    def _work(self) -> None:
        while not self._stop.is_set():
            busy = 0
            try:
                busy = deliver_due(self._store, allow_private=self._allow_private)
            except Unavailable:
                pass
            except Exception:  # a thread that had died silently would lose every later event
                log.exception("webhooks")
            if not busy:
                self._stop.wait(PAUSE)


def deliver_due(store: Store, *, allow_private: bool = False) -> int:
    """Send what is due, concurrently; returns how many were tried."""
    with store.read() as connection:
        if not hooks.any_due(connection):
            return 0
    with store.write() as connection:
        deliveries = hooks.claim_due(connection)
    if deliveries:
        told = asyncio.run(_post_all(deliveries, allow_private))
        # A database that is away meanwhile is waited for, or each of these would be sent again.
        patiently(lambda: _mark(store, told), hooks.LEASE / 2)
    return len(deliveries)


def _mark(store: Store, told: list[Tried]) -> None:
    with store.write() as connection:
        for done in told:
            key, status = done.delivery.id, done.status
            if status is not None and 200 <= status < 300:
                hooks.mark_sent(connection, key, status)
            else:
                why = {"status": status, "error": done.error, "give_up": done.give_up}
                hooks.mark_failed(connection, key, **why)


def check_url(url: str, *, allow_private: bool = False) -> None:
    """`UserError` unless this is an address that webhooks may have now."""
    if len(url) > MAX_URL:
        raise UserError(f"a webhook's address has at most {MAX_URL} characters")
    try:
        parts = _parts(url)
        records = socket.getaddrinfo(parts.hostname, _port(parts), type=socket.SOCK_STREAM)
        _allowed([row[4][0] for row in records], allow_private)
    except (Refused, OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"webhooks cannot call {url}: {reason}") from None


def sign(secret: str, body: bytes) -> str:
    """The header `X-Heedful-Signature`: HMAC-SHA256 of the body under the webhook's secret."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Tried:
    """What came of a delivery: the status that was answered, or why there is none."""

    delivery: hooks.Delivery
    status: int | None = None
    error: str | None = None
    give_up: bool = False


async def _post_all(deliveries: list[hooks.Delivery], allow_private: bool) -> list[Tried]:
    return await asyncio.gather(*(_try_post(d, allow_private) for d in deliveries))


async def _try_post(delivery: hooks.Delivery, allow_private: bool) -> Tried:
    try:
        async with asyncio.timeout(SECONDS):
            status = await _post(delivery, allow_private)
    except Refused as error:
        log.warning("webhook %s: %s", delivery.url, error)
        return Tried(delivery, error=str(error), give_up=True)
    except Exception as error:  # whatever the network failed with, it is tried again later
        reason = str(error) or type(error).__name__
        log.info("webhook %s: %s", delivery.url, reason)
        return Tried(delivery, error=reason[:300])
    return Tried(delivery, status)


async def _post(delivery: hooks.Delivery, allow_private: bool) -> int:
    import httpx

    parts = _parts(delivery.url)
    port = _port(parts)
    loop = asyncio.get_running_loop()
    records = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    address = _allowed([row[4][0] for row in records], allow_private)
    host = f"[{address}]" if address.version == 6 else str(address)
    target = parts._replace(netloc=f"{host}:{port}", fragment="").geturl()
    body = json.dumps(delivery.body).encode()  # ASCII: lone surrogates are no UTF-8
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "heedful",
        "X-Heedful-Delivery": delivery.id,
        "X-Heedful-Event": str(delivery.body["event"]),
        "X-Heedful-Signature": sign(delivery.secret, body),
    }
    # The certificate is checked against the name, although the IP address is called.
    extensions = {"sni_hostname": parts.hostname}
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SECONDS) as client,
        client.stream(
            "POST", target, content=body, headers=headers, extensions=extensions
        ) as response,
    ):
        return response.status_code


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        raise Refused("it is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("it must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise Refused("an address with a name and a password is refused")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Refused("it may hold printable ASCII characters only")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _allowed(hosts: list[Any], allow_private: bool) -> Address:
    """The first address, if every one of them may be called."""
    addresses = [ipaddress.ip_address(str(a).partition("%")[0]) for a in hosts]
    if not addresses:
        raise Refused("the host has no address")
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise Refused("it belongs to this machine or to a private network")
    return addresses[0]


def is_public(address: Address) -> bool:
    """Neither private, loopback, link-local, multicast nor reserved, nor a way round to such an address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in TUNNELS) or address.teredo is not None:
            return False
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
