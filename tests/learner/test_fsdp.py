"""A model whose weights are shared out among ranks learns what a whole one learns, and goes on with any number."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import heedful as hd
import interruptions as jobs
import several
import tiny
from heedful import cli
from heedful.errors import UserError
from heedful.fast.layers import layers_of
from heedful.launch import first_host, refuse_count, tasks_per_node
from heedful.learner.fsdp import ShardedLearner
from heedful.learner.local import LocalLearner, Mixed, Optim
from heedful.models.adapters import add_lora
from heedful.models.backend import backend_of
from heedful.models.load import copy_model, load_policy
from heedful.models.new import new_model
from heedful.models.save import save_model
from heedful.models.sharded import gathered, shard
from heedful.planning.tracing import Peak
from heedful.ranks import Ranks, joined
from heedful.rewards import load_rewards
from heedful.training.forwards import policy_forward
from heedful.training.reference_cache import cached
from heedful.types import Group

FORWARD, CPU = policy_forward(), torch.device("cpu")
OPTIM = Optim(1e-3, 20, weight_decay=0.1)
GROUPS = [
    Group(f"What is {i}?", [f"It is {i}.", "so " * i + f"it is {i}"], [True, True], {})
    for i in range(3)
]
# Tokens, pairs (one pair: a rank without rows), and two losses in one step.
STEPS: list[tuple] = [
    (several.of_tokens, several.TOKENS, "token", ()),
    (several.of_pairs, several.FOUR, "group", ()),
    (several.of_pairs, several.pairs([12, 9]), "group", ()),
    (several.of_tokens, several.TOKENS, "token", (Mixed("ptx", several.ONE, FORWARD, several.of_tokens, 0.7),)),
]  # fmt: skip


def model_of(arch: str) -> Any:
    """Tied embeddings in one of them, biases in the other."""
    model: Any = tiny.causal_lm(arch)
    if arch == "llama":
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def steps(learner: Any, start: int, stop: int) -> list[dict[str, float]]:
    some = (STEPS[i % len(STEPS)] for i in range(start, stop))
    return [learner.step(loss, batch, per=per, mixed=mixed) for loss, batch, per, mixed in some]


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Root mean square; a gradient that is rounding alone, as of biases of keys, Adam makes a step of."""
    assert ours.keys() == theirs.keys()
    return float(torch.cat([(ours[n] - theirs[n]).flatten() for n in ours]).square().mean().sqrt())


def answers(model: Any, ranks: Ranks, folder: Path) -> int:
    """How often a reference is asked that two runs need."""
    os.environ["HEEDFUL_CACHE"], asked = str(folder / "cache"), []
    samples = several.samples([5, 6])
    for _ in range(2):
        numbers = cached(model, samples, lambda: asked.append(1) or np.arange(2.0), ranks=ranks)
        assert numbers.tolist() == [0.0, 1.0]
    return len(asked)


def learned(folder: Path) -> None:
    """On each rank of two: half of the steps, a state, the other half, and the whole model by the first."""
    with joined() as ranks:
        for arch, sync in (("llama", "last"), ("gpt2", "every")):
            model = model_of(arch)
            whole = sum(p.numel() for p in model.parameters())
            shard(model, ranks, device=CPU, offload=arch == "gpt2")
            how: dict[str, Any] = {"micro_batch_tokens": 60, "ranks": ranks, "sync": sync}
            learner = ShardedLearner(model, FORWARD, OPTIM, **how)
            local = sum(p.to_local().numel() for p in model.parameters())  # type: ignore[union-attr]
            asked = answers(model, ranks, folder)
            state = steps(learner, 0, 10)
            if ranks.rank == 0:
                (folder / arch).mkdir()
            ranks.gather(None)
            learner.save_shards(folder / arch)
            told = learner.state_dict()
            state += steps(learner, 10, 20)
            moments = sum(
                x.to_local().numel() for of_one in learner.optimizer.state.values()
                for name, x in of_one.items() if name != "step"
            )  # fmt: skip
            outputs = learner.outputs(several.TOKENS)
            learner.gather()
            torch.save(
                {
                    "metrics": state, "state": told, "sizes": (local, moments, whole), "logp": outputs.logp,
                    "weights": learner._whole, "asked": (asked, answers(model, ranks, folder)),
                },
                folder / f"{arch}-{ranks.rank}.pt",
            )  # fmt: skip


