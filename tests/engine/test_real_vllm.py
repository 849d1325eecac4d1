"""Servers of vLLM itself as an engine, on a CPU, of tiny Llamas with random weights.

HEEDFUL_VLLM names the Python of an environment that has vllm and this heedful; `make test-scale` makes one. A server is
started for each kind and shared by the tests: each gives it the weights that it needs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

import games
import several
import tiny
from changed import changed
from heedful.cli import main
from heedful.data.collate import collate
from heedful.engine import load_engine
from heedful.engine.served import Lost, Served
from heedful.engine.vllm import VLLMEngine
from heedful.envs.limits import Limits
from heedful.models.adapters import add_lora
from heedful.models.forward import token_logps
from heedful.models.load import copy_model, load_policy
from heedful.rollout import as_samples
from heedful.types import Sampling
from postgres import free_port
from sampled import alike, metrics, off, real_llama

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
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "TORCHDYNAMO_DISABLE": "1",
}  # fmt: skip
BACKENDS = {
    "untied": "heedful", "tied": "heedful", "shared": "heedful-ipc", "two": "heedful-ipc", "nccl": "heedful-nccl"
}  # fmt: skip
ADAPTERS = ("--enable-lora", "--max-lora-rank", "8")
RANK = 4
whole = pytest.mark.parametrize("server", ["untied", "tied"], indirect=True)


class Real:
    """A server that can be killed and started again."""

    def __init__(self, kind: str, model: Path, log: Path):
        self.kind, self.port, self.model, self.log = kind, free_port(), model, log
        self.url = f"http://127.0.0.1:{self.port}"
        self.begin()

    def begin(self) -> None:
        words = f"-m vllm.entrypoints.openai.api_server --model {self.model} --host 127.0.0.1 --port {self.port}"
        how = "--enable-scale-out --logprobs-mode processed_logprobs --generation-config vllm --dtype float32"
        more = "--enforce-eager --distributed-executor-backend"
        more += " mp --tensor-parallel-size 2" if self.kind == "two" else " uni"
        whole = ("--weight-transfer-config", json.dumps({"backend": BACKENDS.get(self.kind)}))
        takes = whole if self.kind in BACKENDS else ADAPTERS
        arguments = [*words.split(), *how.split(), *more.split(), *takes]
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


@pytest.fixture(scope="module", params=["untied", "tied", "shared", "adapters"])
def server(request, tmp_path_factory) -> Iterator[Real]:
    folder = real_llama(
        tmp_path_factory.mktemp(request.param), tied=request.param in ("tied", "shared")
    )
    served = folder / "lm"
    if request.param == "nf4":
        pytest.importorskip("bitsandbytes")
        served = folder / "lm4"
        assert main(["merge", str(folder / "lm"), "--nf4", "--out", str(served)]) == 0
    real = Real(request.param, served, folder / "server.log")
    try:
        real.wait()
        yield real
    finally:
        real.kill()


def policy_of(server: Real):
    """What is trained on a server of this kind: the model, or an adapter on it."""
    model = load_policy(server.model)
    if server.kind == "adapters":
        add_lora(model, rank=RANK)
    return model


def moved(model) -> None:
    """Other weights, of those that are trained."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p)) if p.requires_grad else None


def train(server: Real, out: Path, *more: object) -> int:
    return main(words(server, out, *more))


def words(server: Real, out: Path, *more: object) -> list[str]:
    at = server.model.parent
    words = f"train grpo --model {at / 'lm'} --data {at / 'p.jsonl'} --reward tiny:likes_short"
    sizes = "--steps 3 --batch-size 8 --warmup 0 --max-tokens 8 --learning-rate 0.02 --quiet"
    lora = () if server.kind in BACKENDS else ("--lora.rank", RANK)
    lora += ("--lora.nf4",) if server.kind == "nf4" else ()
    how = ("--out", out, "--engine", f"vllm:{server.url}", *lora)
    return changed([*words.split(), *sizes.split(), *how], *more)


