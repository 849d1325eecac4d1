"""Batches: the shift, micro-batches, packing, shuffles."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.collate import collate, in_rows, microbatches, pack, shuffled, take
from heedful.types import Ranked, Sample


def sample(size: int, group: int = 0, start: int = 5) -> Sample:
    tokens = tuple(range(start, start + size))
    return Sample(
        tokens, (False, *(True,) * (size - 1)), tuple(-float(t) for t in tokens), 0.5, group
    )


def test_column_t_is_about_token_t_plus_one():
    """Mutation caught: masks and log-probs that are not shifted against the tokens."""
    s = Sample((9, 3, 5), (False, False, True), (0.0, 0.0, -0.7), 1.0, 4, 0, "length")
    b = collate([s, sample(5)], pad_id=77)
    assert b.tokens.tolist() == [[9, 3, 5, 77, 77], [5, 6, 7, 8, 9]]
    assert b.mask.tolist() == [[False, True, False, False], [True] * 4]
    assert b.old_logp[0].tolist() == [0.0, torch.tensor(-0.7).item(), 0.0, 0.0]
    assert (b.lengths.tolist(), b.group.tolist(), b.truncated.tolist()) == (
        [3, 5],
        [4, 0],
        [True, False],
    )


def test_take_trims_padding_and_keeps_every_field_aligned():
    base = collate([sample(4, 0), sample(9, 0), sample(3, 1), sample(3, 1)])
    fields = {n: getattr(base, n) for n in base.__dataclass_fields__}
    ranked = Ranked(
        **fields, rank=torch.tensor([1, 2, 1, 2]), strength=torch.zeros(4), weight=torch.ones(4)
    )
    part = take(ranked, torch.tensor([2, 3]))
    assert isinstance(part, Ranked)
    assert part.tokens.shape == (2, 3) and part.mask.shape == (2, 2)
    assert part.rank.tolist() == [1, 2] and part.group.tolist() == [1, 1]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(2, 40)), min_size=1, max_size=20),
    st.integers(1, 300),
)
@settings(max_examples=60, deadline=None)
def test_micro_batches_cover_rows_once_and_keep_groups_together(groups, limit):
    rows = [sample(size, g) for g, (count, size) in enumerate(groups) for _ in range(count)]
    batch = collate(rows)
    parts = microbatches(batch, limit)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(rows)))
    seen: set[int] = set()
    for part in parts:
        held = set(batch.group[part].tolist())
        assert not held & seen
        seen |= held
        assert len(part) * int(batch.lengths[part].max()) <= limit or len(held) == 1


@given(
    st.lists(st.lists(st.integers(2, 99), max_size=30), min_size=1, max_size=25), st.integers(4, 16)
)
@settings(max_examples=60, deadline=None)
def test_packing_loses_nothing_and_predicts_within_documents_only(documents, length):
    rows = pack(list(in_rows(documents, length, 1)), length, eos=1)
    kept = []
    for r in range(len(rows.tokens)):
        starts = [t for t in range(length) if rows.position_ids[r, t] == 0]
        for begin, end in zip(starts, [*starts[1:], length], strict=True):
            assert rows.position_ids[r, begin:end].tolist() == list(range(end - begin))
            assert begin == 0 or not rows.mask[r, begin - 1]
            inside = rows.mask[r, begin : end - 1]
            assert bool(inside.all()) or not bool(inside.any())
            if end == begin + 1 or bool(inside.all()):
                kept += rows.tokens[r, begin:end].tolist()
    whole = [t for d in documents for t in [*d, 1]]
    assert [t for t in kept if t != 1] == [t for t in whole if t != 1]


def test_shuffles_depend_on_seed_and_epoch_alone():
    assert shuffled(50, 1, 2) == shuffled(50, 1, 2)
    assert sorted(shuffled(50, 1, 2)) == list(range(50))
    assert len({tuple(shuffled(50, s, e)) for s in range(3) for e in range(3)}) == 9


def test_samples_of_no_group_are_micro_batched():
    """One group is never split; samples that belong to nobody must not count as one, or memory has no bound."""
    alone = [Sample(tokens=(1, 2, 3, 4), mask=(False, True, True, True), logprobs=(0.0,) * 4)] * 6
    assert [len(rows) for rows in microbatches(collate(alone), 8)] == [2, 2, 2]
    together = [replace(s, group=0) for s in alone]
    assert [len(rows) for rows in microbatches(collate(together), 8)] == [6]
