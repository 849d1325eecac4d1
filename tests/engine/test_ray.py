"""Three raylets on one machine, and a PPO run whose engines, raylets and learner are killed at random moments.

`make test-scale` has an environment with Ray. HEEDFUL_KILLS sets how many are killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import interruptions as jobs
import several
from changed import changed
from heedful import cli
from heedful.models import load
from heedful.run import Run
from heedful.run.begun import stashes

pytestmark = [pytest.mark.ray, pytest.mark.exhaustive]
KILLS, STEPS, ROWS = int(os.environ.get("HEEDFUL_KILLS", "20")), 20, 8


def slow(prompt: str, response: str) -> float:
    """A reward that takes its time, so that a step does, and 20 of them what it takes to kill 20 times."""
    time.sleep(0.1)
    return -0.1 * len(response)


def run(words: list[str], said: str, ledger: str) -> None:
    """The command. What of each step is trained on goes to the ledger."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    load.DTYPES["float32"] = torch.float64
    stash = Run.stash

    def noted(self: Run, step: int, value: dict) -> None:
        stash(self, step, value)
        places = Counter[int]()
        with open(ledger, "a", encoding="utf-8") as file:
            for sample in value["samples"]:
                k, places[sample.group] = places[sample.group], places[sample.group] + 1
                file.write(json.dumps([step, sample.group, k, sample.tokens]) + "\n")

    Run.stash = noted  # type: ignore[method-assign]
    sys.exit(cli.main(words))


def start(words: list[str], folder: Path, name: str):
    process = jobs.CONTEXT.Process(
        target=run, args=(words, str(folder / f"{name}.log"), str(folder / f"{name}.ledger"))
    )
    jobs.launch(process)
    return process


@pytest.fixture(scope="module")
def raylets() -> Iterator:
    """A head that only tells who is where, and three machines with room for two engines each."""
    utils = pytest.importorskip("ray.cluster_utils")
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_worker_niceness", "0")):
        os.environ[name] = value
    # Engines find the modules that the tests find.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(3):
        cluster.add_node(num_cpus=2)
    yield cluster
    cluster.shutdown()


def words(world: Path, out: Path, *more: object) -> list[str]:
    return changed((
        "train", "ppo", "--model", world / "model", "--data", world / "prompts.jsonl",
        "--reward", f"{__name__}:slow", "--steps", STEPS, "--batch-size", ROWS, "--group-size", 2,
        "--max-tokens", 6, "--out", out, "--lr", 1e-3, "--report-to", "none", "--quiet", "--state-every", 3,
    ), *more)  # fmt: skip


def engines(raylets) -> list[int]:
    """The process ids of the engines on these raylets."""
    parents = {
        info.process.pid
        for node in raylets.worker_nodes
        for infos in node.all_processes.values()
        for info in infos
    }
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if parent in parents and name.startswith(b"ray::Host"):
            found.append(int(folder.name))
    return found


def storm(raylets, process, again, folder: Path, draw: random.Random) -> list[str]:
    """Kill at random moments, and sooner where the run is ahead of its killers; returns what was killed."""
    killed: list[str] = []
    told = folder / "stormy" / "metrics.jsonl"
    while len(killed) < KILLS:
        while process.is_alive() and not engines(raylets):  # else there is little to be killed
            time.sleep(0.1)
        steps = len(told.read_bytes().splitlines()) if told.exists() else 0
        time.sleep(0.1 if steps * KILLS > len(killed) * STEPS else draw.uniform(0.1, 1.0))
        if not process.is_alive():
            assert process.exitcode == 0, (folder / "killed.log").read_text()[-3000:]
            break
        what = draw.choices(("engine", "raylet", "learner"), (6, 2, 2))[0]
        if what == "engine" and (there := engines(raylets)):
            os.kill(draw.choice(there), signal.SIGKILL)
        elif what == "raylet":
            raylets.remove_node(
                draw.choice(sorted(raylets.worker_nodes, key=id)), allow_graceful=False
            )
            raylets.add_node(num_cpus=2)
        elif what == "learner":
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            process = again()
        else:
            continue
        killed.append(what)
    assert jobs.finish(process) == 0, (folder / "killed.log").read_text()[-3000:]
    return killed


def metrics(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "time")} for row in rows]


def test_two_ranks_have_their_share_of_the_engines(raylets, tmp_path):
    """Also where each has a part of the policy: the metrics are those of one process without a cluster.

    Mutation caught: one rank's engines that the other asks, or that have a part of the weights; what is drawn twice;
    ranks that reserve the same room.
    """
    world, more = jobs.make_world(tmp_path / "world"), ("--steps", 4)
    ways = {
        "one": (1, ()),
        "two": (2, ("--cluster", f"{raylets.address}/3")),
        "shared": (2, ("--cluster", f"{raylets.address}/3", "--shard")),
    }
    for name, (ranks, how) in ways.items():
        said = tmp_path / f"{name}.txt"
        line = words(world, tmp_path / name, *more, *how)
        codes = several.call(ranks, several.command, line, str(said), {}, "float32")
        assert codes == [0] * ranks, said.read_text()[-3000:]
    for name in ("two", "shared"):
        for ours, theirs in zip(metrics(tmp_path / name), metrics(tmp_path / "one"), strict=True):
            for metric in ("reward", "kl/seq", "completions/mean_length"):
                assert ours[metric] == pytest.approx(theirs[metric], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("staleness", [0, 2])
def test_whoever_is_killed_the_run_is_the_same(raylets, tmp_path, staleness):
    """20 steps; each (step, prompt, k) has one completion and no more; with staleness 0 the metrics of the run without
    a cluster, with 2 those of one in which nobody dies.

    Mutation caught: a completion made again with another seed or other weights; one left out, or trained on twice.
    """
    world = jobs.make_world(tmp_path / "world")
    more = ("--cluster", f"{raylets.address}/3", "--staleness", staleness)
    calm = words(world, tmp_path / "calm", *(more if staleness else ()))
    assert jobs.finish(start(calm, tmp_path, "calm")) == 0, (tmp_path / "calm.log").read_text()[
        -3000:
    ]
    stormy = words(world, tmp_path / "stormy", *more)

    def again():
        return start(stormy, tmp_path, "killed")

    killed = storm(raylets, again(), again, tmp_path, random.Random(staleness))
    print(f"killed: {dict(Counter(killed))}")
    assert len(killed) == KILLS
    assert stashes(tmp_path / "stormy").steps() == []
    for ours, theirs in zip(metrics(tmp_path / "stormy"), metrics(tmp_path / "calm"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    ledgers = []
    for name in ("killed", "calm"):
        rows = [json.loads(line) for line in (tmp_path / f"{name}.ledger").read_text().splitlines()]
        ledgers.append({(step, prompt, k): tokens for step, prompt, k, tokens in rows})
        # A learner that died before its next state draws some steps again, and draws the same.
        assert all(ledgers[-1][step, prompt, k] == tokens for step, prompt, k, tokens in rows)
    assert ledgers[0] == ledgers[1]
    assert set(ledgers[0]) == {
        (s, g, k) for s in range(1, STEPS + 1) for g in range(ROWS // 2) for k in range(2)
    }
