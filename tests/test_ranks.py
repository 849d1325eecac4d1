"""Several processes train one model, and it is the model of one process."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import interruptions as jobs
import several
from changed import changed
from heedful.data.collate import collate, dealt, microbatches
from heedful.errors import UserError
from heedful.fast.compiled import cpp_compiler
from heedful.ranks import joined
from heedful.run import state


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return jobs.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ── one step ─────────────────────────────────────────────────────────────────────────────────────


def distance(ours: list, theirs: list) -> float:
    """‖ours − theirs‖ / ‖theirs‖ over all parameters; who has no gradient must be the same."""
    assert [g is None for g in ours] == [g is None for g in theirs]
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None]
    off = sum(float((a - b).square().sum()) for a, b in pairs)
    return math.sqrt(off / sum(float(b.square().sum()) for _, b in pairs))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    torch.set_num_threads(1)
    return several.measured()


def test_ranks_change_no_gradient(expected, tmp_path):
    """Token, group and mixed losses, also where a rank has no rows or no gradient of a parameter; predictions.

    Mutation caught: the divisor of the own share; a mean over the ranks; metrics of one rank only; a group parted;
    a gradient that one rank lacks left out; the mixed loss on all ranks in full; rows put in the wrong places.
    """
    assert several.call(3, several.measure, tmp_path) == [0] * 3
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for name in several.CASES:
        one, of_ranks = expected[name], [f[name] for f in found]
        assert one["gradient"][1] is None  # `never`
        # The same float32 numbers, of one sign for the most part, added up in another order: 10⁻⁷ of their size.
        assert distance(of_ranks[0]["gradient"], one["gradient"]) < 1e-5, name
        assert of_ranks[0]["metrics"] == pytest.approx(one["metrics"], rel=1e-5), name
        for other in of_ranks[1:]:
            assert distance(other["gradient"], of_ranks[0]["gradient"]) == 0, name
            assert other["metrics"] == of_ranks[0]["metrics"], name
    for name in set(expected) - set(several.CASES):
        for f in found:
            assert f[name].shape == expected[name].shape and f[name].dtype == expected[name].dtype
            assert torch.allclose(f[name], expected[name], rtol=1e-5, atol=1e-4), name


def test_groups_are_dealt_evenly():
    """Each group to one part, whole; no part has more than the fullest needs. Mutation caught: round robin by place."""
    batch = collate(several.samples([40, 3, 30, 3, 20, 3, 10, 3, 31]))
    batch.group[:] = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4])
    parts = [torch.cat(microbatches(batch, 64, (k, 3))).tolist() for k in range(3)]
    assert sorted(row for part in parts for row in part) == list(range(9))
    owner = {row: k for k, part in enumerate(parts) for row in part}
    assert all(owner[i] == owner[i + 1] for i in (0, 2, 4, 6))
    tokens = [int(batch.lengths[part].sum()) for part in parts]
    assert sorted(tokens) == [43, 46, 54]  # 40+3 | 30+3+10+3 | 31+20+3, of 143
    assert [len(dealt([1], k, 3)) for k in range(3)] == [1, 0, 0]


# ── what the ranks do together ───────────────────────────────────────────────────────────────────


def together(folder: Path) -> None:
    """Assertions on all ranks; a wrong one ends with a traceback and another exit code."""
    with joined() as ranks:
        rank, count = ranks.rank, ranks.world
        asked: list[int] = []

        async def square(x: int) -> int:
            asked.append(x)
            if x == 7:
                raise UserError("7 is taken")
            return x * x

        for n in (0, 1, 5):
            asked.clear()
            assert asyncio.run(ranks.share_out(range(n), square)) == [x * x for x in range(n)]
            assert asked == list(range(n))[rank::count]
        with pytest.raises(UserError, match="7 is taken"):
            asyncio.run(ranks.share_out(range(9), square))
        assert ranks.gather((rank, None)) == [(r, None) for r in range(count)]
        assert ranks.on_first(lambda x: (rank, x), rank) == (0, 0)

        def refuse() -> None:
            raise UserError(f"rank {rank} refuses")

        with pytest.raises(UserError, match="rank 0 refuses"):
            ranks.on_first(refuse)
        first = ranks.gather((ranks.says_first("a"), ranks.says_first("b")))
        assert [sum(said) for said in zip(*first, strict=True)] == [1, 1]
        with pytest.raises(UserError, match="cuda:1: with 3 processes"):
            ranks.check_device("cuda:1")
        print("one line")
        (folder / f"{rank}").touch()


def test_sharing_out_and_putting_together(tmp_path):
    """Mutation caught: answers in the order of ranks; an error on one rank only."""
    assert several.call(3, together, tmp_path) == [0, 0, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]


def test_one_process_meets_nobody(monkeypatch):
    """Mutation caught: torch.distributed asked where there is nobody to talk to."""
    for name in ("init_process_group", "all_reduce", "all_gather_object", "broadcast_object_list"):
        monkeypatch.delattr(torch.distributed, name)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with joined() as ranks:
        assert (ranks.rank, ranks.world) == (0, 1) and ranks.gather(5) == [5]
        several.measured()


# ── whole runs ───────────────────────────────────────────────────────────────────────────────────


def dynamic(w: Path) -> list:
    return [*jobs.policy(w, 1), "--group-size", 2, "--dynamic-sampling", 1]


def judged(w: Path) -> list:
    return [
        "--model", w / "model", "--data", w / "prompts.jsonl", "--judge", "tiny:likes_short",
        "--steps", 4, "--batch-size", 5, "--n", 3, "--max-tokens", 6, "--loss", "dpo",
    ]  # fmt: skip


LEARNING_RATE = 1e-3  # as `jobs.command` has it
OTHERS: dict[str, Callable[[Path], list]] = {"grpo": dynamic, "online_dpo": judged}
FULL = [
    pytest.param(job, marks=pytest.mark.exhaustive) for job in ("reward", "bco", "grpo", "rloo")
]
LONG = [pytest.param(job, marks=pytest.mark.long) for job in ("ppo", "online_dpo")]
WHOLE = ["sft", *LONG, *FULL]


def words(job: str, w: Path, out: Path, *more: object) -> list[str]:
    """Jobs of `interruptions`, and two more."""
    if job not in OTHERS:
        return jobs.command(job, w, out, *more)
    common = ["--out", out, "--lr", LEARNING_RATE, "--quiet", "--report-to", "none"]
    return changed(["train", job, *OTHERS[job](w), *common], *more)


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Callable[[str, int], Path]:
    """A finished run of a job by so many processes."""
    folder = tmp_path_factory.mktemp("whole")

    def of(job: str, count: int) -> Path:
        out = folder / f"{job}-{count}"
        if not out.exists():
            assert run(count, words(job, world, out)) == [0] * count
        return out

    return of


def run(
    count: int, line: list[str], trouble: dict | None = None, dtype: str = "float64"
) -> list[int]:
    return several.call(count, several.command, line, f"{out_of(line)}.said", trouble or {}, dtype)


def out_of(line: list[str]) -> str:
    return line[line.index("--out") + 1]


def said(out: Path) -> list[str]:
    """The sentences of a command."""
    return [line for line in jobs.said(out).splitlines() if line.startswith("heedful: ")]


CLOCKS = {"seconds", "tokens_per_second"}


def same(out: Path, reference: Path) -> None:
    """The same metrics and weights up to rounding, and the same files.

    Weights are float64, but log-probs and what is made of them float32. A metric is a mean over some hundred tokens of
    such numbers, of size 1 to 10, whose signs may cancel: it is off by 6·10⁻⁸ · √100 · 10 < 10⁻⁵, however small it is.
    What that changes in a gradient, Adam's division makes larger where the gradient is small, up to a step, the
    learning rate; only gradients that are mostly rounding would put all weights together off by a hundredth of it.
    """
    ours, theirs = jobs.rows(out), jobs.rows(reference)
    for mine, its in zip(ours, theirs, strict=True):
        assert set(mine) == set(its)
        for name in set(its) - CLOCKS:
            assert mine[name] == pytest.approx(its[name], rel=1e-5, abs=1e-5), (its["step"], name)
    a, b = (load_file(folder / "model.safetensors") for folder in (out, reference))
    assert {(name, x.shape, x.dtype) for name, x in a.items()} == {
        (name, x.shape, x.dtype) for name, x in b.items()
    }
    off = torch.cat([(a[name] - b[name]).flatten() for name in b])
    assert off.square().mean().sqrt() < LEARNING_RATE / 100
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*")) for f in (out, reference)]
    assert names[0] == names[1]


@pytest.mark.parametrize("job", WHOLE)
def test_a_whole_run_is_that_of_one_process(job, whole):
    """Samples, rewards with running scales, judges, BCO's whole-batch terms, critics, mixed text, evaluations.

    Mutation caught: seeds that depend on the rank; a running scale of the own rewards only; a rater drawn by the place
    in the own share; files or lines of another rank.
    """
    same(whole(job, 2), whole(job, 1))
    text = jobs.said(whole(job, 2))
    assert text.count(f"{job}-2 {(last := len(jobs.rows(whole(job, 2))))}/{last}") == 1
    assert len([line for line in text.splitlines() if line == str(whole(job, 2))]) == 1


@pytest.mark.exhaustive
@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("job", ["sft", "ppo"])
def test_compiled_layers_too(job, world, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(1, words(job, world, one, "--compile")) == [0]
    assert run(2, words(job, world, two, "--compile")) == [0, 0]
    same(two, one)


@pytest.mark.long
def test_twice_the_same_bits_also_when_stopped(world, whole, tmp_path):
    """One rank is asked to stop: all do, after the same step; the same command goes on to the same bits.

    Mutation caught: a rank that stops by itself; a state without the stash; generators of rank 0 for all.
    """
    out = tmp_path / "rloo"
    line = words("rloo", world, out)
    assert run(2, line, {1: ("signal", 3)}) == [143, 143]
    assert said(out) == ["heedful: stopped after step 3 of 8; the same command goes on"]
    assert state.States(out / "state").steps() == [3]
    assert run(2, line) == [0, 0]
    assert jobs.alike(out, whole("rloo", 2)) == ""


@pytest.mark.long
def test_another_number_of_ranks_goes_on(world, whole, tmp_path):
    """2 → 1 → 3 → 2 processes. Mutation caught: a state that belongs to a rank."""
    out = tmp_path / "ppo"
    line = words("ppo", world, out)
    for count, step in ((2, 2), (1, 2), (3, 1)):
        assert run(count, line, {0: ("signal", step)}) == [143] * count
    assert state.States(out / "state").steps()[-1] == 5
    assert run(2, line) == [0, 0]
    same(out, whole("ppo", 1))


@pytest.mark.long
def test_a_rank_that_dies_ends_the_run_and_it_goes_on(world, whole, tmp_path):
    """Mutation caught: the others waiting for ever; half of a stash taken up."""
    out = tmp_path / "rloo"
    line = words("rloo", world, out, "--state-every", 1)
    for place in (("heedful.learner.local:LocalLearner.step", 3), ("heedful.run:Run.stash", 2)):
        assert run(2, line, {1: ("die", place)}) == [1, 9]
    assert set(said(out)) == {
        "heedful: another process of this run has ended; what it said tells why"
    }
    assert "Traceback" not in jobs.said(out)
    assert run(2, line) == [0, 0]
    assert jobs.alike(out, whole("rloo", 2)) == ""


@pytest.mark.long
def test_what_is_refused_is_said_once(world, whole, tmp_path):
    """Exit code 2 on all ranks, one sentence, nothing left behind; also where one rank only meets it, or is late.

    Mutation caught: a sentence a rank; a traceback of those who wait, or who still join when rank 0 is refused;
    the folder of a run that never was.
    """

    def refused(line: list[str], sentence: str, trouble: dict | None = None) -> None:
        said_ = tmp_path / "said"
        said_.unlink(missing_ok=True)
        assert several.call(2, several.command, line, str(said_), trouble or {}) == [2, 2]
        text = said_.read_text()
        assert text.count("heedful: ") == 1 and sentence in text and "Traceback" not in text

    finished = whole("sft", 2)
    refused(words("sft", world, finished), "already holds a finished model")
    out = tmp_path / "none"
    nan = words("rloo", world, out, "--reward", "several:nan_for_one")
    refused(nan, "rewards must be finite numbers")
    assert not out.exists()
    refused(words("sft", world, out, "--device", "cuda:1"), "must be auto, cpu or cuda")
    refused(words("sft", world, out, "--lrr", "1"), "has no option --lrr")
    iterate = ["iterate", "plan.yaml"]
    refused(iterate, "iterate does not run on several processes")
    refused(iterate, "iterate does not run on several processes", {1: ("late", 2.0)})
    assert not out.exists()


def torchrun(program: list[str], **options: str) -> subprocess.CompletedProcess[str]:
    """Two processes of torchrun."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
    ]
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.run(
        [*launcher, *more, *program], env=environment, capture_output=True, text=True, timeout=300
    )


