"""Servers of vLLM as an engine, against a server in this process with vLLM's routes (`vllm_like`)."""

from __future__ import annotations

import asyncio
import json
from itertools import chain
from pathlib import Path

import pytest
import torch

import games
import sampled
import several
import tiny
from heedful.configs.engines import servers_of
from heedful.engine import load_engine
from heedful.engine.local import LocalEngine
from heedful.envs.limits import Limits
from heedful.errors import UserError
from heedful.losses.policy import engine_weights
from heedful.models.adapters import add_lora
from heedful.models.load import copy_model, load_policy
from sampled import HOW, PROMPTS, command, drawn, moved, same, train
from vllm_like import VLLMLike


@pytest.fixture(scope="module")
def lm():
    return tiny.causal_lm("llama")


@pytest.mark.parametrize("transport", ["gloo", "ipc", ""])
def test_a_server_says_what_the_learners_weights_say(lm, tmp_path, transport):
    """Before and after an update, over gloo, shared memory and by files, against the embedded engine with the same
    weights.

    Mutation caught: weights that are not sent, sent in another order or cast; a seed that is not the sample's own; a
    parameter of the sampling that is left to the server; log-probs of another token.
    """
    server, after = VLLMLike(lm, transport=transport), moved(lm)
    engine = load_engine(copy_model(lm), f"vllm:{server.url}", folder=tmp_path)
    for version, model in enumerate((lm, after)):
        same(
            drawn(engine, model.state_dict(), version),
            drawn(LocalEngine(copy_model(model)), model.state_dict()),
        )
    assert len(list(tmp_path.iterdir())) == (
        0 if transport else 1
    )  # of earlier versions nothing stays


def test_an_adapter_is_served_beside_its_base(lm, tmp_path):
    """By a name of its own, never merged; the base's weights are not sent.

    Mutation caught: the base asked in place of the adapter; an old adapter kept; its files without the scale.
    """
    policy, server = copy_model(lm), VLLMLike(lm)
    policy.name_or_path = str(tmp_path)
    add_lora(policy, rank=2)
    engine = load_engine(policy, f"vllm:{server.url}", folder=tmp_path / "engine")
    for version in (0, 1):
        with torch.no_grad():
            for name, p in policy.named_parameters():
                if ".lora_B." in name:
                    p.normal_()
        weights = policy.state_dict()
        same(drawn(engine, weights, version), drawn(LocalEngine(policy), weights))
    assert len(server.adapters) == 1 and server.version == "default"


def test_requests_of_a_dead_server_are_asked_again(lm, tmp_path):
    """Of two servers one dies in the middle: nothing is missing, nothing else is drawn. Then the other dies too and
    comes back with the weights that it was started with: it is given those of the day before it is asked.

    Mutation caught: a request that is lost with its server, or counted twice; a server that is asked with the weights
    it was started with.
    """
    a, b, after = VLLMLike(lm), VLLMLike(lm), moved(lm)
    engine = load_engine(copy_model(lm), f"vllm:{a.url},{b.url}", folder=tmp_path)
    exact = drawn(LocalEngine(copy_model(after)), after.state_dict())
    a.die_after = 4
    same(drawn(engine, after.state_dict()), exact)
    assert a.asked >= 5 and b.asked >= 13

    async def again():
        waiting = asyncio.gather(*(engine.generate(p, n=3, **HOW) for p in PROMPTS))
        await asyncio.sleep(0.1)
        b.start()
        return await waiting

    b.kill()
    same(asyncio.run(again()), exact)


def test_episodes_of_several_turns_are_those_of_the_embedded_engine(tmp_path):
    """Each turn is a request whose prompt is all that was said so far, by its ids.

    Mutation caught: a turn that is asked with another seed or stop; what was sampled encoded anew.
    """
    tok = games.tokenizer()
    model = tiny.causal_lm("llama", vocab=len(tok), context=512)
    engine = load_engine(model, f"vllm:{VLLMLike(model).url}", folder=tmp_path)
    asyncio.run(engine.load(model.state_dict(), 0))
    how = {"facts": [{"secret": "3", "room": 4}] * 2, "n": 2, "limits": Limits(turns=3)}
    ours, theirs = (
        chain(*games.play_all(e, games.guess, [games.USER] * 2, tok, **how))
        for e in (engine, LocalEngine(model))
    )
    for one, other in zip(ours, theirs, strict=True):
        games.check(one, tok, model)
        assert len(one.turns) == 3
        assert [t.tokens for t in one.turns] == [t.tokens for t in other.turns]


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Path:
    return sampled.folder(tmp_path_factory.mktemp("vllm"))


