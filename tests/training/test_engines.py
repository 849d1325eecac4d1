"""An on-policy run with engines of its own: what it learns is what it learns without, whoever dies, and also when
samples are drawn ahead of their time."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import interruptions as jobs
from changed import changed
from heedful import cli
from heedful.configs.cluster import behind
from heedful.engine import cluster
from heedful.engine.local import LocalEngine
from heedful.engine.pool import Gone, Pool
from heedful.models import load
from heedful.remote.journal import Journal
from heedful.run import Run
from killed import killed_after

STEPS = 4


class Here:
    """`pool.Member` in this process, instead of an actor: dies at each seventh request, is slow with the seeds in
    `slow`."""

    requests = 0
    slow: tuple[int, ...] = ()
    log: list[tuple[int, int]] = []  # noqa: RUF012 - (the version that is asked for, the seed)

    def __init__(self, model):
        self.engine, self.version, self.gone = LocalEngine(copy.deepcopy(model)), None, False
        self.window = self.engine.window

    async def generate(self, tokens, **how):
        Here.requests += 1
        self.gone |= Here.requests % 7 == 0
        if self.gone:
            raise Gone("killed")
        Here.log.append((self.version, how["seed"]))
        if how["seed"] in Here.slow:
            await asyncio.sleep(0.3)
        done, version = await self.engine.generate(tokens, **how), self.version
        if self.gone:
            raise Gone("killed")
        return done, version

    async def load(self, weights, version):
        await self.engine.load(weights, version)
        self.version = version

    async def alive(self):
        pass

    def end(self):
        self.gone = True


def here(spec: str, model, *, versions: int, **_) -> Pool:
    async def start(number: int) -> Here:
        return Here(model)

    def publish(weights):
        return {name: tensor.clone() for name, tensor in weights.items()}

    return Pool(start, range(3), publish=publish, versions=versions, tell=0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return jobs.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _engines_here(monkeypatch):
    """float64: what runs have in common in theory they then have in every figure."""
    monkeypatch.setitem(load.DTYPES, "float32", torch.float64)
    monkeypatch.setattr(cluster, "cluster_engines", here)
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr(Here, "requests", 0)
    monkeypatch.setattr(Here, "log", [])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def words(world: Path, out: Path, *more: object) -> list[str]:
    return changed((
        "train", "ppo", "--model", world / "model", "--data", world / "prompts.jsonl", "--reward", world / "reward",
        "--steps", STEPS, "--batch-size", 4, "--group-size", 2, "--max-tokens", 5, "--out", out,
        "--learning-rate", 1e-3, "--report-to", "none", "--quiet", "--state-every", 2,
    ), *more)  # fmt: skip


def learned(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "time")} for row in rows]


def same(ours: list[dict], theirs: list[dict]) -> None:
    assert (
        [row["step"] for row in ours] == [row["step"] for row in theirs] == [*range(1, STEPS + 1)]
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12)


def test_engines_that_die_change_nothing(world, tmp_path):
    """With staleness 0 the metrics are those of the engine in this process, and of a driver that died they are, too.

    Mutation caught: a request asked again with another seed; weights of the wrong update; answers lost with the driver.
    """
    assert cli.main(words(world, tmp_path / "plain")) == 0
    plain = learned(tmp_path / "plain")
    again = words(world, tmp_path / "killed", "--cluster", "local:3")
    killed_after(6, Journal, "write", cli.main, again)  # in the middle of a step
    assert cli.main(again) == 0
    same(learned(tmp_path / "killed"), plain)
    # One in seven was asked again, and at most those three that were being answered when the driver died.
    assert STEPS * 4 < Here.requests <= 7 / 6 * (STEPS * 4 + 3) + 1


@pytest.mark.long
def test_samples_ahead_of_their_time(world, tmp_path, monkeypatch, caplog):
    """With staleness 2 what is learned does not depend on who is slow, dies, or goes on; the lag is 2 and no more; each
    prompt of each step is trained on; no wait passes without a line.

    Mutation caught: the newest weights taken instead; older ones forgotten by a state; a slow group left out; a group
    drawn twice.
    """
    ahead = ("--cluster", "local:3", "--staleness", 2)
    assert cli.main(words(world, tmp_path / "quick", *ahead)) == 0
    quick = learned(tmp_path / "quick")
    assert [row["engine/lag"] for row in quick] == [0, 1, 2, 2]
    asked = {seed: version for version, seed in Here.log}
    assert sorted(asked.values()) == sorted(behind(s, 2) for s in range(1, STEPS + 1) for _ in "12")
    monkeypatch.setattr(Here, "slow", tuple(asked)[::3])
    with caplog.at_level(logging.WARNING, "heedful"):
        assert cli.main(words(world, tmp_path / "slow", *ahead)) == 0
    same(learned(tmp_path / "slow"), quick)
    assert "requests wait" in caplog.text
    again = words(world, tmp_path / "killed", *ahead)
    killed_after(3, Run, "log", cli.main, again)  # the state is that of step 2
    assert cli.main(again) == 0
    same(learned(tmp_path / "killed"), quick)


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--cluster", "four"], "--cluster four: local:4 for four engines"),
        (["--staleness", 1], "--staleness would have no effect"),
    ],
)
def test_what_nobody_can_mean(world, tmp_path, capsys, more, sentence):
    """Mutation caught: told after models were loaded; a run that is begun."""
    assert cli.main(words(world, tmp_path / "no", *more)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
