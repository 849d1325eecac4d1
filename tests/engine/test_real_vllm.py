"""Servers of vLLM itself as an engine, on a CPU, of tiny Llamas with random weights.

HEEDFUL_VLLM names the Python of an environment that has vllm and this heedful; `make test-scale` makes one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

import tiny
from heedful.cli import main
from heedful.engine import load_engine
from heedful.engine.vllm import VLLMEngine
from heedful.models.load import copy_model, load_policy
from heedful.models.new import new_model
from heedful.types import Sampling
from postgres import free_port

PYTHON = os.environ.get("HEEDFUL_VLLM", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.exhaustive,
    pytest.mark.skipif(not PYTHON, reason="HEEDFUL_VLLM names no Python that has vllm"),
]
PROMPTS = tiny.prompts(6, vocab=300)
SERVER = {
    "VLLM_SERVER_DEV_MODE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip


class Real:
    """A server that can be killed and started again."""

    def __init__(self, model: Path, log: Path):
        self.port, self.model, self.log = free_port(), model, log
        self.url = f"http://127.0.0.1:{self.port}"
        self.begin()

    def begin(self) -> None:
        words = f"-m vllm.entrypoints.openai.api_server --model {self.model} --host 127.0.0.1 --port {self.port}"
        how = "--enable-scale-out --logprobs-mode processed_logprobs --generation-config vllm --dtype float32"
        more = "--distributed-executor-backend uni --enforce-eager --weight-transfer-config"
        arguments = [*words.split(), *how.split(), *more.split(), '{"backend": "heedful"}']
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | SERVER
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [PYTHON, *arguments], env=env, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-3000:])

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module", params=["untied", "tied"])
def server(request, tmp_path_factory) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp(request.param)
    tok = tiny.tokenizer()
    sizes = {
        "hidden_size": 64,
        "layers": 2,
        "heads": 2,
        "context": 128,
    }  # its kernels know no head below 32
    model = new_model("llama", tok, seed=0, **sizes)
    if model.config.tie_word_embeddings != (request.param == "tied"):
        model.config.tie_word_embeddings = request.param == "tied"
        if request.param == "tied":
            model.tie_weights()
        else:
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.flip(0).clone())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0) if p.ndim > 1 else None
    model.save_pretrained(folder / "lm")
    tok.save_pretrained(folder / "lm")
    rows = [{"prompt": w} for w in ("Why?", "Who cares?", "Go on.")]
    (folder / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    real = Real(folder / "lm", folder / "server.log")
    try:
        real.wait()
        yield real
    finally:
        real.kill()


def train(server: Real, out: Path) -> int:
    words = f"train grpo --model {server.model} --data {server.model.parent / 'p.jsonl'} --reward tiny:likes_short"
    sizes = "--steps 3 --batch-size 8 --warmup 0 --max-tokens 8 --learning-rate 0.02 --quiet"
    return main(
        [*words.split(), *sizes.split(), "--out", str(out), "--engine", f"vllm:{server.url}"]
    )


def off(model, prompt, completion) -> float:
    """The largest |Δ log-prob| of a completion's tokens, against plain transformers."""
    ids = torch.tensor([[*prompt, *completion.tokens]])
    with torch.no_grad():
        logp = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return float((logp[len(prompt) - 1 :] - torch.tensor(completion.logprobs)).abs().max())


def test_log_probs_are_the_learners_before_and_after_an_update(server, tmp_path):
    """Mutation caught: an output layer that stays as it was (2 nats off where it is tied); a tensor that is not sent;
    log-probs of another distribution; a seed that is not the sample's own."""
    model = load_policy(server.model)
    engine = load_engine(copy_model(model), f"vllm:{server.url}", folder=tmp_path)
    how = {"max_tokens": 16, "sampling": Sampling(1.0), "stop": (), "seed": 7}
    told = []

    async def ask(version: int):
        await engine.load(model.state_dict(), version)
        return await asyncio.gather(*(engine.generate(p, n=3, **how) for p in PROMPTS))

    for version in range(3):
        answers = asyncio.run(ask(version))
        worst = max(
            off(model, p, c) for p, several in zip(PROMPTS, answers, strict=True) for c in several
        )
        print(f"{server.model.parent.name}, update {version}: |Δ log-prob| ≤ {worst:.2g}")
        assert worst < 1e-5
        assert answers == asyncio.run(ask(version))
        told.append(answers)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
    assert told[0] != told[1] != told[2]
    assert engine.servers[0].receives and not list(tmp_path.iterdir())


def test_a_stale_output_layer_ends_the_run(server, tmp_path, capsys, monkeypatch):
    """Mutation caught: a check that is not made, or made against what the server says of itself."""
    held = VLLMEngine._held
    stale = {}

    def first(self, weights):
        for name, tensor in (now := held(self, weights)).items():
            stale.setdefault(name, tensor.clone())
        return now | {n: t for n, t in stale.items() if "embed" in n or "lm_head" in n}

    monkeypatch.setattr(VLLMEngine, "_held", first)
    assert train(server, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"{server.url} does not sample from the policy" in said and "nats off" in said


def test_a_run_outlives_its_server(server, tmp_path):
    """It is killed after the first step and started again: three steps all the same, each by the policy's weights.

    Mutation caught: a request that is lost; a server that is asked with the weights it was started with.
    """
    out = tmp_path / "out"

    def again() -> None:
        while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
            time.sleep(0.002)
        server.kill()
        server.begin()

    killer = threading.Thread(target=again)
    killer.start()
    assert train(server, out) == 0
    killer.join()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert 0 <= line["engine/kl"] < 1e-6 and line["engine/ratio_max"] < 1 + 1e-3