@pytest.mark.parametrize("server", ["untied", "tied", "shared", "two", "adapters"], indirect=True)
def test_log_probs_are_the_learners_before_and_after_an_update(server, tmp_path):
    """Weights go over gloo or through shared memory (`shared`; `two`: to two processes, each of which has half of each
    layer). An adapter is served beside its base, which nobody changes.

    Mutation caught: an output layer that stays as it was (2 nats off where it is tied); a tensor that is not sent; an
    old adapter, or its base in its place; log-probs of another distribution; a seed that is not the sample's own.
    """
    model, adapter = policy_of(server), server.kind == "adapters"
    engine: Any = load_engine(copy_model(model), f"vllm:{server.url}", folder=tmp_path)
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
        print(f"{server.kind}, update {version}: |Δ log-prob| ≤ {worst:.2g}")
        assert worst < 1e-5
        assert answers == asyncio.run(ask(version))
        told.append(answers)
        moved(model)
    assert told[0] != told[1] != told[2]
    assert engine.servers[0].receives != adapter
    assert len(list(tmp_path.iterdir())) == adapter
    served = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert len(served) == 1 + adapter
    if adapter:
        assert httpx.get(f"{server.url}/weight_info").json()["weight_version"] == "default"


@pytest.mark.parametrize("server", ["nccl"], indirect=True)
def test_nccl_without_gpus_ends_the_run_before_it_begins(server, tmp_path, capsys):
    """Mutation caught: a server whose answer nobody reads, which would wait for an update, or be given files."""
    assert train(server, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"{server.url}: nccl goes from GPU to GPU" in said
    assert "the learner is on CPUs" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


@whole
def test_files_take_the_place_of_gloo(server, tmp_path, capsys, monkeypatch):
    """As for a server without the plugin. Where the output layer is the embedding vLLM keeps the old one, and the run
    ends.

    Mutation caught: files that vLLM does not read; a check that is not made after an update by files.
    """
    monkeypatch.setattr(Served, "_send", lambda self, given, alone: self._read(given))
    code = train(server, tmp_path / "out")
    if server.kind == "untied":
        assert code == 0 and len(metrics(tmp_path / "out")) == 3
        assert not (tmp_path / "out" / "engine").exists()
    else:
        assert code == 2 and "does not sample from the policy" in capsys.readouterr().err


def test_stale_weights_end_the_run(server, tmp_path, capsys, monkeypatch):
    """Mutation caught: a check that is not made, or made against what the server says of itself."""
    held = VLLMEngine._held
    stale = {}

    def first(self, weights):
        for name, tensor in (now := held(self, weights)).items():
            stale.setdefault(name, tensor.clone())
        late = ("embed", "lm_head", "lora_B")
        return now | {n: t for n, t in stale.items() if any(part in n for part in late)}

    monkeypatch.setattr(VLLMEngine, "_held", first)
    assert train(server, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"{server.url} does not sample from the policy" in said and "nats off" in said


def by_heart(server: Real, tok) -> Any:
    """The model, having learned a call of a tool and what it says to the answer."""
    call = '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'
    script, facts = games.Script(tok, call, "It is 5."), {"sum": "5"}
    episode = games.play_one(script, games.calculator, games.USER, tok, facts, max_tokens=300)
    batch, model = collate(as_samples(episode)), load_policy(server.model)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(1000):
        loss = -token_logps(model, batch.tokens, batch.mask)[batch.mask]
        if loss.max() < 1e-3:
            return model.eval()
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
    raise AssertionError(f"it has learned nothing by heart: {loss.max():.2g} nats")


@whole
def test_episodes_of_several_turns_with_a_tool(server, tmp_path):
    """Each turn is a request whose prompt is all that was said so far, by its ids; a tool's answers are heard.

    Mutation caught: what was sampled encoded anew; a turn with another's log-probs; a stop that vLLM is not told of.
    """
    tok = games.tokenizer()
    model = by_heart(server, tok)
    engine: Any = load_engine(copy_model(model), f"vllm:{server.url}", folder=tmp_path)
    asyncio.run(engine.load(model.state_dict(), 0))
    how = {"facts": [{"sum": "5"}] * 2, "n": 2, "max_tokens": 100}
    for episode in chain(*games.play_all(engine, games.calculator, [games.USER] * 2, tok, **how)):
        games.check(episode, tok, model)
        assert episode.counts == {"calls": 1, "wrong_calls": 0} and episode.reward == 1.0
        assert [m.role for m in episode.messages] == ["user", "assistant", "tool", "assistant"]
    how = {"facts": [{"secret": "3", "room": 4}] * 2, "n": 2, "limits": Limits(turns=3)}
    for episode in chain(*games.play_all(engine, games.guess, [games.USER] * 2, tok, **how)):
        games.check(episode, tok, model)
        assert len(episode.turns) == 3

    model.save_pretrained(tmp_path / "lm")
    tok.save_pretrained(tmp_path / "lm")
    row = {"prompt": [{"role": "user", "content": "Guess."}], "sum": "5"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    where = ("--model", tmp_path / "lm", "--data", tmp_path / "p.jsonl", "--max-tokens", 100)
    assert train(server, tmp_path / "out", *where, "--env", "games:calculator") == 0
    lines = metrics(tmp_path / "out")
    assert len(lines) == 3


@pytest.mark.parametrize("server", ["nf4"], indirect=True)
def test_an_adapter_beside_a_base_in_four_bits(server, tmp_path):
    """The server has the base as `heedful merge --nf4` writes it. Mutation caught: the base in full, whose log-probs
    are further off than a run allows."""
    assert train(server, tmp_path / "out") == 0
    assert len(metrics(tmp_path / "out")) == 3


def test_a_run_outlives_its_server(server, tmp_path, monkeypatch):
    """It is killed in the middle of the second step's batch and started again: the metrics are those of a run in which
    nothing happens.

    Mutation caught: a request that is lost, or asked again with another seed; a server that is asked with the weights
    it was started with, or without the adapter.
    """
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    assert train(server, calm, "--max-tokens", 64) == 0
    asked, lost = VLLMEngine._asked, []
    killer = threading.Thread(target=lambda: (time.sleep(0.2), server.kill(), server.begin()))

    async def dying(self, served, body, stop):
        if served.outstanding == 8 and killer.ident is None and len(metrics(stormy)) == 1:
            killer.start()
        try:
            return await asked(self, served, body, stop)
        except Lost as error:
            lost.append(str(error))
            raise

    monkeypatch.setattr(VLLMEngine, "_asked", dying)
    assert train(server, stormy, "--max-tokens", 64) == 0
    killer.join()
    print(f"{server.kind}: {len(lost)} requests lost")
    assert any("connection attempts" not in why for why in lost)  # cut off, not refused
    alike(stormy, calm)


@pytest.mark.parametrize("server", ["untied", "adapters"], indirect=True)
def test_two_ranks_sample_from_one_server(server, tmp_path):
    """Also where each has a part of the policy: the metrics are those of one process.

    Mutation caught: an update by each rank, or by one that has a part of the weights; a rank that asks for a version
    that nobody has; what is drawn twice.
    """
    assert train(server, tmp_path / "one") == 0
    # Adapters that are whole on each rank differ from whole weights in nothing that is tried here.
    ways = {"shared": ("--shard",)} | ({} if server.kind == "adapters" else {"two": ()})
    for name, more in ways.items():
        out, said = tmp_path / name, tmp_path / f"{name}.txt"
        line = words(server, out, *more)
        codes = several.call(2, several.command, line, str(said), {}, "float32")
        assert codes == [0, 0], said.read_text()
        alike(out, tmp_path / "one")


@pytest.mark.parametrize("server", ["untied"], indirect=True)
def test_two_servers_are_one_engine(server, tmp_path, monkeypatch):
    """Both have the weights of each update and are asked; one that dies in the middle of a batch leaves its requests to
    the other. The metrics are those of one server.

    Mutation caught: a server that is not asked, or left with the weights of its start; requests that go with it.
    """
    assert train(server, tmp_path / "one", "--max-tokens", 64) == 0
    other = Real(server.kind, server.model, tmp_path / "other.log")
    asked, answers, lost = VLLMEngine._asked, Counter[str](), []

    async def counted(self, served, body, stop):
        if dying and served.url == other.url and served.outstanding == 4:
            os.killpg(other.process.pid, signal.SIGKILL)
        try:
            answer = await asked(self, served, body, stop)
        except Lost as error:
            lost.append(str(error))
            raise
        answers[served.url] += 1
        return answer

    monkeypatch.setattr(VLLMEngine, "_asked", counted)
    both = ("--engine", f"vllm:{server.url},{other.url}", "--max-tokens", 64)
    try:
        other.wait()
        dying = False
        assert train(server, tmp_path / "both", *both) == 0
        assert not lost and answers[server.url] == answers[other.url]
        dying = True
        assert train(server, tmp_path / "less", *both) == 0
        assert len(lost) >= 4
    finally:
        other.kill()
    for name in ("both", "less"):
        alike(tmp_path / name, tmp_path / "one")
