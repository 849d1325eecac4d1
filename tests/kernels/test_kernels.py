"""Every kernel against PyTorch's operations, in the shapes where its code takes another way."""

import ctypes
import platform
from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import linear, pad, rms_norm, silu

import attending
from heedful.fast import kernels
from heedful.fast.kernels import build, calls
from heedful.fast.kernels.sample import Decoder, attend, interleaved, lanes, panels
from heedful.models import sampling
from heedful.models.sampling import choose
from heedful.types import Sampling

pytestmark = attending.needs_kernels


def close(ours, theirs):
    return torch.allclose(ours, theirs, atol=2e-5 * float(theirs.abs().max()))


@pytest.mark.arithmetic
@pytest.mark.parametrize("dim", [4, 16, 32, 40, 64])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 7])
def test_a_token_attends_to_its_row(dim, group):
    """Rows of 0 to 70 tokens, scores of some tens. Mutation caught: a key of the row before or of the capacity behind
    the end, a group's query with another's sums, a value that is not appended."""
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([0, 1, 15, 16, 70])
    keys, values = (torch.randn(6, 2, 80, dim, generator=g) for _ in range(2))
    beside = torch.randn(5, 2, group + 2, dim, generator=g)
    q, k, v = beside[:, :, :group], beside[:, :, group], beside[:, :, group + 1]
    old = keys.clone()
    out = attend(q, k, v, lengths, keys, values, 2.0).view(5, 2, group, dim)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(keys[row, :, length], k[row]) and torch.equal(
            values[row, :, length], v[row]
        )
        scores = 2.0 * q[row] @ keys[row, :, : length + 1].mT
        assert close(out[row], scores.softmax(-1) @ values[row, :, : length + 1])
        old[row, :, length] = k[row]
    assert torch.equal(keys, old)


@dataclass
class Parts:
    """What a model of one size is made of, in the order in which `transformers` has it."""

    width: int
    kv: int
    group: int
    dim: int
    ffn: int
    dtype: torch.dtype
    whole: bool  # with biases and norms of heads
    vocabulary: int = 70

    def __post_init__(self):
        g = torch.Generator().manual_seed(0)

        def some(*size, upto=1.0):
            return upto * torch.randn(*size, generator=g) / size[-1] ** 0.5

        rows = self.kv * (self.group + 2) * self.dim
        self.embedding, self.head = (some(self.vocabulary, self.width) for _ in range(2))
        self.norm, self.head_bias = some(self.width, upto=9.0), some(self.vocabulary)
        shapes = {"qkv": (rows, self.width), "out": (self.width, self.kv * self.group * self.dim)}
        shapes |= {"gate": (self.ffn, self.width), "up": (self.ffn, self.width)}
        shapes |= {"down": (self.width, self.ffn)}
        self.layers = []
        for _ in range(2):
            layer = {name: some(*shape, upto=2.0) for name, shape in shapes.items()}
            layer |= {f"{name}_bias": some(shape[0]) for name, shape in shapes.items()}
            layer |= {name: some(self.width, upto=9.0) for name in ("before", "between")}
            layer["heads"] = some(self.group + 1, self.dim, upto=3.0)
            self.layers.append(layer)
        for held in (vars(self), *self.layers):
            for name, x in [(n, x) for n, x in held.items() if isinstance(x, torch.Tensor)]:
                if name in ("embedding", "head", *shapes):
                    held[name] = x.to(self.dtype)
                elif not self.whole and (name.endswith("bias") or name == "heads"):
                    held[name] = None

    def decoder(self) -> Decoder:
        layers = []
        for at in self.layers:
            made = {name: at[name] for name in ("before", "between", "heads")}
            made |= {f"{name}_bias": at[f"{name}_bias"] for name in ("qkv", "out", "down")}
            made |= {name: panels(at[name]) for name in ("qkv", "out")}
            made["gate_up"] = panels(interleaved(at["gate"], at["up"]))
            made["gate_up_bias"] = (
                interleaved(at["gate_bias"], at["up_bias"]) if self.whole else None
            )
            made["down"] = panels(pad(at["down"], (0, -self.ffn % lanes())))
            layers.append(made)
        model = {"embedding": self.embedding, "head": panels(self.head)}
        model |= {"norm": self.norm, "head_bias": self.head_bias}
        return Decoder(
            model, layers, kv=self.kv, group=self.group, dim=self.dim, vocabulary=self.vocabulary, eps=0.1, scale=0.5
        )  # fmt: skip

    def logits(self, tokens, lengths, angles, slots) -> torch.Tensor:
        """By PyTorch, in float64; keys and values are written to the slots."""

        def wide(x):
            return None if x is None else x.double()

        def by(x, weight, bias):
            return linear(x, wide(weight), wide(bias))

        n, h = len(tokens), wide(self.embedding)[tokens]
        turns = torch.polar(torch.ones_like(angles), angles)[lengths][:, None, None]
        for at, (keys, values) in zip(self.layers, slots, strict=True):
            x = rms_norm(h, (self.width,), wide(at["before"]), 0.1)
            qkv = by(x, at["qkv"], at["qkv_bias"]).view(n, self.kv, self.group + 2, self.dim)
            qk, v = qkv[:, :, :-1], qkv[:, :, -1]
            if self.whole:
                qk = rms_norm(qk, (self.dim,), None, 0.1) * wide(at["heads"])
            pairs = torch.complex(*qk.chunk(2, -1)) * turns
            qk = torch.cat([pairs.real, pairs.imag], -1)
            out = torch.empty(n, self.kv, self.group, self.dim, dtype=torch.double)
            for row, length in enumerate(lengths.tolist()):
                keys[row, :, length], values[row, :, length] = qk[row, :, -1], v[row]
                scores = 0.5 * qk[row, :, :-1] @ keys[row, :, : length + 1].mT
                out[row] = scores.softmax(-1) @ values[row, :, : length + 1]
            h = h + by(out.flatten(1), at["out"], at["out_bias"])
            x = rms_norm(h, (self.width,), wide(at["between"]), 0.1)
            gated = silu(by(x, at["gate"], at["gate_bias"])) * by(x, at["up"], at["up_bias"])
            h = h + by(gated, at["down"], at["down_bias"])
        h = rms_norm(h, (self.width,), wide(self.norm), 0.1)
        return by(h, self.head, self.head_bias)


