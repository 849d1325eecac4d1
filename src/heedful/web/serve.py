"""`heedful serve`: the raters' pages, the lead's pages and the HTTP interface, on one address."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

from heedful.configs.serve import Config, refuse_nonsense
from heedful.endpoint.server import listen
from heedful.store.database.db import Store, open_store
from heedful.store.membership import people
from heedful.web.app import create_app
from heedful.web.mail import mailer_of
from heedful.web.models import Models
from heedful.web.plays import Plays, check
from heedful.web.proxy import checked_url, networks
from heedful.web.sso import provider_of
from heedful.web.talk import Talk

DEMO = Path("runs/demo")  # where `heedful demo` leaves a workspace
M_ARENA_MAX = -8  # of glibc's malloc.h
BUSY_SECONDS = 8.0  # people wait, and what is refused is sent again


def run(config: Config) -> None:
    """Until interrupted."""
    import uvicorn

    from heedful.web.connections import HEADERS, Connection

    refuse_nonsense(config)
    url = checked_url(config.url) if config.url else None
    sso = provider_of(config.oidc_issuer, config.oidc_client_id, config.oidc_domains)
    mailer = mailer_of(config.smtp, config.mail_from)
    networks(config.trusted_proxies)  # refused before anything is opened
    check(config.envs)
    workspace = find(config.workspace)
    store = open_store(workspace, busy_seconds=BUSY_SECONDS)
    listener = listen(config.host, config.port)
    port = listener.getsockname()[1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    models = Models(workspace, config.models)
    app = create_app(
        store,
        workspace=workspace,
        models=models,
        mailer=mailer,
        sso=sso,
        talk=Talk(models),
        plays=Plays(config.envs),
        base_url=url,
        trusted_proxies=config.trusted_proxies,
        allow_private_webhooks=config.allow_private_webhooks,
        counts_apart=True,
    )
    _greet(store, workspace, url or f"http://{host}:{port}")
    _share_memory()
    sys.setswitchinterval(0.0005)  # a lead's statistics must not hold up the raters' short requests
    # Headers of proxies are read by web.proxy: uvicorn would believe those of this machine unasked.
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            h11_max_incomplete_event_size=HEADERS,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
        )
    )
    try:
        server.run(sockets=[listener])
    finally:
        store.close()


def find(workspace: Path) -> Path:
    """The workspace asked for, or the demo's when none was."""
    is_workspace = any((workspace / name).exists() for name in ("heedful.toml", "heedful.db"))
    if not is_workspace and workspace == Path(".") and (DEMO / "heedful.db").exists():
        return DEMO
    return workspace


def _share_memory() -> None:
    """Let the forty threads share two heaps: glibc gives each its own, and what one has freed the others cannot use."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def _greet(store: Store, workspace: Path, url: str) -> None:
    with store.write() as connection:
        token = people.first_start(connection)
    print(f"heedful serves {workspace.resolve()} at {url}", file=sys.stderr)
    if token:
        print(f"Make the owner's account (this link works once): {url}/setup?token={token}")
    print("Ctrl-C stops it; nothing is lost.", file=sys.stderr, flush=True)
