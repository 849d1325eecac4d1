"""What a run will need is told before it is begun, and it is what the run then has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

import several
from heedful import cli
from heedful.configs.common import Lora, Sharded
from heedful.data.collate import collate
from heedful.errors import UserError
from heedful.fast import kernels, llama
from heedful.learner.local import LocalLearner, Optim
from heedful.models.load import load_policy
from heedful.models.quantised import BYTES as NF4
from heedful.planning import memory, models, plan
from heedful.planning.gpus import Gpu, cluster
from heedful.planning.tracing import Peak, Trace, trace
from heedful.training.forwards import policy_forward
from heedful.training.supervised import cross_entropy

ROWS, LENGTH = 4, 64
NOTHING = Trace(0, 0.0, 0.0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of half a million parameters."""
    path = tmp_path_factory.mktemp("model")
    config = LlamaConfig(
        vocab_size=512, hidden_size=96, intermediate_size=288, num_hidden_layers=4,
        num_attention_heads=3, num_key_value_heads=3, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_plan_is_what_is_measured(folder, again, monkeypatch):
    """The bytes of all tensors at the fullest moment of a step; a GPU's way on a CPU.

    Mutations caught: moments or gradients forgotten, or counted with the activations; attention's square; a
    checkpointed layer that keeps its inside.
    """
    from heedful.fast.layers import checkpoint_layers

    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(llama, "learns", lambda model, layout: False)
    model, there = models.empty(str(folder)), load_policy(folder)
    if again:
        checkpoint_layers(model)
        checkpoint_layers(there)
    of, tokens = models.sizes(model), ROWS * LENGTH
    passed = trace(model, tokens, tokens, LENGTH, grads=False)
    how = memory.Setting("float32", several=False)
    said = memory.total(memory.learner(of, how, passed)) + passed.bytes
    learner = LocalLearner(there, policy_forward(), Optim(1e-4, 10))
    rows = several.samples([LENGTH + 1] * ROWS, longest_prompt=1)
    batch = collate(rows)
    peak = Peak()
    params = list(there.parameters())
    peak.know(*params, *there.buffers())
    with peak:
        for _ in range(2):
            learner.step(cross_entropy, batch)
    found = sum(p.untyped_storage().nbytes() for p in params) + peak.most
    assert said == pytest.approx(found, rel=0.03 if not again else 0.06)


def test_states_are_arithmetic(folder):
    """P parameters on 4 ranks. Mutations caught: a master copy forgotten; a whole part; offloaded parts kept;
    a base in four bits counted in full."""
    of = models.sizes(models.empty(str(folder)))
    p = sum(x.numel() for x in LlamaForCausalLM.from_pretrained(folder).parameters())
    assert of.total == of.trained == p
    whole = memory.learner(of, memory.Setting("bfloat16", ranks=4), NOTHING)
    assert memory.total(whole) == (2 + 4 + 8 + 4) * p
    how: dict[str, Any] = {"dtype": "bfloat16", "ranks": 4, "shard": True}
    parts = memory.learner(of, memory.Setting(**how), NOTHING)
    assert (parts["weights"], parts["optimiser (Adam)"], parts["gradients"]) == (p, 2 * p, 4 * p)
    every = memory.learner(of, memory.Setting(**how, every=True), NOTHING)
    assert every["gradients"] == p
    away = memory.learner(of, memory.Setting(**how, every=True, offload=True), NOTHING)
    assert sum(away[k] for k in ("weights", "optimiser (Adam)", "gradients")) == 0
    assert memory.cache(of, "bfloat16", rows=5, length=7) == 2 * 2 * 4 * 96 * 5 * 7
    lora = Sharded(out=Path(), lora=Lora(rank=2, nf4=True))
    packed = models.sizes(models.prepared(models.empty(str(folder)), lora), nf4=True)
    linear = p - 2 * 512 * 96 - 96 * 9  # of the layers: neither embedding nor output layer
    assert packed.packed == linear
    kept = memory.learner(packed, memory.Setting("bfloat16"), NOTHING)["weights"]
    assert kept == 2 * (packed.total - linear) + NF4 * linear
    forward = trace(models.empty(str(folder)), 64, 64, 64).forward_flops
    matrices = p - 512 * 96 - 96 * 9  # the embedding is looked up, norms are no products
    assert forward == 2 * 64 * matrices + 4 * (2 * 96 * 64 * 64)


def test_what_a_pass_gathers(folder):
    """Of a sharded model in float32, at each of the three moments that can be the fullest.

    Mutations caught: layers counted at the output layer's turn; its gradient forgotten; the root's gradients beside
    activations that have gone.
    """
    of = models.sizes(models.empty(str(folder)))
    how = memory.Setting("float32", ranks=2, shard=True, several=False)
    assert of.head == 512 * 96 and of.root == 2 * of.head + 96
    gigabyte, whole, gradient = 1 << 30, 4 * of.root, 4 * of.head
    at_the_top = Trace(gigabyte, 0.0, 0.0, 0)
    assert memory.gathered(of, how, at_the_top) == whole + gradient
    below = Trace(gigabyte, 0.0, 0.0, gigabyte)
    assert memory.gathered(of, how, below) == whole + gradient + 3 * 4 * of.layer
    layer = (3 * 4 + 8) * of.layer
    assert memory.gathered(of, how, NOTHING) == whole + max(gradient + layer, 8 * of.root)


def test_the_flags_that_make_it_fit(folder, tmp_path, monkeypatch, capsys):
    """On a GPU of a few MiB; what is unknown is one sentence. Mutations caught: a flag told that changes nothing; a
    plan that fits and is told to change."""
    file = tmp_path / "run.yaml"
    file.write_text(f"command: train dpo\nmodel: {folder}\ndata: d.jsonl\nout: o\n")
    words = [
        "plan",
        str(file),
        "--gpus",
        "2xsmall",
        "--prompt-tokens",
        "32",
        "--response-tokens",
        "32",
    ]
    monkeypatch.setattr(plan, "RESERVED", 0.0)
    for size, last in ((1.0, "fits: "), (0.09, "bfloat16: 0.07"), (1e-4, "no flag makes it fit")):
        monkeypatch.setitem(plan_gpus(), "small", Gpu(size, 1e12, 1e12, 1e9, 1e9))
        assert cli.main([*words, "--explain"]) == 0
        text = capsys.readouterr().out.splitlines()
        assert last in text[-1], text
    assert "--dtype bfloat16 --shard --micro-batch-tokens 2048" in text[-2]
    with pytest.raises(UserError, match=r"H1000 is unknown \(did you mean 'H100'"):
        cluster("8xH1000")
    assert (cluster("4x8xh100").ranks, cluster("A100").ranks) == (32, 1)
    file.write_text("command: train ilql\nmodel: m\ndata: d\nout: o\n")
    assert cli.main(words) == 2


def plan_gpus() -> dict[str, Gpu]:
    from heedful.planning.gpus import GPUS

    return GPUS