# One row, fewer and more than stay in registers, more than stay in a cache; sizes of no whole panel or vector.
@pytest.mark.arithmetic
@pytest.mark.parametrize("n", [1, 7, 12, 13, 130])
@pytest.mark.parametrize(
    "sizes", [(24, 2, 3, 6, 20), (33, 1, 1, 16, 64), (48, 2, 5, 40, 100)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("whole", [True, False])
def test_a_decoder_is_a_llama(n, sizes, dtype, whole):
    """Weights of bfloat16 are read as they are, and nothing else is rounded to it. Mutation caught: a bias left out or
    added twice, a row or column beyond the end, a norm without its weight or ε, gate and up changed for each other,
    values turned, a head normed by another's weights, positions shifted, fields of the C structures in another order, a
    layer's slots in another layer."""
    g, parts = torch.Generator().manual_seed(1), Parts(*sizes, dtype=dtype, whole=whole)
    angles = 6 * torch.rand(16, parts.dim // 2, generator=g)
    table = torch.cat([angles.cos(), angles.sin()], 1)
    tokens, lengths = torch.randint(70, (n,), generator=g), torch.randint(16, (n,), generator=g)
    shape = (n + 1, parts.kv, 16, parts.dim)
    slots = [tuple(torch.randn(*shape, generator=g) for _ in range(2)) for _ in range(2)]
    theirs = [(k.double(), v.double()) for k, v in slots]
    want = parts.logits(tokens, lengths, angles.double(), theirs)
    decoder = parts.decoder()
    for layer in parts.layers:
        layer["out"].zero_()  # the decoder has its own copy
    assert close(decoder(tokens, lengths, table, slots).double(), want)
    for ours, exact in zip(slots, theirs, strict=True):
        assert all(close(a.double(), b) for a, b in zip(ours, exact, strict=True))


@pytest.mark.arithmetic
@pytest.mark.parametrize("size", [1, 63, 64, 300, 4096])
@pytest.mark.parametrize("how", [Sampling(), Sampling(0.7, 0.9), Sampling(1.5, 1.0, 5)], ids=str)
def test_a_token_is_drawn_as_pytorch_draws_it(size, how, monkeypatch):
    """Mutation caught: a block or a token too far, tokens outside the mask, log-probs of the wrong temperature."""
    g = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, size, generator=g)
    u = torch.rand(50, dtype=torch.double, generator=g)
    u[:3] = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.double)
    ids, logps = choose(logits, how, u)
    monkeypatch.setattr(kernels, "available", lambda: False)
    wanted, theirs = choose(logits, how, u)
    assert (ids == wanted).float().mean() >= 0.96  # u may fall on the last bit between two tokens
    same = ids == wanted
    assert torch.allclose(logps[same], theirs[same], atol=1e-5)
    exact = sampling.log_policy(logits, how).gather(1, ids[:, None]).squeeze(1)
    assert torch.allclose(logps, exact, atol=1e-5) and exact.isfinite().all()


def test_what_has_no_mass_is_not_drawn():
    """Mutation caught: exp(-inf) as e^-87, a first or last token taken because nothing else was found."""
    logits = torch.full((4, 200), float("-inf"))
    logits[:, 100], logits[:, 130] = 0.0, -1.0
    u = torch.tensor([0.0, 0.5, 0.9, 1 - 2**-53], dtype=torch.double)
    ids, _ = choose(logits, Sampling(), u)
    assert ids.tolist() == [100, 100, 130, 130]


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="what processors of this family lack")
@pytest.mark.parametrize("march, wide", [("x86-64-v4", 16), ("x86-64-v3", 8)])
def test_lesser_processors_compute_the_same(march, wide, compiled, tmp_path, monkeypatch):
    """Without AVX-512; without AVX: tests/test_arithmetic.py.

    Mutation caught: code that reckons with sixteen numbers in a vector.
    """
    if march == "x86-64-v4" and calls.functions().lanes() < 16:
        pytest.skip("no AVX-512 here")
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "target", lambda: [f"-march={march}"])
    calls.functions.cache_clear()
    try:
        assert compiled().lanes() == wide
        for dtype in (torch.float32, torch.bfloat16):
            test_a_decoder_is_a_llama(13, (48, 2, 5, 40, 100), dtype, True)
        for dim in (6, 40, 64):
            test_a_token_attends_to_its_row(dim, 3)
        for heads, kv, dim in ((4, 2, 6), (6, 2, 40)):
            assert attending.close(
                *attending.both(attending.layout(1, 90, True), heads, kv, dim, True)
            )
        test_what_has_no_mass_is_not_drawn()
    finally:
        calls.functions.cache_clear()


