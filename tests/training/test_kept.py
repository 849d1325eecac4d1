"""What training keeps of its data: on disk, by number, and the same as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

import tiny
from heedful.configs import policy
from heedful.data import reading
from heedful.data.collate import in_rows, pack, shuffled
from heedful.data.reading import Reading
from heedful.data.sources import read_comparisons, stream_comparisons
from heedful.data.tokens import encode_group
from heedful.disk import DiskError
from heedful.recipes import pretrain
from heedful.training import reference_sums, supervised
from heedful.training.forwards import policy_forward
from heedful.training.kept import Judgment, Kept, KeptTasks, KeptTexts
from heedful.training.rankings import ranked
from heedful.training.rows import Rows, Spread, asked_of, prompts_of, trimmed
from heedful.types import Message, Task

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


def test_prompts_come_back_with_their_facts(tmp_path):
    """Mutation caught: facts that somebody can write to, or of the types of JSON alone; a conversation that becomes its
    text; tools lost; a file that its folder lists."""
    turns = (Message("user", "Why?", tools=({"name": "f"},), template_kwargs={"think": False}),)
    told = [
        Task("Who?", (3, 1), (0,), MappingProxyType({"day": date(2026, 1, 2), "raw": b"\0"})),
        Task(turns, (2,), (), MappingProxyType({"answer": {"n": [1, None, 0.1]}})),
    ]
    kept = KeptTasks(tmp_path)
    kept.extend(told)
    assert [kept[1], kept[0]] == [told[1], told[0]] and list(tmp_path.iterdir()) == []
    assert kept[0].facts == told[0].facts and kept[1].facts == told[1].facts
    with pytest.raises(TypeError):
        kept[0].facts["day"] = None  # type: ignore[index]


def test_who_samples_has_no_prompts_in_memory(tmp_path):
    """Of files; what an environment brings along is a list already. Mutation caught: a list of tasks, or of rows."""
    import tracemalloc

    config, number = policy.Config(model="m", out=tmp_path / "out"), 3000

    def rows() -> Iterator[tuple[str, tuple[str, dict]]]:
        return (("p", (f"{i} is the number", {"answer": f"no {i}"})) for i in range(number))

    def task(row: tuple) -> Task:
        return Task(row[0], tuple(range(50)), (), row[1])

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    todo, held, _ = asked_of(config, Rows("d", "stop", rows(), Reading()), None, task)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < (1 << 20) + 12 * number and held == []  # what a file keeps before it writes
    assert (len(todo), todo[7].facts) == (number, {"answer": "no 7"})
    some = prompts_of(todo)
    assert (some[0], len(some)) == ("0 is the number", 66) and some[-1].startswith("29")
    todo, _, _ = asked_of(config, Rows("env:e", "stop", list(rows()), Reading()), None, task)
    assert isinstance(todo, list)


def test_texts_are_packed_as_they_are_asked_for(tmp_path):
    """Batches are those of all texts packed at once, and whoever goes on has the same ones; texts and tokens wait on
    disk. Mutations caught: a pass that keeps the order of the one before; a row lost or doubled between batches or
    passes; one that is filled from the next pass; the start token of the first text alone."""
    texts = KeptTexts(tmp_path)
    texts.extend("why? " * (i % 7) + "Ünd so" for i in range(9))
    assert texts[8] == "why? Ünd so"
    documents = pretrain._documents(texts, TOK, [5], tmp_path)
    plain = [[5, *ids] for ids in TOK(list(texts), add_special_tokens=False)["input_ids"]]
    assert [list(ids) for ids in documents] == plain
    config = pretrain.Config(data="d", out=tmp_path / "out", steps=11, batch_size=2, seed=3)
    expected = []
    for epoch in range(6):
        order = shuffled(len(plain), 3, epoch)
        packed = pack(list(in_rows([plain[i] for i in order], 16, 1)), 16, 1)
        expected += zip(packed.tokens.split(2), packed.mask.split(2), strict=True)
    for start in (0, 4, 7):
        made = list(pretrain._batches(documents, 16, 1, config, start))
        assert len(made) == 11 - start
        for batch, (tokens, mask) in zip(made, expected[start:], strict=False):
            assert batch.tokens.equal(tokens) and batch.mask.equal(mask)
    assert list(tmp_path.iterdir()) == []
