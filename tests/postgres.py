"""A PostgreSQL of the tests' own, from the programs that are installed, on a free port; gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


_tried = itertools.count(os.getpid() * 37)


def free_port() -> int:
    """One below those that the system gives away by itself, so that it stays free until it is used, and in between.

    Any of the others may become the near end of somebody's connection, even of one to the very port on which nobody
    listens for a moment.
    """
    while True:
        port = 20_000 + next(_tried) % 12_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def server(bin: Path) -> Iterator[str]:
    """The address of a running server."""
    folder = Path(tempfile.mkdtemp(prefix="heedful-postgres-"))
    port = free_port()
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
    try:
        _run(bin / "initdb", "-D", folder / "data", "-A", "trust", "-U", "heedful")
        _run(
            bin / "pg_ctl",
            "-w",
            "-t",
            "300",
            "-D",
            folder / "data",
            "-l",
            folder / "log",
            "-o",
            options,
            "start",
        )
        yield f"postgresql://heedful@127.0.0.1:{port}/postgres"
    finally:
        _run(bin / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _run(*words: object, check: bool = True) -> None:
    command = [str(w) for w in words]
    if os.getuid() == 0:
        command = ["su", "postgres", "-c", shlex.join(command)]
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
