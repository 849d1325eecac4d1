"""Sequences → batches: nothing lost, nothing crossed, padding that nobody can see."""

import random
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.collate import collate, in_rows, microbatches, pack, shuffled, take
from heedful.types import Batch, Sample, Scored, ScoredWithValues

SIZES = st.lists(st.integers(2, 12), min_size=1, max_size=12)


def sample(size: int, *, group: int = 0, seed: int = 0) -> Sample:
    rng = random.Random(f"{size}/{group}/{seed}")
    mask = (False, *(rng.random() < 0.6 for _ in range(size - 1)))
    return Sample(
        tokens=tuple(rng.randrange(3, 99) for _ in range(size)),
        mask=mask,
        logprobs=tuple(-rng.random() if m else 0.0 for m in mask),
        reward=rng.random(),
        group=group,
        stop_reason=rng.choice(["stop", "length"]),
        episode=group,
    )


def same(a: Batch, b: Batch) -> bool:
    return type(a) is type(b) and all(
        torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
    )


def test_the_shift_by_hand():
    """Column t is about predicting token t+1. Mutation caught: `mask[:-1]`, which trains on the prompt's last token."""
    batch = collate(
        [
            Sample(
                (5, 6, 7, 8), (False, False, True, True), (0, 0, -0.5, -1.0), 2.0, 4, 0, "length"
            ),
            Sample((9, 3), (False, True), (0, -0.25), -1.0, 7),
        ],
        pad_id=1,
    )
    assert batch.tokens.tolist() == [[5, 6, 7, 8], [9, 3, 1, 1]]
    assert batch.mask.tolist() == [[False, True, True], [True, False, False]]
    assert batch.old_logp.tolist() == [[0, -0.5, -1.0], [-0.25, 0, 0]]
    assert batch.lengths.tolist() == [4, 2] and batch.truncated.tolist() == [True, False]
    assert batch.group.tolist() == [4, 7] and batch.reward.tolist() == [2.0, -1.0]
    assert batch.mask.dtype == torch.bool and batch.old_logp.dtype == torch.float32


@given(sizes=SIZES)
def test_every_token_comes_back(sizes):
    samples = [sample(size, group=i) for i, size in enumerate(sizes)]
    batch = collate(samples)
    for i, s in enumerate(samples):
        end = int(batch.lengths[i])
        assert tuple(batch.tokens[i, :end].tolist()) == s.tokens
        assert tuple(batch.mask[i, : end - 1].tolist()) == s.mask[1:]
        assert not batch.mask[i, end - 1 :].any() and not batch.old_logp[i, end - 1 :].any()


@given(sizes=SIZES, pad=st.integers(0, 98))
def test_pad_id_and_batch_mates_change_nothing(sizes, pad):
    """Mutation caught: lengths or masks found by comparing tokens with the pad id; padding kept by `take`."""
    samples = [sample(size, group=i) for i, size in enumerate(sizes)]
    batch = collate(samples, pad)
    for f in fields(batch):
        if f.name != "tokens":
            assert torch.equal(getattr(batch, f.name), getattr(collate(samples), f.name))
    for i, s in enumerate(samples):
        assert same(take(batch, slice(i, i + 1)), collate([s], pad))


def test_take_of_any_batch():
    """All the columns of every kind of batch are trimmed alike; its type stays."""
    samples = [sample(size, group=i) for i, size in enumerate((9, 4, 2, 6))]
    batch = collate(samples)
    base = {f.name: getattr(batch, f.name) for f in fields(batch)}
    extra = {
        n: torch.rand(batch.mask.shape) for n in ("ref_logp", "adv", "weight", "values", "returns")
    }
    for kind, names in (
        (Batch, ()),
        (Scored, ("ref_logp", "adv", "weight")),
        (ScoredWithValues, extra),
    ):
        whole = kind(**base, **{n: extra[n] for n in names})
        part = take(whole, torch.tensor([3, 1]))
        assert type(part) is kind and part.tokens.shape == (2, 6) and part.mask.shape == (2, 5)
        for name in names:
            assert torch.equal(getattr(part, name), extra[name][[3, 1], :5])
        assert same(take(whole, batch.lengths > 4), take(whole, torch.tensor([0, 3])))
        assert same(take(whole, slice(None)), whole)


