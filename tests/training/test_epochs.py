"""An epoch is every row once: counted, for any size of batch, on one rank and on several."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from heedful.cli import main
from heedful.configs.sft import Config
from heedful.data.collate import microbatches
from heedful.data.files import write_rows
from heedful.learner.local import LocalLearner
from heedful.training.supervised import epochs, rows_at, step_count


@pytest.mark.parametrize("items", [1, 5, 16, 24, 40, 95])
@pytest.mark.parametrize("passes", [1, 2, 3.5])
def test_every_row_once_an_epoch(items, passes):
    """Also after going on in the middle. Mutation caught: steps rounded to the nearest, a last part left out; a last
    batch filled from an epoch that nobody asked for."""
    config = Config(model="m", data="d", out=Path("o"), epochs=passes, batch_size=16)
    steps = step_count(config, items)
    drawn = list(epochs(config, items, steps, 0))
    assert len(drawn) == steps and all(len(rows) == 16 for rows in drawn[:-1]) and drawn[-1]
    seen = Counter(i for rows in drawn for i in rows)
    assert sum(seen.values()) == round(items * passes)
    assert {int(passes), int(passes) + (passes % 1 > 0)} >= set(seen.values())
    assert len(seen) == items
    assert list(epochs(config, items, steps, steps // 2)) == drawn[steps // 2 :]


def test_prompts_come_once_a_pass_too():
    """On-policy rounds draw from an endless stream. Mutation caught: a pass that begins anew with each round."""
    seen = Counter(i for number in range(40 // 5) for i in rows_at(10, 5, number, seed=1))
    assert seen == dict.fromkeys(range(10), 4)
    assert {i for number in range(3) for i in rows_at(13, 5, number, seed=1)} == set(range(13))


def test_a_run_learns_from_every_row(model, tmp_path, monkeypatch):
    """40 rows at a batch of 16: three steps, the last of 8, each of them over the tokens that are there, however many
    ranks share them out. Mutation caught: two steps; a divisor of a whole batch."""
    write_rows(
        tmp_path / "d.jsonl",
        ({"prompt": f"{i} + {i}?", "completion": f" {2 * i}"} for i in range(40)),
    )
    batches, step = [], LocalLearner.step

    def counted(self, loss_fn, batch, **how):
        batches.append(batch)
        return step(self, loss_fn, batch, **how)

    monkeypatch.setattr(LocalLearner, "step", counted)
    words = ["--data", tmp_path / "d.jsonl", "--held-out", 0, "--report-to", "none", "--quiet"]
    assert (
        main(list(map(str, ["train", "sft", "--model", model, "--out", tmp_path / "o", *words])))
        == 0
    )
    assert [len(b.tokens) for b in batches] == [16, 16, 8]
    texts = Counter(
        tuple(row[: int(n)].tolist())
        for b in batches
        for row, n in zip(b.tokens, b.lengths, strict=True)
    )
    assert len(texts) == 40 and set(texts.values()) == {1}
    for batch in batches:
        for world in (2, 3):
            dealt = [rows for k in range(world) for rows in microbatches(batch, 64, (k, world))]
            assert sorted(torch.cat(dealt).tolist()) == list(range(len(batch.tokens)))
    lines = [
        json.loads(line) for line in (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [1, 2, 3]