def shared_out(folder: Path) -> None:
    """The bytes that sharing a bfloat16 model out makes on a rank, at the fullest moment."""
    with joined() as ranks:
        how = {"hidden_size": 64, "layers": 8, "heads": 2, "context": 32, "seed": 0}
        model = new_model("llama", tiny.tokenizer(), **how).to(torch.bfloat16)
        backend_of(model)  # its trial is no part of it
        whole, layer = (
            sum(p.numel() for p in m.parameters()) for m in (model, layers_of(model)[0])
        )
        peak = Peak()
        peak.know(*model.parameters())
        with peak:
            shard(model, ranks, device=CPU, dtype="bfloat16")
        if ranks.rank == 0:
            root = whole - len(layers_of(model)) * layer
            (folder / "bytes.json").write_text(json.dumps([peak.most, whole, max(layer, root)]))


def in_files(model: Any) -> bool:
    """Whether the memory of all weights is that of mapped files of weights."""
    lines = [s.split() for s in Path("/proc/self/maps").read_text().splitlines()]
    parts = [s[0].split("-") for s in lines if s[-1].endswith(".safetensors")]
    ranges = [(int(a, 16), int(b, 16)) for a, b in parts]
    weights = [p for n, p in model.named_parameters() if ".lora_" not in n]
    return all(any(a <= p.data_ptr() < b for a, b in ranges) for p in weights)


OF_FILES = [
    ("llama", "bfloat16", "float32", 0),
    ("llama", "bfloat16", "float32", 4),
    ("gpt2", "float32", "bfloat16", 0),
    ("gpt2", "float32", "bfloat16", 4),
    ("llama", "float32", "float32", 0),
]


def of_files(folder: Path) -> None:
    """On each rank of two: a model and its frozen twin shared out from files of one type for runs in another, beside
    the model as it is loaded whole."""
    with joined() as ranks:
        told = []
        for arch, saved, dtype, rank in OF_FILES:
            name = folder / f"{arch}-{saved}"
            model, plain = (
                load_policy(name, dtype=dtype, mapped=mapped) for mapped in (True, False)
            )
            for some in (model, plain) if rank else ():
                add_lora(some, rank=rank)
            twin = copy_model(model, apart=False)
            sizes = [sum(p.numel() for p in m.parameters()) for m in (model, layers_of(model)[0])]
            mapped, peak = in_files(model) and in_files(twin), Peak()
            peak.know(*model.parameters(), *twin.parameters())
            with peak:
                for some in (model, twin):
                    shard(some, ranks, device=CPU, dtype=dtype)
            same = all(
                torch.equal(x, dict(plain.named_buffers())[n]) for n, x in model.named_buffers()
            )
            for some in (model, twin):
                parts: Any = dict(some.named_parameters())
                for n, x in plain.named_parameters():
                    trained = some is model and x.requires_grad
                    x = x.float() if trained else x
                    same &= parts[n].dtype == x.dtype and torch.equal(parts[n].full_tensor(), x)
            told.append((mapped, same, peak.most, *sizes, twin.dtype.itemsize))
            weights = gathered(model, ranks)
            if ranks.rank == 0:
                (out := folder / f"{arch}-{saved}-{dtype}-{rank}").mkdir()
                save_model(model, tiny.tokenizer(), out, weights=weights)
        (folder / f"{ranks.rank}.json").write_text(json.dumps(told))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_no_rank_has_a_model_of_its_own_before_it_is_shared_out(tmp_path):
    """What will be shared out stays in its files, whatever their type, and so does a reference: then each of two ranks
    has its half of both, bit for bit that of the model as it is loaded whole, and no more than two layers besides.

    Mutations caught: the other type given on loading; weights that keep their files' type; a copy for the reference;
    float32 weights of a bfloat16 run that were not rounded first, or new adapters that were; buffers of the files'
    type; a tied layer twice. And what is saved has the run's type: a config.json that says float32 of a bfloat16 model,
    since it was trained in that; rounded adapters.
    """
    for arch, saved, _, _ in OF_FILES:
        model = model_of(arch).to(getattr(torch, saved))
        (tmp_path / f"{arch}-{saved}").mkdir(exist_ok=True)
        save_model(model, tiny.tokenizer(), tmp_path / f"{arch}-{saved}")
    assert several.call(2, of_files, tmp_path) == [0, 0]
    for rank in range(2):
        for mapped, same, most, whole, layer, size in json.loads(
            (tmp_path / f"{rank}.json").read_text()
        ):
            assert mapped and same
            assert most <= (4 + size) * (whole / 2 + 2 * layer)
    for arch, saved, dtype, rank in OF_FILES:
        folder = tmp_path / f"{arch}-{saved}-{dtype}-{rank}"
        if rank:
            adapter = load_file(folder / "adapter_model.safetensors")
            assert {x.dtype for x in adapter.values()} == {torch.float32}
        else:
            again = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
            assert {p.dtype for p in again.parameters()} == {getattr(torch, dtype)}


