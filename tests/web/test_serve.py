"""`heedful serve` as a process: quick, without torch, and closed to strangers."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from heedful.cli import main
from heedful.errors import UserError
from heedful.recipes import init
from heedful.web.serve import Config, run


def test_up_without_torch_and_the_first_link_works(tmp_path: Path):
    """It serves without having imported torch or transformers; the one-time link makes an owner, once."""
    init.run(init.Config(folder=tmp_path))
    code = (
        "import sys, threading\n"
        "from heedful.cli import main\n"
        "def spy():\n"
        "    sys.stdin.readline()\n"
        "    print('LOADED', sorted({'torch', 'transformers', 'numpy.random'} & set(sys.modules)), flush=True)\n"
        "threading.Thread(target=spy, daemon=True).start()\n"
        f"main(['serve', {str(tmp_path)!r}, '--port', '0'])\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdin and server.stdout
        line = server.stdout.readline()
        link = re.search(r"(http://127\.0\.0\.1:\d+)/setup\?token=(\S+)", line)
        assert link, line
        account = {"token": link[2], "login": "me", "password": "a long password"}
        with httpx.Client(base_url=link[1], timeout=60) as browser:
            for _ in range(600):
                try:
                    assert "Nobody is here yet" in browser.get("/").text
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            assert browser.post("/api/setup", json=account).json()["role"] == "owner"
            again = browser.post("/api/setup", json=account | {"login": "you"})
            assert again.status_code == 400 and "has been used" in again.json()["error"]
            assert browser.get("/lead").status_code == 200
        print(file=server.stdin, flush=True)
        loaded = server.stdout.readline()
        assert loaded.startswith("LOADED")
        assert "torch" not in loaded and "transformers" not in loaded, loaded
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def test_other_machines_need_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Bound to this machine unless told; a folder that is no workspace is one sentence."""
    init.run(init.Config(folder=tmp_path))
    with pytest.raises(UserError, match="--allow-remote"):
        run(Config(workspace=tmp_path, host="0.0.0.0"))
    for flag, value in (("--trusted-proxies", "nginx"), ("--url", "rate.example.org")):
        assert main(["serve", str(tmp_path), flag, value]) == 2
        assert flag in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "elsewhere")]) == 2
    assert "is no workspace" in capsys.readouterr().err
