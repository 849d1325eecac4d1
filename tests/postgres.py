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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Server:
    """A server that can be stopped and started again, by whoever has it alone."""

    bin: Path
    folder: Path
    port: int
    settings: str = ""  # more options of the server, such as `-c autovacuum=off`

    @property
    def url(self) -> str:
        return f"postgresql://heedful@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
            " -c fsync=off"  # what a server that is killed has written, the system still has
            f" {self.settings}"
        )
        self._control("-w", "-t", "300", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str = "immediate", *, check: bool = True) -> None:
        """`immediate` is as if it had crashed; `fast` ends the connections in order."""
        self._control("-m", mode, "stop", check=check)

    def _control(self, *words: object, check: bool = True) -> None:
        _run(self.bin / "pg_ctl", "-D", self.folder / "data", *words, check=check)


@contextlib.contextmanager
def running(bin: Path, settings: str = "") -> Iterator[Server]:
    """A server of one's own."""
    folder = Path(tempfile.mkdtemp(prefix="heedful-postgres-"))
    server = Server(bin, folder, free_port(), settings)
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
    try:
        _run(bin / "initdb", "-D", folder / "data", "-A", "trust", "-U", "heedful", "--no-sync")
        server.start()
        yield server
    finally:
        server.stop(check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _run(*words: object, check: bool = True) -> None:
    command = [str(w) for w in words]
    if os.getuid() == 0:
        command = ["su", "postgres", "-c", shlex.join(command)]
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