@pytest.mark.long
def test_a_model_is_shared_out_layer_by_layer(tmp_path):
    """Each of two ranks makes its half in float32, and of no layer more than its half besides.

    Mutation caught: the whole model, or a whole layer, in float32 before it is shared out; layers in both types until
    all are.
    """
    assert several.call(2, shared_out, tmp_path) == [0, 0]
    most, whole, largest = json.loads((tmp_path / "bytes.json").read_text())
    assert 4 * whole / 2 <= most <= 4 * (whole / 2 + largest / 2) < 4 * whole


@pytest.mark.long
def test_a_shared_out_model_learns_the_same(tmp_path):
    """20 steps within 10⁻⁵ of one process, each rank with half of everything; from its state one process goes on.

    Mutations caught: gradients averaged instead of summed; no summing in the last micro-batch, or in all of them; a
    rank without rows that stays away; the filled-up pass counted; a head that one rank does not use; moments that are
    not shared out; a state that only as many ranks can read. A reference that is shared out is asked once for the same
    weights: not by a hash of one rank's part, nor of none. Parts that wait in the CPU's memory need no GPU.
    """
    assert several.call(2, learned, tmp_path) == [0, 0]
    for arch in ("llama", "gpt2"):
        first, other = (torch.load(tmp_path / f"{arch}-{rank}.pt") for rank in range(2))
        local, moments, whole = first["sizes"]
        assert 2 * local == whole and moments == 2 * local
        assert first["asked"] == other["asked"] == (1, 1)
        alone = LocalLearner(model_of(arch), FORWARD, OPTIM, micro_batch_tokens=60)
        expected = steps(alone, 0, 20)
        for ours, theirs in zip(first["metrics"], expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
        assert first["metrics"] == other["metrics"] and other["weights"] == {}
        assert torch.allclose(first["logp"], alone.outputs(several.TOKENS).logp, atol=1e-4)
        again = LocalLearner(model_of(arch), FORWARD, OPTIM, micro_batch_tokens=60)
        again.load_state_dict(first["state"])
        again.load_shards(tmp_path / arch)
        later = steps(again, 10, 20)
        assert later[-1] == pytest.approx(expected[-1], rel=1e-5, abs=1e-5)
        for learner in (alone, again):
            assert distance(first["weights"], learner.model.state_dict()) < 1e-5


def judged(name: str, folder: Path) -> None:
    """On each rank of two: a reward of two models, one of which is shared out."""
    with joined() as ranks:
        parts = load_rewards([name, f"whole={name}", "length(price=0.1)"])
        judge = parts.models[0]
        whole = sum(p.numel() for p in judge.model.parameters())
        shard(judge.model.requires_grad_(False), ranks, device=CPU)
        judge.ranks = ranks
        local = sum(p.to_local().numel() for p in judge.model.parameters())  # type: ignore[union-attr]
        scores = asyncio.run(parts.score(GROUPS, ranks=ranks))
        torch.save((local, whole, scores.parts), folder / f"{ranks.rank}.pt")


@pytest.mark.long
def test_a_shared_out_reward_model_says_the_same(world, tmp_path):
    """Each rank has half of its weights, and all are told every score; a group more than ranks, and other rewards
    beside it.

    Mutations caught: groups that one rank alone asks it about; scores of another group; the other rewards asked twice.
    """
    assert several.call(2, judged, str(world / "reward"), tmp_path) == [0, 0]
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert sum(local for local, _, _ in found) == found[0][1]
    for local, whole, parts in found:
        assert abs(2 * local - whole) <= 32  # the head, one row, is on one of them
        assert parts["reward"] == pytest.approx(parts["whole"], abs=1e-5)
        assert len(set(parts["whole"])) == 6
        words = [len(r.split()) for g in GROUPS for r in g.responses]
        assert parts["length"] == pytest.approx([-0.1 * n for n in words])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reward_models_have_the_dtype_of_the_run(world, dtype):
    """Mutation caught: float32 in a bfloat16 run."""
    (judge,) = load_rewards(str(world / "reward"), dtype=str(dtype).removeprefix("torch.")).models
    assert {p.dtype for p in judge.model.parameters()} == {dtype}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return jobs.make_world(tmp_path_factory.mktemp("world"))


def run(count: int, line: list[str], trouble: dict | None = None) -> list[int]:
    out = line[line.index("--out") + 1]
    return several.call(count, several.command, line, f"{out}.said", trouble or {}, "float32")


JOBS = [pytest.param(job, marks=pytest.mark.long) for job in ("sft", "ppo")]
JOBS += [pytest.param(job, marks=pytest.mark.exhaustive) for job in ("reward", "dpo")]


@pytest.mark.parametrize("job", JOBS)
def test_a_run_is_that_of_one_process(job, world, tmp_path):
    """Over 20 steps the metrics and the model of one process, one HF folder; an SFT run goes on from 2 ranks to 4 and
    to 1.

    Mutations caught: samples by the shards' weights before they were brought up to date; a reference or a critic that
    is asked by some ranks only; files written by several; a state that only as many ranks can read.
    """
    one, many = tmp_path / "one", tmp_path / "many"
    more = ["--state-every", 4, "--steps", 20]
    more += ["--epochs", 5] if job != "ppo" else []
    more += ["--batch-size", 3] if job == "sft" else []  # three rows on four ranks
    assert run(1, jobs.command(job, world, one, *more)) == [0]
    line = [*jobs.command(job, world, many, *more), "--shard"]
    if job == "sft":
        stopped = 128 + 15
        assert run(2, line, {1: ("signal", 5)}) == [stopped] * 2
        assert run(4, line, {3: ("signal", 5)}) == [stopped] * 4
        assert run(1, line) == [0]
    else:
        assert run(2, line) == [0, 0]
    ours, theirs = jobs.rows(many), jobs.rows(one)
    clocks = {"seconds", "tokens_per_second"}
    assert len(theirs) == 20
    for mine, its in zip(ours, theirs, strict=True):
        assert set(mine) == set(its)
        for name in set(its) - clocks:
            assert mine[name] == pytest.approx(its[name], rel=1e-5, abs=1e-5), (its["step"], name)
    saved = (load_file(folder / "model.safetensors") for folder in (many, one))
    assert distance(*saved) < 1e-5
    if job != "reward":
        assert AutoModelForCausalLM.from_pretrained(many).dtype == torch.float32


def test_slurm_is_understood():
    """Mutation caught: the second node's number; a count that is not repeated."""
    assert first_host("gpu[03-05,09],login1") == "gpu03"
    assert first_host("a1,b2") == "a1" and first_host("solo") == "solo"
    assert first_host("rack[7]-n") == "rack7-n"
    assert tasks_per_node("4(x2),3") == [4, 4, 3]


def test_who_asks_for_processes_gets_them(tmp_path, monkeypatch):
    """The command line starts them, and ends with their code; elsewhere it is a sentence. Mutation caught: one process
    that takes itself for several; a second set of processes started by each of the first."""
    started: list[tuple[int, list[str]]] = []
    monkeypatch.setattr(cli, "launch", lambda n, words: started.append((n, words)) or 2)
    data = tmp_path / "d.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    line = ["train", "sft", "--model", "m", "--data", str(data), "--out", str(tmp_path / "o")]
    assert cli.main([*line, "--nproc", "3"]) == 2
    assert started == [(3, [*line, "--nproc", "3"])]
    with pytest.raises(UserError, match="--nproc 3: processes are started by"):
        hd.run("train sft", model="m", data=str(data), out=tmp_path / "o", nproc=3)
    with pytest.raises(UserError, match="--nproc 3: 2 processes have been started already"):
        refuse_count(3, 2)
