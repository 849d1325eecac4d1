"""Every kernel against PyTorch's operations, in the shapes where its code takes another way."""

import ctypes
import platform

import pytest
import torch
from torch.nn.functional import linear, rms_norm, silu

import attending
from heedful.fast import kernels
from heedful.fast.kernels import build, calls
from heedful.fast.kernels.sample import Decoder, Layer, Matrix, Model, Norm, attend, product, turn
from heedful.models import sampling
from heedful.models.sampling import choose
from heedful.types import Sampling

pytestmark = attending.needs_kernels


def close(ours, theirs):
    return torch.allclose(ours, theirs, atol=2e-5 * float(theirs.abs().max()))


# One row, fewer and more than stay in registers, more than stay in a cache; widths of no whole panel.
@pytest.mark.parametrize("n", [1, 7, 12, 13, 130])
@pytest.mark.parametrize("ins, outs", [(24, 40), (48, 64), (33, 7), (300, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_a_linear_layer(n, ins, outs, dtype):
    """Mutation caught: a bias left out or added twice, a row or column beyond the end, a norm without its weight or ε,
    a weight that is not copied, bfloat16 read as other bits."""
    g = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(*size, generator=g) for size in ((n, ins), (outs, ins), (outs,)))
    scale, eps = torch.randn(ins, generator=g), 0.3
    w = w.to(dtype)
    want, normed = w.float().clone(), rms_norm(x, (ins,), scale, eps)
    for bias in (None, b):
        made = Matrix.of(w.clone(), bias)
        to = torch.randn(n, outs, generator=g)
        assert close(product(x, made), linear(x, want, bias))
        assert close(product(x, made, norm=Norm(scale, eps)), linear(normed, want, bias))
        before = to.clone()
        assert product(x, made, to=to) is to
        assert close(to, before + linear(x, want, bias))
    made = Matrix.of(w)
    w.zero_()
    assert close(product(x, made), linear(x, want))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("ffn", [5, 64, 100])
def test_a_gated_product_is_that_of_two_layers(ffn, biased):
    """Mutation caught: gate and up changed for each other, columns of the padding that are not zero."""
    torch.manual_seed(0)
    gate, up = (torch.nn.Linear(24, ffn, bias=biased) for _ in range(2))
    x = 30 * torch.randn(9, 24)  # far on both sides of zero, where exp(-x) is no number any more
    out = product(x, Matrix.of_gate(gate, up))
    assert close(out[:, :ffn], (silu(gate(x)) * up(x)).detach())
    assert not out[:, ffn:].any()


@pytest.mark.parametrize("dim", [6, 16, 40])
def test_heads_are_normed_and_turned(dim):
    """As complex numbers. Mutation caught: values turned too, a head normed by another's weights, positions shifted."""
    g = torch.Generator().manual_seed(0)
    x, norms = torch.randn(5, 2, 4, dim, generator=g), torch.randn(3, dim, generator=g)
    angles = torch.randn(11, dim // 2, generator=g)
    table, positions = torch.cat([angles.cos(), angles.sin()], 1), torch.tensor([0, 10, 3, 3, 7])
    for norm in (None, Norm(norms, 0.2)):
        want, ours = x.clone(), x.clone()
        if norm:
            want[:, :, :3] = rms_norm(x[:, :, :3], (dim,), None, 0.2) * norms
        pairs = (
            torch.complex(*want[:, :, :3].chunk(2, -1))
            * torch.complex(*table.chunk(2, 1))[positions][:, None, None]
        )
        want[:, :, :3] = torch.cat([pairs.real, pairs.imag], -1)
        turn(ours, positions, table, 3, norm)
        assert close(ours, want)


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


def test_a_decoder_is_its_layers_one_after_another():
    """Mutation caught: fields of the C structures in another order, a layer's slots in another layer."""
    torch.manual_seed(0)
    width, kv, group, dim, ffn, vocabulary = 24, 2, 3, 8, 20, 30
    bias = torch.randn

    def norm(*size):
        return Norm(torch.randn(*size), 0.1)

    layers = [
        Layer(
            before=norm(width),
            qkv=Matrix.of(torch.randn(kv * (group + 2) * dim, width), bias(kv * (group + 2) * dim)),
            heads=norm(group + 1, dim),
            out=Matrix.of(torch.randn(width, kv * group * dim), bias(width)),
            between=norm(width),
            gate_up=(
                gated := Matrix.of_gate(torch.nn.Linear(width, ffn), torch.nn.Linear(width, ffn))
            ),
            down=Matrix.of(torch.randn(width, gated.outs // 2), bias(width)),
        )
        for _ in range(2)
    ]
    embedding, last = torch.randn(vocabulary, width), norm(width)
    head = Matrix.of(torch.randn(vocabulary, width), bias(vocabulary))
    angles = torch.randn(16, dim // 2)
    table = torch.cat([angles.cos(), angles.sin()], 1)
    slots = [(torch.randn(5, kv, 16, dim), torch.randn(5, kv, 16, dim)) for _ in layers]
    tokens, lengths = torch.tensor([3, 29, 0, 7]), torch.tensor([0, 9, 15, 2])
    decoder = Decoder(Model(embedding, layers, last, head, kv, group, dim, 0.5))
    ours = decoder(tokens, lengths, table, [(k.clone(), v.clone()) for k, v in slots])
    h = embedding[tokens]
    for layer, (keys, values) in zip(layers, slots, strict=True):
        qkv = product(h, layer.qkv, norm=layer.before).view(4, kv, group + 2, dim)
        turn(qkv, lengths, table, group + 1, layer.heads)
        q, k, v = qkv[:, :, :group], qkv[:, :, group], qkv[:, :, group + 1]
        product(attend(q, k, v, lengths, keys, values, 0.5), layer.out, to=h)
        product(product(h, layer.gate_up, norm=layer.between), layer.down, to=h)
    assert torch.equal(ours, product(h, head, norm=last))


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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="what processors of this family lack")
@pytest.mark.parametrize("march, lanes", [("x86-64-v4", 16), ("x86-64-v3", 8), ("x86-64", 4)])
def test_lesser_processors_compute_the_same(march, lanes, compiled, tmp_path, monkeypatch):
    """Without AVX-512, AVX. Mutation caught: code that reckons with sixteen numbers in a vector."""
    if march == "x86-64-v4" and calls.functions().lanes() < 16:
        pytest.skip("no AVX-512 here")
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "target", lambda: [f"-march={march}"])
    calls.functions.cache_clear()
    try:
        assert compiled().lanes() == lanes
        for dtype in (torch.float32, torch.bfloat16):
            test_a_product_is_that_of_a_linear_layer(13, 33, 70, dtype)
        test_a_gated_product_is_that_of_two_layers(100, True)
        test_heads_are_normed_and_turned(40)
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


def test_the_library_is_made_once_and_whole(tmp_path, monkeypatch, quick, compiled, caplog):
    """Mutation caught: a file there before it is complete, made again at each start, or one for all sources."""
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path))
    assert compiled().lanes() in (4, 8, 16)
    (made,) = (tmp_path / "kernels").iterdir()
    when = made.stat().st_mtime_ns
    assert compiled() and made.stat().st_mtime_ns == when
    (tmp_path / "broken.c").write_text("int nothing(void) { return missing; }", encoding="utf-8")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert compiled() is None and "missing" in caplog.text
    assert list((tmp_path / "kernels").iterdir()) == [made]


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
