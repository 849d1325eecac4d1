"""Decoding by graphs, with a recorder that takes the step again: what is there without a GPU is all but CUDA's part."""

import asyncio
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny
from families import model_of
from heedful.engine import graphs, passes
from heedful.engine.local import LocalEngine
from heedful.engine.modules import Modules
from heedful.engine.slots import SlotCache
from heedful.fast import kernels
from heedful.types import Sampling


class Written(TorchDispatchMode):
    """Notes where a step writes: keys, values, logits."""

    def __init__(self):
        super().__init__()
        self.places: list[tuple[torch.Tensor, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.index_copy_.default:
            self.places.append((args[0], args[2]))
        elif func is torch.ops.aten.copy_.default:
            self.places.append((args[0], slice(None)))
        return func(*args, **(kwargs or {}))


class Again:
    """A graph that takes the recorded step again, and must write where it wrote."""

    made: list[list[int]]  # of each graph: how often it was replayed
    slots: set[int]  # keys of the first layer

    def __init__(self, device: torch.device):
        pass

    def __call__(self, step):
        replays = [0]
        Again.made.append(replays)

        def where() -> list[int]:
            with Written() as written:
                step()
            self.written = written.places
            return [x.data_ptr() for x, _ in written.places]

        first = where()
        Again.slots.add(first[0])

        def replay() -> None:
            replays[0] += 1
            assert where() == first

        return replay


class Wrong(Again):
    def __call__(self, step):
        replay = super().__call__(step)

        def wrongly() -> None:
            replay()
            for x, places in self.written:
                x[places] += 1.0

        return wrongly


class Broken(Again):
    def __call__(self, step):
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """A CPU that is treated as one, and widths of which the tiny model has several."""
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(graphs, "Recorder", Again)
    monkeypatch.setattr(graphs, "NARROW", 8)
    monkeypatch.setattr(graphs.Graphed, "trusted", True)
    monkeypatch.setattr(Again, "made", [], raising=False)
    monkeypatch.setattr(Again, "slots", set(), raising=False)
    monkeypatch.setattr(passes, "graphs", lambda model: True)
    return monkeypatch


def sampled(model, max_rows=5) -> list:
    """Prompts of many lengths; when the first is answered, others ask that need longer slots, and more of them."""
    engine = LocalEngine(model, max_rows=max_rows)
    prompts = sorted(tiny.prompts(), key=len)

    async def ask(i, n, tokens):
        return await engine.generate(
            prompts[i], n=n, max_tokens=tokens, sampling=Sampling(), stop=(3, 4, 5, 6), seed=i
        )

    async def everybody():
        first = [asyncio.ensure_future(ask(i, 1 + i % 3, 70 + i)) for i in range(8)]
        await first[1]
        return await asyncio.gather(*first, *(ask(i, 3, 150) for i in range(8, 12)))

    return [completion for group in asyncio.run(everybody()) for completion in group]


def alike(ours: list, theirs: list) -> bool:
    return all(
        a.tokens == b.tokens
        and torch.allclose(torch.tensor(a.logprobs), torch.tensor(b.logprobs), atol=1e-4)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(
    "arch, max_rows",
    [("qwen3", 1), *product(["llama", "qwen2", "qwen3", "mistral"], [5, 256])],
)
def test_graphs_sample_what_the_modules_sample(arch, max_rows, on_a_gpu):
    """Mutation caught: a graph of slots that were given up, of another width or number of rows; tokens, lengths or
    places that are not where they were recorded; rows too many that write where others have their keys."""
    model = model_of(arch, vocab_size=384, max_position_embeddings=192)
    ours = sampled(model, max_rows=max_rows)
    replayed = sum(n for (n,) in Again.made)
    assert replayed > 2 * len(Again.made) > 0 and len(Again.slots) > 1
    on_a_gpu.setattr(passes, "graphs", lambda model: False)
    assert alike(ours, sampled(model, max_rows=max_rows))


@pytest.mark.parametrize("recorder", [Wrong, Broken])
def test_a_graph_is_tried_before_it_is_relied_on(recorder, on_a_gpu, caplog):
    """Mutation caught: wrong logits sampled from, wrong keys and values left behind, an error that ends the run, a
    warning at every step."""
    model = model_of("qwen2", vocab_size=384, max_position_embeddings=192)
    on_a_gpu.setattr(graphs, "Recorder", recorder)
    ours = [*sampled(model), *sampled(model)]
    assert caplog.text.count("goes on without CUDA graphs") == 1
    on_a_gpu.setattr(passes, "graphs", lambda model: False)
    assert alike(ours, 2 * sampled(model))


def test_few_tokens_are_not_recorded(on_a_gpu):
    """Mutation caught: a graph for what is sampled faster without."""
    model, cache = tiny.causal_lm("llama"), SlotCache(2)
    for tokens, kind in ((passes.LONG - 1, Modules), (passes.LONG, graphs.Graphed)):
        direct: Any = passes.passes(model, cache, 1, tokens)
        assert type(direct.stack) is kind


class Watch(TorchDispatchMode):
    """Notes what brings a tensor from the host to the device, which a graph cannot do again."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in tree_leaves((args, kwargs, out)) if torch.is_tensor(x)}
        if "cpu" in devices:
            self.found.append(f"{func} on {devices}")
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_step_stays_on_the_device(arch, dtype):
    """On tensors that say they are on a GPU and have no numbers. Mutation caught: a number that Python asks for, as of
    the longest row, or a tensor made on the host: neither can be part of a graph."""
    model = model_of(arch, vocab_size=384, max_position_embeddings=192)
    with FakeTensorMode() as fake, torch.device("cuda"), torch.inference_mode():
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                for name, x in held.items():
                    if x is not None:
                        x = fake.from_tensor(x).to("cuda", dtype)
                        held[name] = nn.Parameter(x) if held is module._parameters else x
        tokens, lengths = torch.empty(2, 3, dtype=torch.long)
        assert model.device.type == "cuda" and graphs.graphs(model)
        cache, kv = SlotCache(2), model.config.num_key_value_heads
        cache.reserve(4, 64)
        heads = torch.empty(3, kv, 5, model.model.layers[0].self_attn.head_dim, dtype=dtype)
        for i in range(2):
            cache.insert(i, heads, heads, torch.empty(3, dtype=torch.long), 0)
        stack = Modules(model)
        with torch.device("cpu"), Watch() as watch:  # as in a process that names no device
            logits = stack(tokens, lengths, cache.attention(lengths, dtype, 32), None)
        assert logits.shape == (3, model.config.vocab_size) and logits.device.type == "cuda"
        assert not watch.found
        model.model.rotary_emb.rope_type = "dynamic"
        assert not graphs.graphs(model)