def test_training_samples_from_a_server(at, tmp_path, capsys):
    """Where the server is exact the run is that of the embedded engine, and each step tells how far it is off.

    Mutation caught: ratios against the engine's log-probs counted twice, weights of advantages other than 1, metrics
    that are left out; a folder of weights that stays behind.
    """
    server = VLLMLike(load_policy(at / "lm"))
    assert train(at, tmp_path / "plain") == 0
    assert (
        train(at, tmp_path / "served", "--engine", f"vllm:{server.url}", "--correct", "sequence")
        == 0
    )
    lines = [
        [json.loads(line) for line in (tmp_path / of / "metrics.jsonl").read_text().splitlines()]
        for of in ("plain", "served")
    ]
    for plain, served in zip(*lines, strict=True):
        assert 0 <= served["engine/kl"] < 1e-6 and 1 - 1e-6 <= served["engine/ratio_max"] < 1 + 1e-3
        for name in ("reward", "kl/seq", "policy/kl_update"):
            assert served[name] == pytest.approx(plain[name], rel=1e-3, abs=1e-4)
    assert not (tmp_path / "served" / "engine").exists()

    server.stale = ("model.embed_tokens.weight",)
    assert train(at, tmp_path / "stale", "--engine", f"vllm:{server.url}") == 2
    said = capsys.readouterr().err
    assert f"{server.url} does not sample from the policy" in said and "nats off" in said


@pytest.mark.long
def test_two_ranks_sample_from_one_server(at, tmp_path):
    """Both ask it, the first alone brings the weights, also where each has a part of them, and the metrics are those of
    one process.

    Mutation caught: an update by each rank, which vLLM refuses; a rank that asks before the weights are there, or for
    a version that nobody has; what is drawn twice.
    """
    server = VLLMLike(load_policy(at / "lm"))
    lines = {}
    for name, ranks, more in (("one", 1, []), ("two", 2, []), ("shared", 2, ["--shard"])):
        out, said = tmp_path / name, tmp_path / f"{name}.txt"
        words = [*command(at, out), "--engine", f"vllm:{server.url}", *more]
        codes = several.call(ranks, several.command, words, str(said), {}, "float32")
        assert codes == [0] * ranks, said.read_text()
        lines[name] = (out / "metrics.jsonl").read_text().splitlines()
    for name in ("two", "shared"):
        for a, b in zip(map(json.loads, lines["one"]), map(json.loads, lines[name]), strict=True):
            for metric in ("reward", "kl/seq", "policy/kl_update", "engine/ratio_max"):
                assert a[metric] == pytest.approx(b[metric], rel=1e-3, abs=1e-4)


def test_what_cannot_be_asked_is_told_in_one_sentence(at, lm, tmp_path, capsys):
    """Mutation caught: a release whose interface is not known asked all the same; a correction that nothing reads."""
    server = VLLMLike(lm, release="0.11.0")
    for words, sentence in (
        (["--engine", f"vllm:{server.url}"], "is vLLM 0.11.0; known here is vLLM 0.32"),
        (
            ["--engine", f"vllm:{VLLMLike(lm, transport='nccl').url}"],
            "nccl goes from GPU to GPU; the learner is on CPUs",
        ),
        (["--engine", "vllm:http://127.0.0.1:9"], "nobody answers at http://127.0.0.1:9"),
        (["--engine", "vlm:http://h:1"], "'vlm' is unknown"),
        (["--engine", "vllm:http://h:1/v1"], "'http://h:1/v1' is no server"),
        (["--correct", "mask"], "--correct would have no effect"),
    ):
        assert train(at, tmp_path / "refused", *words) == 2
        assert sentence in capsys.readouterr().err
    assert servers_of("vllm:http://a:1,http://b:2/") == ("vllm", ("http://a:1", "http://b:2"))
    assert servers_of("package.module:function") == ("package.module:function", ())
    with pytest.raises(UserError, match="twice"):
        servers_of("vllm:http://a:1,http://a:1")


def test_weights_of_what_an_engine_drew():
    """By hand: two tokens with ratios 3 and ½, one that nobody counts, and a cap of 2.

    Mutation caught: π and μ swapped, a cap from below, a product over what is masked, `mask` that keeps what is above.
    """
    logp = torch.tensor([[3.0, 0.5, 7.0], [3.0, 1.0, 1.0]]).log()
    engine, mask = torch.zeros(2, 3), torch.tensor([[True, True, False], [True, True, False]])
    expected = {
        "none": [[1, 1, 1], [1, 1, 1]],
        "token": [[2, 0.5, 1], [2, 1, 1]],
        "sequence": [[1.5, 1.5, 1], [2, 2, 1]],
        "mask": [[1.5, 1.5, 1], [0, 0, 1]],
    }
    for correct, weights in expected.items():
        given = engine_weights(logp, engine, mask, correct=correct, cap=2.0)
        torch.testing.assert_close(given, torch.tensor(weights, dtype=torch.float32))
