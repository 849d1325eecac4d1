"""Sixty strangers, and sixty people, sign in at the same moment from one address: python docs/results/sign_in.py

Prints a JSON object; the one in people/sign_in.json is from the machine that it names. The server is a process of its
own (`heedful serve`, a fresh SQLite workspace); its memory is the most that it had resident.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from heedful.recipes import init
from heedful.store.database.db import open_store
from heedful.store.membership import people

N, PASSWORD = 60, "correct horse 9"


def main() -> None:
    workspace = Path(tempfile.mkdtemp()) / "work"
    init.run(init.Config(folder=workspace))
    store, hashed = open_store(workspace), people.hash_password(PASSWORD)
    with store.write() as connection:
        for i in range(N):
            token = people.invite(connection, "rater", actor=None)
            people.accept(connection, token, login=f"rater{i}", password_hash=hashed)
    store.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "heedful", "serve", str(workspace), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        result: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        url = f"http://127.0.0.1:{port}"
        _wait(url)
        result["MiB after the start"] = _most(server.pid)
        for who in ("stranger", "rater"):
            with ThreadPoolExecutor(N) as pool:
                said = pool.map(lambda i, who=who: _sign_in(url, f"{who}{i}"), range(N))
                counts = dict(Counter(map(str, said)))
            result[f"{N} {who}s"] = {"status": counts}
        result["MiB at most"] = _most(server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    print(json.dumps(result, indent=1))


def _sign_in(url: str, login: str) -> int:
    body = {"login": login, "password": PASSWORD}
    return httpx.post(f"{url}/api/session", json=body, timeout=300).status_code


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            httpx.get(f"{url}/login", timeout=30)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def _most(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) // 1024 if found else 0


if __name__ == "__main__":
    main()
