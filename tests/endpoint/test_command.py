"""`heedful endpoint` as people use it: a process that others reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import heedful as hd
import tiny
from heedful.models.new import new_model


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server in a process of its own."""
    tok = tiny.tokenizer()
    policy = new_model("llama", tok, hidden_size=32, layers=2, heads=2, context=1024, seed=0)
    hd.load_learner(policy, lr=0.1).save(tmp_path / "model", tok)
    command = [sys.executable, "-m", "heedful", "endpoint", str(tmp_path / "model"), "--port", "0"]
    env = os.environ | {"KEY": "s3"}
    server = subprocess.Popen(
        [*command, "--name", "tiny", "--api-key", "env:KEY"],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.long
def test_a_judge_of_another_process(address: str, tmp_path: Path, monkeypatch):
    """Mutations caught: a server that nobody reaches; one whose refusals or log-probs a judge cannot read; a key that
    is not asked for."""
    assert httpx.get(f"{address}/models").status_code == 401
    monkeypatch.setenv("OPENAI_API_KEY", "s3")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = [{"prompt": "Two and two?", "completion": c} for c in ("Four.", "Five.")]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "judged.jsonl"
    judge = f"{address}(max_calls=8, answer_tokens=1)"
    hd.run("judge", data=str(tmp_path / "samples.jsonl"), judge=judge, out=out)
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["rater"] == "llm:tiny" and sorted(row["responses"]) == ["Five.", "Four."]


def test_other_machines_need_a_key():
    with pytest.raises(hd.UserError, match="--api-key says who may ask"):
        hd.run("endpoint", model="m", host="0.0.0.0")
    with pytest.raises(hd.UserError, match="no such environment variable"):
        hd.run("endpoint", model="m", api_key="env:NONESUCH_KEY")