DIES_ONCE = """
import os, sys
import interruptions as jobs
from heedful import cli
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "0":
    jobs.die_at("heedful.learner.local:LocalLearner.step", 3)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.long
def test_a_restart_by_torchrun_goes_on(world, whole, tmp_path):
    """Rank 0 dies in the third step of the first attempt; the launcher gives the bits of the tests' own. Mutations
    caught: a dead attempt's keys waited for; reading what only the tests' launcher sets."""
    program, out = tmp_path / "dies_once.py", tmp_path / "sft"
    program.write_text(DIES_ONCE)
    done = torchrun(
        [str(program), *words("sft", world, out, "--state-every", 1)], **{"max-restarts": "2"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out)]
    reference = tmp_path / "reference"
    assert run(2, words("sft", world, reference, "--state-every", 1), dtype="float32") == [0, 0]
    assert jobs.alike(out, reference) == ""


@pytest.mark.parametrize("silent", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_stopped_rank_is_named(silent, world, tmp_path):
    """Who still answers says who does not, and ends. Mutation caught: a collective that is waited for hours; the
    keeper of the store (rank 0), whose silence answers nothing, taken for anybody."""
    out = tmp_path / "sft"
    trouble = {silent: ("stop", 2), 1 - silent: ("patience", 3)}
    line = words("sft", world, out)
    processes = several.start(2, several.command, line, f"{out}.said", trouble, "float32")
    try:
        assert jobs.finish(processes[1 - silent], seconds=120) == 2
    finally:
        for process in processes:
            process.kill()
    told = f"heedful: process {silent} of 2 has been silent for 3 seconds; the same command goes on"
    assert told in said(out)


def test_patience_is_a_number_of_seconds(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("HEEDFUL_PATIENCE", "long")
    with pytest.raises(UserError, match="HEEDFUL_PATIENCE=long: a number of seconds"), joined():
        pass
