"""The reference is asked once for the same weights and responses, whichever run asks."""

import logging

import pytest
import torch

import tiny
from heedful.caches import cache_folder
from heedful.data.collate import collate
from heedful.models import backend
from heedful.models.adapters import add_lora
from heedful.models.load import load_policy
from heedful.training.forwards import policy_forward
from heedful.training.reference_sums import Known, reference_sums
from heedful.types import Sample


def sample(*tokens: int) -> Sample:
    return Sample(tokens, (False, *[True] * (len(tokens) - 1)), (0.0,) * len(tokens))


SAMPLES = [sample(5, 6, 7), sample(5, 9), sample(8, 8, 8, 8)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept" / "reference"


def asked(model, samples, caplog) -> tuple[Known, bool]:
    """The sums, and whether they came from an earlier run."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "heedful"):
        sums = reference_sums(model, policy_forward(), samples, 64, keep=True)
    return sums, "of an earlier run" in caplog.text


def test_the_same_question_is_answered_from_disk(folder, caplog, monkeypatch):
    """Mutation caught: weights, what is asked, who is, or how it rounds left out of the key; numbers that lose bits."""
    model = tiny.causal_lm("llama")
    first, known = asked(model, SAMPLES, caplog)
    assert not known and len(list(folder.iterdir())) == 1
    assert asked(model, SAMPLES, caplog) == (first, True)
    assert not asked(model, SAMPLES[:2], caplog)[1]
    masked = Sample(SAMPLES[0].tokens, (False, False, True), (0.0,) * 3)
    assert not asked(model, [masked, *SAMPLES[1:]], caplog)[1]
    with torch.no_grad():
        next(model.parameters())[5, 0] += 0.5
    moved, known = asked(model, SAMPLES, caplog)
    assert not known and moved != first
    monkeypatch.setenv("HEEDFUL_KERNELS", "off")
    assert not asked(model, SAMPLES, caplog)[1]


def test_what_an_adapter_weighs_is_part_of_the_question(folder, caplog, tmp_path):
    """Mutation caught: weights alone in the key; an adapter's scale is none of them."""
    model = tiny.causal_lm("llama")
    model.save_pretrained(tmp_path / "base")
    said = []
    for alpha in (8, 64):
        model = load_policy(str(tmp_path / "base"))
        add_lora(model, rank=2, alpha=alpha)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.05)
        sums, known = asked(model, SAMPLES, caplog)
        assert not known
        said.append(sums)
    assert said[0] != said[1]


def test_a_damaged_file_is_replaced(folder, caplog):
    """Mutation caught: numbers that are not those that were written, believed because they are as many."""
    model = tiny.causal_lm("llama")
    first, _ = asked(model, SAMPLES, caplog)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-8], bytes(len(whole)), bytes(8) + whole[8:], b""):
        path.write_bytes(damaged)
        assert asked(model, SAMPLES, caplog) == (first, False)
        assert asked(model, SAMPLES, caplog) == (first, True)
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path / "file"))
    model = tiny.causal_lm("llama")
    assert len(asked(model, SAMPLES, caplog)[0]) == 3
    assert "not kept" in caplog.text


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HEEDFUL_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("HEEDFUL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "heedful"


def test_the_reference_reads_a_prompt_once(monkeypatch):
    """Mutation caught: responses in groups of their own, which meet others of their length."""
    prompt = tuple(range(5, 25))
    mask = (False,) * 20
    samples = [
        Sample((*prompt, *[n] * n), mask + (True,) * n, (0.0,) * (20 + n)) for n in (3, 30, 4)
    ]
    other = Sample((9,) * 25, mask + (True,) * 5, (0.0,) * 25)
    read = []
    lay_out = backend.lay_out
    monkeypatch.setattr(
        backend, "lay_out", lambda *a, **how: (read.append(a), lay_out(*a, **how))[1]
    )
    model = tiny.causal_lm("llama")
    sums = reference_sums(model, policy_forward(), [*samples, other], 60)
    tokens = [len(lay_out(*a).tokens) for a in read]
    assert sum(tokens) == 20 + 2 + 29 + 3 + 24
    for s in [*samples, other]:
        alone = policy_forward()(model, collate([s])).logp.sum().item()
        assert sums[s] == pytest.approx(alone, abs=1e-4)
