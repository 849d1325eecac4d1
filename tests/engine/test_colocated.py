"""vLLM in the learner's process as an engine, against what heedful calls of it (`vllm_here`)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch

import sampled
import tiny
import vllm_here
from heedful.configs.engines import MEMORY, has_own_weights, memory_of
from heedful.engine import handed, load_engine
from heedful.engine.local import LocalEngine
from heedful.models.adapters import add_lora
from heedful.models.load import copy_model, load_policy
from sampled import HOW, PROMPTS, drawn, moved, same, train


@pytest.fixture(scope="module")
def lm():
    return tiny.causal_lm("llama")


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Path:
    return sampled.folder(tmp_path_factory.mktemp("colocated"))


def engine_of(model, folder: Path, monkeypatch):
    vllm_here.install(monkeypatch)
    return load_engine(copy_model(model), "vllm:0.5", folder=folder), vllm_here.LLM.newest


def test_it_says_what_the_learners_weights_say(lm, tmp_path, monkeypatch):
    """Between rounds it gives up its memory, and has the new weights before it has room to sample.

    Mutation caught: weights of the start, or of the round before; keys and values of older weights; a call from the
    learner's thread; room for keys and values while the weights come, when both may not fit.
    """
    engine, llm = engine_of(lm, tmp_path, monkeypatch)
    assert engine.window == 64 and llm.how["gpu_memory_utilization"] == 0.5
    for version, model in enumerate((lm, moved(lm), lm)):
        own = drawn(LocalEngine(copy_model(model)), model.state_dict())
        same(drawn(engine, model.state_dict(), version), own)
        asyncio.run(engine.sleep())
        asyncio.run(engine.sleep())  # of what sleeps nothing more is asked
    woken = ["wake weights", "wake kv_cache", "reset", "sleep 2"]
    assert llm.calls == ["reset", "sleep 2", *woken, *woken]
    assert not any(tmp_path.iterdir())


def test_requests_that_come_together_are_one_batch(lm, tmp_path, monkeypatch):
    """Mutation caught: requests one after another; one that is never looked at."""
    engine, llm = engine_of(lm, tmp_path, monkeypatch)
    drawn(engine, lm.state_dict())
    assert sum(llm.batches) == 3 * len(PROMPTS) and len(llm.batches) <= 4


def test_what_vllm_raises_reaches_who_asked(lm, tmp_path, monkeypatch):
    """All of them, and the engine goes on. Mutations caught: who asked waits for ever; requests that stay in vLLM."""
    engine, llm = engine_of(lm, tmp_path, monkeypatch)
    asyncio.run(engine.load(lm.state_dict(), 1))
    llm.fails_with = RuntimeError("out of memory")

    async def all_of_them():
        asked = (engine.generate(p, n=2, **HOW) for p in PROMPTS)
        return await asyncio.gather(*asked, return_exceptions=True)

    told = asyncio.run(asyncio.wait_for(all_of_them(), 30))
    assert [str(error) for error in told] == ["out of memory"] * len(PROMPTS)
    llm.fails_with = None
    assert not llm.waiting
    assert asyncio.run(asyncio.wait_for(engine.generate(PROMPTS[0], **HOW), 30))


def test_an_adapter_stands_beside_its_base(tmp_path, monkeypatch):
    """The base sleeps with its weights put aside, since nobody brings them again.

    Mutation caught: a base that is forgotten; adapters of earlier rounds that stay; room for a smaller rank.
    """
    tiny.causal_lm("llama").save_pretrained(tmp_path / "lm")
    policy = load_policy(tmp_path / "lm")
    add_lora(policy, rank=9)
    engine, llm = engine_of(policy, tmp_path / "engine", monkeypatch)
    assert llm.how["max_lora_rank"] == 16
    for version in range(2):
        own = drawn(LocalEngine(copy_model(policy)), policy.state_dict())
        same(drawn(engine, policy.state_dict(), version), own)
        asyncio.run(engine.sleep())
        assert len(llm.adapters) == 1 and len([*(tmp_path / "engine").iterdir()]) == 1
        with torch.no_grad():
            for name, p in policy.named_parameters():
                p.add_(0.3) if "lora_B" in name else None
    woken = ["wake weights kv_cache", "adapter 2", "reset", "sleep 1"]
    assert llm.calls == ["adapter 1", "reset", "sleep 1", *woken]


def test_training_samples_in_its_own_process(at, tmp_path, monkeypatch):
    """The same metrics as with the embedded engine, vLLM asleep whenever the learner works.

    Mutation caught: an engine that is awake while the learner works, or that is never asked.
    """
    vllm_here.install(monkeypatch)
    from heedful.learner.local import LocalLearner

    step, asleep = LocalLearner.step, list[bool]()

    def watched(self, *of, **how):
        asleep.append(not vllm_here.LLM.newest.awake)
        return step(self, *of, **how)

    assert train(at, tmp_path / "plain") == 0
    monkeypatch.setattr(LocalLearner, "step", watched)
    assert train(at, tmp_path / "here", "--engine", "vllm") == 0
    assert asleep and all(asleep)
    lines = [
        [json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]
        for out in ("plain", "here")
    ]
    for ours, theirs in zip(*lines, strict=True):
        assert ours["reward"] == pytest.approx(theirs["reward"], abs=1e-4)
        assert theirs["engine/kl"] < 1e-6
    assert not (tmp_path / "here" / "engine").exists()


def test_stale_weights_end_the_run(at, tmp_path, capsys, monkeypatch):
    """Mutation caught: no check of what is in this process."""
    vllm_here.install(monkeypatch)
    monkeypatch.setattr(
        handed, "each_once", lambda weights: iter([(n, t + 0.3) for n, t in weights.items()])
    )
    assert train(at, tmp_path / "out", "--engine", "vllm") == 2
    assert "vLLM does not sample from the policy" in capsys.readouterr().err


def test_what_cannot_be_is_told_in_one_sentence(at, tmp_path, capsys, monkeypatch):
    """Exit code 2, and nothing is written."""
    out = tmp_path / "out"
    for spec, why in (
        ("vllm", "there is none: pip install 'vllm==0.32.*'"),
        ("vllm:0", "expected vllm, vllm:0.5"),
        ("vllm:1.5", "expected vllm, vllm:0.5"),
        ("vllm:here", "expected vllm, vllm:0.5"),
    ):
        assert train(at, out, "--engine", spec) == 2
        assert why in capsys.readouterr().err and not out.exists()
    vllm_here.install(monkeypatch, "0.11.0")
    assert train(at, out, "--engine", "vllm") == 2
    assert "is vLLM 0.11.0; known here is vLLM 0.32" in capsys.readouterr().err and not out.exists()
    assert memory_of("vllm") == MEMORY and memory_of("vllm:.25") == 0.25
    assert memory_of("vllm:http://h:1") is None and has_own_weights("vllm:http://h:1")
    assert has_own_weights("vllm") and not has_own_weights("local")