@given(
    sizes=st.lists(st.lists(st.integers(2, 12), min_size=1, max_size=4), min_size=1, max_size=8),
    limit=st.integers(1, 60),
)
def test_microbatches(sizes, limit):
    """Mutation caught: a row lost at the end; a pair torn apart; a limit on real tokens that forgets padding."""
    samples = [
        sample(n, group=g % 3, seed=i) for g, ns in enumerate(sizes) for i, n in enumerate(ns)
    ]
    batch = collate(samples)
    parts = microbatches(batch, limit)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(samples)))
    owner = [g for g, ns in enumerate(sizes) for _ in ns]
    # Runs of equal ids that are neighbours are one group, others that share the id are not.
    whole = {g: [i for i, o in enumerate(owner) if o == g] for g in range(len(sizes))}
    for part in parts:
        rows = part.tolist()
        groups = {owner[i] for i in rows}
        assert sorted(rows) == sorted(i for g in groups for i in whole[g])
        assert rows == [i for g in dict.fromkeys(owner[i] for i in rows) for i in whole[g]]
        longest = int(batch.lengths[part].max())
        assert len(rows) * longest <= limit or len(groups) == 1


def test_like_lengths_meet():
    """Mutation caught: groups taken in their order, so that every micro-batch has a long row."""
    batch = collate([sample(n, group=i) for i, n in enumerate([10, 2, 10, 2, 10, 2])])
    assert [sorted(p.tolist()) for p in microbatches(batch, 30)] == [[0, 2, 4], [1, 3, 5]]
    assert len(microbatches(batch, 10**9)) == 1


EOS = 1


@settings(max_examples=200)
@given(
    documents=st.lists(st.lists(st.integers(2, 50), max_size=20), min_size=1, max_size=10),
    length=st.integers(2, 12),
)
def test_packing_loses_and_crosses_nothing(documents, length):
    """Every document comes back in order with its eos, and column t is masked in exactly where t and t+1 are its own.

    Mutation caught: the end of a long document dropped; a prediction across documents or of padding;
    positions that run on into the next document.
    """
    rows = pack(list(in_rows(documents, length, EOS)), length, EOS)
    assert rows.tokens.shape == rows.position_ids.shape == (len(rows.mask), length)
    assert rows.mask.shape[1] == length - 1
    pieces: list[list[int]] = []
    for tokens, positions, mask in zip(
        rows.tokens.tolist(), rows.position_ids.tolist(), rows.mask.tolist(), strict=True
    ):
        assert positions[0] == 0
        for t in range(1, length):
            # A step within a document, or the start of another; masked in only within.
            assert positions[t] == positions[t - 1] + 1 or positions[t] == 0
            if mask[t - 1]:
                assert positions[t] == positions[t - 1] + 1
        starts = [t for t, p in enumerate(positions) if p == 0]
        for a, b in zip(starts, [*starts[1:], length], strict=True):
            inside = mask[a : b - 1]
            assert all(inside) or not any(inside)
            pieces.append(tokens[a:b] if b - a == 1 or all(inside) else [])
    # A lone eos is an empty document, the last piece of a long one, or one token of padding.
    expected = [
        whole[i : i + length]
        for d in documents
        for whole in ([*d, EOS],)
        for i in range(0, len(whole), length)
    ]
    assert [p for p in pieces if p not in ([], [EOS])] == [p for p in expected if p != [EOS]]
    assert int(rows.mask.sum()) == sum(len(p) - 1 for p in expected)


def test_packing_is_tight():
    """Mutation caught: a row for each document."""
    rows = pack(list(in_rows([[5, 6, 7]] * 8, 16, EOS)), 16, EOS)
    assert rows.tokens.tolist() == [[5, 6, 7, EOS] * 4] * 2
    assert rows.position_ids.tolist() == [[0, 1, 2, 3] * 4] * 2


def test_shuffles_depend_on_seed_and_epoch_alone():
    """Mutation caught: the global generator, whose state a resumed run does not share."""
    first = shuffled(100, 0, 0)
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    assert shuffled(100, 0, 0) == first
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert sorted(first) == list(range(100))
    assert len({tuple(shuffled(100, s, e)) for s in range(12) for e in range(12)}) == 144
    assert list(shuffled(0, 0, 0)) == []
    # Recorded, not derived: a run that is resumed by another process or version must see the same order.
    assert list(shuffled(8, 0, 0)) == [0, 2, 1, 4, 6, 7, 3, 5]


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_sequences(length):
    batch = collate([sample(length) for _ in range(3)])
    assert batch.mask.shape == (3, length - 1) and take(batch, slice(1)).tokens.shape == (1, length)