@pytest.fixture
def quick(monkeypatch):
    """A library that is not asked to compute is not optimised."""
    monkeypatch.setattr(build, "FLAGS", ("-O1", *build.FLAGS[1:]))


@pytest.fixture
def compiled(monkeypatch):
    """Make and load the library as a process does that has not done so."""

    def make() -> ctypes.CDLL | None:
        build.library.cache_clear()
        return build.library()

    yield make
    build.library.cache_clear()


@pytest.mark.long
def test_the_library_is_made_once_and_whole(tmp_path, monkeypatch, quick, compiled, caplog):
    """Mutation caught: a file there before it is complete, made again at each start, or one for all sources; one that
    was cut off loaded."""
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path))
    assert compiled().lanes() in (4, 8, 16)
    (made,) = (tmp_path / "kernels").iterdir()
    when = made.stat().st_mtime_ns
    assert compiled() and made.stat().st_mtime_ns == when
    (tmp_path / "cut").write_bytes(made.read_bytes()[:8192])  # loaded, it would end the process
    (tmp_path / "cut").replace(made)
    assert compiled().lanes() in (4, 8, 16) and made.stat().st_size > 8192
    (tmp_path / "broken.c").write_text("int nothing(void) { return missing; }", encoding="utf-8")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert compiled() is None and "missing" in caplog.text
    assert list((tmp_path / "kernels").iterdir()) == [made]


@pytest.mark.long
def test_without_a_cache_a_private_folder_of_the_system_holds_it(
    tmp_path, monkeypatch, quick, compiled, caplog
):
    """Mutation caught: no kernels for who keeps nothing, a library of somebody else's loaded."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HEEDFUL_CACHE", "")
    assert compiled()
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700 and len(list(folder.iterdir())) == 1
    folder.chmod(0o777)
    assert compiled() is None and "somebody else" in caplog.text


def test_without_a_compiler_there_is_a_word_and_no_kernels(monkeypatch, compiled, caplog):
    """Mutation caught: an error where there is no compiler."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "")
    assert compiled() is None and "gcc" in caplog.text
