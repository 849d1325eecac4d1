"""`heedful demo`, killed: the same command goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


def demo(out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "heedful", "demo", "--quick", "--quiet", "--out", str(out)]
    few = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=few)  # fmt: skip


def killed_once(out: Path, there: Path) -> str:
    """Runs the demo until this is there, SIGKILL; returns what it said."""
    process = demo(out)
    while process.poll() is None and not there.exists():
        time.sleep(0.002)
    process.kill()
    return process.communicate()[1]


def done(out: Path) -> list[str]:
    return json.loads((out / "demo.json").read_text())["done"]


@pytest.mark.long
def test_killed_in_its_first_stage(tmp_path: Path):
    """Mutation caught: a folder of one's own that is refused; a stage that is half done and passed."""
    out = tmp_path / "demo"
    assert "── world" in killed_once(out, out / "data") and done(out) == []
    told = killed_once(out, out / "runs" / "pretrain" / "config.yaml")
    assert "continuing" in told and "── world" in told and "── pretrain" in told
    assert done(out) == ["data"]
    assert len((out / "data" / "text.jsonl").read_text().splitlines()) == 3000


def numbers(out: Path) -> dict:
    """All that does not depend on the folder and the clock."""
    results = json.loads((out / "results.json").read_text())
    return {k: v for k, v in results.items() if k not in ("seconds", "peak_gib", "commands")}


@pytest.mark.exhaustive
def test_killed_in_many_stages_a_demo_ends_in_the_same_numbers(tmp_path: Path):
    """Mutation caught: a stage that goes on with half of what it needs; a workspace with every question twice."""
    assert demo(tmp_path / "whole").wait() == 0
    out, runs = tmp_path / "killed", tmp_path / "killed" / "runs"
    for there in (
        out / "data",
        runs / "pretrain" / "state",
        runs / "sft" / "model.safetensors",
        out / ".samples.jsonl.partial",
        runs / "reward",
        runs / "dpo" / "checkpoints",
        runs / "ppo" / "state",
        out / "eval" / "base",
        out / "eval" / "ppo-000003" / "samples.jsonl",
        out / "heedful.db",
        out / "results.json",
    ):
        told = killed_once(out, there)
        assert "Traceback" not in told
    assert (out / "results.json").exists()
    assert numbers(out) == numbers(tmp_path / "whole")
