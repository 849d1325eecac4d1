"""What training keeps of its data: on disk, by number, and the same as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny
from heedful.data import reading
from heedful.data.sources import read_comparisons, stream_comparisons
from heedful.data.tokens import encode_group
from heedful.disk import DiskError
from heedful.training import reference_sums, supervised
from heedful.training.forwards import policy_forward
from heedful.training.kept import Judgment, Kept
from heedful.training.rankings import ranked
from heedful.training.rows import Spread, trimmed

TOK = tiny.tokenizer()


def judgments() -> list[Judgment]:
    """One response and several, cut and whole, with labels and without, a strength and none,
    a rater and nobody."""
    one, two, three = encode_group(TOK, "What is 2 + 2?", [" 4", " It is four.", " <pad> 5"])
    return [
        Judgment((one,), ()),
        Judgment((two, trimmed(three, len(three.tokens) - 2)), (0.9, 0.9), 0.0),
        Judgment((three, one, two), (1.0, -1.0, 2.0), 0.3, rater=7, weight=0.1),
        Judgment((one,), (0.0,)),
    ]


def test_what_is_kept_comes_back(tmp_path):
    """In any order, while more is added, and nothing is left behind. Mutation caught: a label in float32, a cut
    response that has ended, no strength that becomes one of 0, a file that its folder lists."""
    kept, told = Kept(tmp_path / "not" / "there"), judgments()
    kept.append(told[0])
    assert kept[0] == told[0]
    kept.extend(told[1:])
    assert [kept[i] for i in (3, 1, 2, 0, -1)] == [told[i] for i in (3, 1, 2, 0, -1)]
    assert list(kept) == told == kept[:] and kept[1:3] == told[1:3]
    assert (len(kept), kept.samples, kept.strengths) == (4, 7, 2)
    assert list(tmp_path.iterdir()) == [] and not Kept(tmp_path)
    with pytest.raises(IndexError):
        kept[4]


def test_a_full_disk_is_one_sentence():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    kept = Kept(Path())
    kept._file = open("/dev/full", "wb")  # noqa: SIM115
    kept.append(judgments()[0])
    with pytest.raises(DiskError, match="no space left on device"):
        kept[0]


def test_memory_does_not_grow_with_the_tokens():
    """Mutation caught: tokens, texts or objects of the rows that stay in memory."""
    import tracemalloc

    long = encode_group(TOK, "why? " * 50, [" 4" * 90, " 5" * 80])
    kept, one = Kept(Path()), Judgment(tuple(long), (1.0, 2.0), 0.5)
    kept.append(one)
    tracemalloc.start()
    before, number = tracemalloc.get_traced_memory()[0], 3000
    kept.extend(one for _ in range(number))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 12 * number  # 8 bytes each, and what an array keeps free


def test_a_spread_is_even():
    """Mutation caught: the first rows alone, or a list that grows with the rows."""
    spread = Spread[int](8)
    for n in range(1000):
        spread.add(n)
    assert 8 <= len(spread.items) < 16 and spread.items[0] == 0
    gaps = set(np.diff(spread.items))
    assert len(gaps) == 1 and 1000 - spread.items[-1] <= gaps.pop()


def test_repetitions_are_counted_in_parts(monkeypatch):
    hashes = reading.array("q", [5, -7, 5, 0, 8, -7, 5, 2**62, -(2**62)])
    for many in (2, 3, 100):
        monkeypatch.setattr(reading, "MANY", many)
        assert reading._repeated(hashes) == 3
    assert reading._repeated(reading.array("q")) == 0


@pytest.mark.parametrize("repeats", [True, False])
def test_a_stream_cuts_repeated_prompts_as_a_list_does(tmp_path, repeats, caplog):
    """Only the last of 40 rows does not repeat. Mutation caught: deciding by the first rows; rows lost or doubled where
    one looks ahead; a place that is another row's."""
    rows = [{"prompt": f"p{i} ", "chosen": f"p{i} a", "rejected": f"p{i} b"} for i in range(39)] + [
        {"prompt": "q ", "chosen": "q a" if repeats else "a", "rejected": "q b"}
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = reading.Reading()
    found = [(c, told.place) for c in stream_comparisons(path, reading=told)]
    assert [c for c, _ in found] == read_comparisons(path)
    assert [place for _, place in found] == [f"d.jsonl:{n + 1}" for n in range(40)]
    assert ("is cut off" in caplog.text) == repeats
    assert found[0][0].responses == (("a", "b") if repeats else ("p0 a", "p0 b"))


def test_parts_of_the_reference_and_of_an_evaluation_change_nothing(monkeypatch):
    """Up to rounding. Mutation caught: a part left out or counted twice; the mean of the parts' means."""
    rows = [s for j in judgments() for s in j.samples]
    model = tiny.policy(TOK)
    sums = reference_sums.reference_sums(model, policy_forward(), rows, 64)
    monkeypatch.setattr(reference_sums, "AT_ONCE", 2)
    parted = reference_sums.reference_sums(model, policy_forward(), rows, 64)
    more = reference_sums.reference_sums(model, policy_forward(), rows, 64, known=parted)
    assert len(sums) == len(parted) == len(more) == 4
    assert [parted[s] for s in rows] == pytest.approx([sums[s] for s in rows], abs=1e-4)
    with pytest.raises(KeyError):
        parted[encode_group(TOK, "other", ["x"])[0]]
    assert parted.get(encode_group(TOK, "other", ["x"])[0], 7.0) == 7.0
    monkeypatch.setattr(supervised, "AT_ONCE", 3)
    assert [list(part) for part in supervised.evaluated(range(7))] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_comparison_keeps_what_the_reward_model_reads(tmp_path):
    path = tmp_path / "d.jsonl"
    row = {"prompt": "x", "responses": ["a", "b", "c"], "ranking": [2, None, 1], "strength": 0.25}
    path.write_text(json.dumps(row))
    (c,) = read_comparisons(path)
    (one,) = ranked(c, encode_group(TOK, c.prompt, c.responses))
    assert one.labels == (2.0, 3.0, 1.0) and one.strength == 0.25
