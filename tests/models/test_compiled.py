"""Compiled layers compute what plain ones do, under the same names, and only where packed batches come."""

import copy

import pytest
import torch

import tiny
from heedful.errors import UserError
from heedful.fast import compiled
from heedful.fast.compiled import compile_layers, cpp_compiler
from heedful.fast.layers import checkpoint_layers
from heedful.fast.llama import knows
from heedful.models.adapters import add_lora
from heedful.models.forward import token_logps
from heedful.models.load import load_policy

HERE = (
    "aot_eager"  # traced and split into graphs as for the compiler, which would take half a minute
)


@pytest.fixture(autouse=True)
def nothing_compiled_yet():
    torch.compiler.reset()


def batch(rows=5, width=17, seed=0):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, 384, (rows, width), generator=g)
    tokens[1, :6] = tokens[0, :6]
    return tokens, torch.rand(rows, width - 1, generator=g) < 0.7


def learnt(model, *of):
    """Log-probs of a batch and the gradients by name."""
    logps = token_logps(model, *batch(*of))
    model.zero_grad()
    logps.sum().backward()
    return logps.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_same(ours, theirs, near):
    assert torch.allclose(ours[0], theirs[0], atol=near)
    assert ours[1].keys() == theirs[1].keys()
    for name, grad in theirs[1].items():
        assert (ours[1][name] - grad).norm() <= near * grad.norm() + 1e-7, name


LONG = pytest.param("recomputed", marks=pytest.mark.long)


@pytest.mark.parametrize(
    "kind",
    [
        LONG,
        *(
            pytest.param(k, marks=pytest.mark.exhaustive)
            for k in ("llama", "qwen2", "gpt2", "lora")
        ),
    ],
)
def test_compiled_layers_are_plain_layers(kind, tmp_path):
    """Log-probs and gradients of batches of several sizes, and without gradients; the same names of weights.

    Mutation caught: a layout that is baked into a graph (the second batch differs or fails), a copied layer
    that calls the weights that it was copied from.
    """
    plain = tiny.causal_lm(kind if kind in tiny.ARCHITECTURES else "llama")
    if kind == "lora":
        plain.save_pretrained(tmp_path)
        plain = load_policy(str(tmp_path))
        add_lora(plain, rank=2, alpha=4, targets=("all-linear",), seed=0)
    model = copy.deepcopy(plain)
    compile_layers(model, HERE)
    if kind == "recomputed":
        checkpoint_layers(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    twin = copy.deepcopy(model)
    for of in ((5, 17), (9, 30), (2, 7)):
        assert_same(learnt(model, *of), learnt(plain, *of), 1e-5)
    with torch.no_grad():
        before = token_logps(twin, *batch())
        assert torch.allclose(before, token_logps(plain, *batch()), atol=1e-5)
        for p in model.parameters():
            p.mul_(1.3)
        assert torch.equal(token_logps(twin, *batch()), before)
        assert not torch.allclose(token_logps(model, *batch()), before, atol=1e-2)


@pytest.mark.long
def test_it_is_the_compiled_function_that_runs_and_only_on_packed_batches():
    """Mutation caught: compiled layers that nobody calls, and an engine that compiles for each width of its cache."""
    seen = []

    def spy(graph, inputs):
        seen.append(graph)
        return graph.forward

    model = tiny.causal_lm("llama")
    compile_layers(model, spy)
    assert knows(model)
    with torch.no_grad():
        model(input_ids=batch()[0])
        assert not seen
        token_logps(model, *batch())
    assert len(seen) == 4  # norm, queries to rotation, output, MLP: each once for both layers


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_what_the_compiler_makes(dtype, near):
    """As above, by the code that users run; in bfloat16 fused sums are rounded less often."""
    plain = tiny.causal_lm("qwen2").to(dtype)
    model = copy.deepcopy(plain)
    compile_layers(model)
    for of in ((5, 17), (9, 30)):
        assert_same(learnt(model, *of), learnt(plain, *of), near)


def test_what_cannot_be_compiled_is_said(monkeypatch):
    """Mutation caught: a flag that is accepted and does nothing, a traceback from deep inside the compiler."""
    model = tiny.causal_lm("llama")
    monkeypatch.setattr(compiled, "cpp_compiler", lambda: None)
    with pytest.raises(UserError, match="C\\+\\+ compiler"):
        compile_layers(model)
    monkeypatch.setattr(compiled.packed, "can_pack", lambda model: False)
    with pytest.raises(UserError, match="no effect: LlamaForCausalLM"):
        compile_layers(model, HERE)
