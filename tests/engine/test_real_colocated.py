"""vLLM itself in the learner's process, on a CPU, of tiny Llamas with random weights.

Run by the Python of an environment that has vllm and heedful; `make test-scale` makes one. Each test has a process of
its own, since an engine cannot be taken out of one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import several
import tiny
from changed import changed
from heedful.cli import main
from heedful.engine import load_engine
from heedful.models.adapters import add_lora
from heedful.models.load import copy_model, load_policy
from heedful.types import Sampling
from sampled import alike, metrics, off, real_llama

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.exhaustive,
    pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vllm is not installed here"),
]
PROMPTS = tiny.prompts(6, vocab=300)
SERIAL = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
KINDS = ("untied", "tied", "adapter")
SIZES = "--steps 3 --batch-size 8 --warmup 0 --max-tokens 8 --learning-rate 0.02 --quiet"


@pytest.fixture(scope="module", params=KINDS)
def at(request, tmp_path_factory) -> Path:
    """A folder with a model and prompts, named after its kind."""
    folder = tmp_path_factory.mktemp("colocated") / request.param
    return real_llama(folder, tied=request.param == "tied")


def apart(monkeypatch, function: str, *of: object) -> str:
    """A function of this file in a process of its own; what it printed."""
    for name, value in SERIAL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    code = f"import sys, test_real_colocated as t; t.{function}(*sys.argv[1:])"
    words = [sys.executable, "-c", code, *map(str, of)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def words(at: Path, out: Path, *more: object) -> list[str]:
    line = (
        f"train grpo --model {at / 'lm'} --data {at / 'p.jsonl'} --reward tiny:likes_short {SIZES}"
    )
    lora = ("--lora.rank", 4) if at.name == "adapter" else ()
    return changed([*line.split(), "--out", out, "--engine", "vllm:0.1", *lora], *more)


def updates(at: str, folder: str) -> None:
    model = load_policy(Path(at) / "lm")
    if at.endswith("adapter"):
        add_lora(model, rank=4)
    engine: Any = load_engine(copy_model(model), "vllm:0.1", folder=Path(folder))
    how = {"max_tokens": 16, "sampling": Sampling(1.0), "stop": (), "seed": 7}
    told = []

    async def ask(version: int):
        await engine.load(model.state_dict(), version)
        said = await asyncio.gather(*(engine.generate(p, n=3, **how) for p in PROMPTS))
        await engine.sleep()
        return said

    for version in range(3):
        answers = asyncio.run(ask(version))
        worst = max(
            off(model, p, c) for p, all_ in zip(PROMPTS, answers, strict=True) for c in all_
        )
        print(f"update {version}: |Δ log-prob| ≤ {worst:.2g}")
        assert worst < 1e-5
        assert answers == asyncio.run(ask(version))
        told.append(answers)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p)) if p.requires_grad else None
    assert told[0] != told[1] != told[2]


def test_log_probs_are_the_learners_before_and_after_an_update(at, tmp_path, monkeypatch):
    """Mutation caught: an output layer that stays as it was; a tensor that is not brought; an old adapter, or its base
    in its place; log-probs of another distribution; a seed that is not the sample's own; an engine that sleeps on."""
    print(apart(monkeypatch, "updates", at, tmp_path))


def trained(*line: str) -> None:
    assert main([*line]) == 0


def stale(*line: str) -> None:
    """A run whose engine has the output layer of the step before."""
    from heedful.engine import handed

    each_once, first = handed.each_once, dict[str, torch.Tensor]()

    def late(weights):
        for name, tensor in each_once(weights):
            old = first.setdefault(name, tensor.clone())
            yield (
                name,
                old if any(part in name for part in ("embed", "lm_head", "lora_B")) else tensor,
            )

    handed.each_once = late
    assert main([*line]) == 2


def test_a_run_is_that_of_its_config(at, tmp_path, monkeypatch):
    """Twice the same metrics, and nothing left behind. Mutation caught: an engine that is not what the config asks
    for; files of adapters that stay."""
    for out in ("one", "other"):
        apart(monkeypatch, "trained", *words(at, tmp_path / out))
    names = ("reward", "kl/seq", "completions/mean_length")
    for one, other in zip(metrics(tmp_path / "one"), metrics(tmp_path / "other"), strict=True):
        assert {n: one[n] for n in names} == {n: other[n] for n in names}
    assert len(metrics(tmp_path / "one")) == 3 and not (tmp_path / "one" / "engine").exists()


def test_stale_weights_end_the_run(at, tmp_path, monkeypatch):
    """Mutation caught: a check that is not made, or made against itself."""
    apart(monkeypatch, "stale", *words(at, tmp_path / "out"))


def test_each_of_two_ranks_has_an_engine(at, tmp_path, monkeypatch):
    """Whole and shared out, the metrics are those of one process. Mutation caught: ranks that wait for each other's
    requests; an engine with a part of the weights."""
    for name, value in SERIAL.items():
        monkeypatch.setenv(name, value)
    apart(monkeypatch, "trained", *words(at, tmp_path / "one"))
    ways = {"shared": ("--shard",)} | ({} if at.name == "adapter" else {"two": ()})
    for name, more in ways.items():
        out, said = tmp_path / name, tmp_path / f"{name}.txt"
        line = words(at, out, *more)
        codes = several.call(2, several.command, line, str(said), {}, "float32")
        assert codes == [0, 0], said.read_text()
        alike(out, tmp_path / "one")
