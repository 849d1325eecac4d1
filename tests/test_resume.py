"""Stopped, killed, gone on: an interrupted run ends in the same bits. docs/results/resume.py does it at random."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

import interruptions as jobs
from heedful import cli
from heedful.data import reading
from heedful.data.collate import collate
from heedful.errors import UserError
from heedful.fast.compiled import cpp_compiler
from heedful.run import Run, files, state
from heedful.run.metrics import MetricsLog
from heedful.run.stop import StopSignals, locked
from heedful.training import rows
from heedful.types import Batch, Sample

DAILY = ("sft", "rloo")  # the others are asked for with what takes long


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are split among threads, so bits are only comparable for the same number of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return jobs.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Callable[[str], Path]:
    """The run of a job that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")

    def of(job: str) -> Path:
        if not (folder / job).exists():
            assert run(job, world, folder / job) == 0
        return folder / job

    return of


def run(job: str, world: Path, out: Path, *more: object) -> int:
    """The command in this process; its exit code."""
    return cli.main(jobs.command(job, world, out, *more))


def stop_at(monkeypatch, call: int, number: int = signal.SIGTERM) -> None:
    """The signal comes in the n-th step from now on, before its state could be kept."""
    log, calls = Run.log, 0

    def stopped(self, *args):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
        log(self, *args)

    monkeypatch.setattr(Run, "log", stopped)


def stopped(job: str, world: Path, out: Path, call: int, *more: object) -> None:
    """A run that was asked to stop in its n-th step."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, call)
        assert run(job, world, out, *more) == 143


def states(out: Path) -> list[int]:
    return state.States(out / "state").steps()


def sentence(capsys) -> str:
    """The one sentence of a command that was refused."""
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("heedful: ")]
    assert len(said) == 1
    return said[0]


# ── N + N ≡ 2N ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "job",
    [j if j in DAILY else pytest.param(j, marks=pytest.mark.long) for j in jobs.JOBS],
)
def test_stopped_again_and_again(job, world, whole, tmp_path, capsys):
    """After the first step, around the end of an epoch (in step 5), and in the last one; then to the end.

    Mutation caught: the optimiser's moments or step count, the schedule's position, the data cursor, β, the
    running scale, or the judge's generator left out of the state; a batch given twice or left out.
    """
    out, reference, done = tmp_path / job, whole(job), 0
    total = len(jobs.rows(reference))
    for step in (1, 4, 5, 6, total):
        stopped(job, world, out, step - done)
        assert f"stopped after step {step} of {total}; the same command goes on" in sentence(capsys)
        assert states(out)[-1] == step
        done = step
    assert run(job, world, out) == 0
    assert f"continuing {out} after step {total} of {total}" in capsys.readouterr().err
    assert jobs.alike(out, reference) == ""


@pytest.mark.parametrize("job", [pytest.param("sft", marks=pytest.mark.long), "dpo"])
def test_who_goes_on_reads_a_few_rows_only(job, world, whole, tmp_path, monkeypatch):
    """Of Parquet in several files; all of them again where they are not what they were, what was kept is not whole, or
    bad rows are to be treated otherwise. The same bits each time.

    Mutation caught: rows that are read and turned into tokens at every start; those of other data, or of half a file.
    """
    import pyarrow.json
    import pyarrow.parquet

    name, read = {"sft": "demonstrations", "dpo": "pairs"}[job], []
    table = pyarrow.json.read_json(world / f"{name}.jsonl")
    files = [tmp_path / f"{i}.parquet" for i in range(2)]
    for i, file in enumerate(files):
        pyarrow.parquet.write_table(table.slice(12 * i, 12), file)
    words = ["--data", *files]
    export = reading.read_export
    counted = lambda *how, **more: (read.append(1) or row for row in export(*how, **more))  # noqa: E731
    monkeypatch.setattr(reading, "read_export", counted)
    monkeypatch.setattr(rows, "SOME", 2)

    def rows_of(call: int, *more: object) -> int:
        read.clear()
        stopped(job, world, tmp_path / "run", call, *words, *more)
        return len(read)

    assert rows_of(2) == len(table)
    assert rows_of(1) == rows_of(1) == 2
    assert rows_of(1, "--on-bad-row", "drop") == len(table)
    kept = tmp_path / "run" / "state" / "rows" / "train"
    kept.write_bytes(kept.read_bytes()[:-8])
    assert rows_of(1, "--on-bad-row", "drop") == len(table)
    assert rows_of(1, "--on-bad-row", "drop") == 2
    pyarrow.parquet.write_table(table.slice(12, 12), files[1], compression="none")
    assert rows_of(1) == len(table)
    assert run(job, world, tmp_path / "run", *words) == 0
    assert not (tmp_path / "run" / "state").exists()
    ours, plain = (load_file(x / "model.safetensors") for x in (tmp_path / "run", whole(job)))
    assert all(torch.equal(ours[n], plain[n]) for n in plain)


@pytest.mark.exhaustive
@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("job", ["sft", "ppo"])
def test_compiled_layers_go_on_in_the_same_bits(job, world, whole, tmp_path):
    """And end near the plain run. Mutation caught: layers compiled in the first process only."""
    reference, out = tmp_path / "whole", tmp_path / "out"
    assert run(job, world, reference, "--compile") == 0
    stopped(job, world, out, 3, "--compile")
    assert run(job, world, out, "--compile") == 0
    assert jobs.alike(out, reference) == ""
    if job == "sft":  # a sampled token may turn
        ours, plain = (load_file(x / "model.safetensors") for x in (out, whole(job)))
        off = sum(float((ours[n] - plain[n]).square().sum()) for n in plain)
        assert off**0.5 < 1e-3 * sum(float(x.square().sum()) for x in plain.values()) ** 0.5


def test_each_signal_has_its_exit_code(world, tmp_path, monkeypatch, capsys):
    stop_at(monkeypatch, 2, signal.SIGINT)
    assert run("sft", world, tmp_path / "run") == 130
    assert "stopped after step 2 of 9" in sentence(capsys)


def test_a_second_signal_stops_at_once():
    """Mutation caught: a handler that stays in place, so that a hanging step cannot be interrupted."""
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_after_the_last_step_stops_what_comes_next(world, whole, tmp_path, monkeypatch):
    """A loop over several runs must not begin the next one. Mutation caught: the signal forgotten."""
    reference, finish = whole("sft"), Run.finish
    monkeypatch.setattr(
        Run, "finish", lambda self, save: (os.kill(os.getpid(), signal.SIGTERM), finish(self, save))
    )
    assert run("sft", world, tmp_path / "run") == 143
    assert jobs.alike(tmp_path / "run", reference) == ""


def test_nothing_draws_from_the_global_generators(world, tmp_path, monkeypatch):
    """Mutation caught: dropout left on, a shuffle by the global generator."""
    seen = []
    keep = Run.keep

    def watched(self, step, parts):
        seen.append((random.getstate(), torch.get_rng_state().tolist()))
        keep(self, step, parts)

    monkeypatch.setattr(Run, "keep", watched)
    for job in jobs.SUPERVISED:
        seen.clear()
        assert run(job, world, tmp_path / job) == 0
        assert len(seen) > 5 and all(s == seen[0] for s in seen)


# ── killed ───────────────────────────────────────────────────────────────────────────────────────

DEATHS = {
    "sft": [
        ("heedful.run:write_text", 1),  # nothing but an empty folder is there
        ("heedful.run.state:save_file", 8),  # in the middle of writing the third state
        ("heedful.run.metrics:MetricsLog.write", 2),
        ("heedful.disk:os.unlink", 2),  # with an old state half thrown away
        ("heedful.run:Run.finish", 1),
        ("heedful.run:os.replace", 6),  # with half of the model in place
    ],
    "small": [
        ("heedful.learner.local:LocalLearner.step", 7),  # half of the rollouts of step 2 used
        ("heedful.run.state:save_file", 9),  # the critic's part of a state
        ("heedful.run:Run.stash", 2),  # sampled and judged, but not kept yet
    ],
    "rloo": [
        ("heedful.learner.local:LocalLearner.step", 2),  # with the rollouts of step 2 half used
        ("heedful.run:Run.stash", 2),
        ("heedful.models.reference:Reference.refresh", 1),
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("job", DEATHS)
def test_killed_at_the_worst_moments(job, world, whole, tmp_path):
    """One run that dies in all these places, one after the other, and goes on each time.

    Mutation caught: files written in place, a half-written state taken for whole, steps logged twice, a
    stash that belongs to another step.
    """
    out = tmp_path / job
    for where, call in DEATHS[job]:
        assert jobs.call(
            jobs.command(job, world, out, "--state-every", 1), die=(where, call)
        ) == 9, where  # fmt: skip
    assert jobs.call(jobs.command(job, world, out, "--state-every", 1)) == 0
    assert jobs.alike(out, whole(job)) == ""
    if job == "small":  # only what was lost before it could be kept was paid for again
        asked = [int(x) for x in Path(f"{out}.bill").read_text().split()]
        assert sorted(asked) == asked and len(asked) == 8 + 1


@pytest.mark.long
@pytest.mark.parametrize(("job", "numbers"), [
    ("dpo", [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]),
    ("reward", [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]),
])  # fmt: skip
def test_killed_at_random_moments(job, numbers, world, whole, tmp_path):
    """Signals from outside, whenever they come. A moment may also fall before the first step or after the last."""
    out, chance = tmp_path / job, random.Random(f"{job}/moments")
    words = jobs.command(job, world, out, "--state-every", 1, "--report-to", "tensorboard")
    for number in numbers:
        code = jobs.interrupt(jobs.start(words), chance.uniform(0.1, 0.8), number)
        assert code in (-number, 128 + number, 0)
        if (out / "config.json").exists():
            break
        logged = len(jobs.rows(out)) if (out / "metrics.jsonl").exists() else 0
        assert logged - (states(out) or [0])[-1] in (0, 1)  # at most the step in progress is lost
    expected = 2 if (out / "config.json").exists() else 0
    assert jobs.call(words) == expected
    assert jobs.alike(out, whole(job)) == ""


# ── damaged, full, taken ─────────────────────────────────────────────────────────────────────────


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.fixture(scope="module")
def half(world, tmp_path_factory) -> Path:
    """A run that was stopped after step 5, with the states of steps 4 and 5."""
    out = tmp_path_factory.mktemp("half") / "run"
    stopped("sft", world, out, 5, "--state-every", 1)
    assert states(out) == [4, 5]
    return out


@pytest.fixture
def unfinished(half, tmp_path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "run"))


@pytest.mark.parametrize("name", ["learner.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_state_falls_back_to_the_one_before(
    name, damage, unfinished, world, whole, capsys, caplog
):
    """Mutation caught: a checksum that is not compared, sizes only, the newest state taken as it is."""
    damage(unfinished / "state" / "000005" / name)
    assert run("sft", world, unfinished) == 0
    assert "state/000005 is damaged: " in caplog.text and name in caplog.text
    assert "after step 4 of 9" in capsys.readouterr().err
    assert jobs.alike(unfinished, whole("sft")) == ""


def test_a_manifest_does_not_vouch_for_itself(unfinished, world, whole, caplog):
    """One digit, and the state of step 5 passes for that of step 6. Mutation caught: the manifest's own checksum."""
    manifest = unfinished / "state" / "000005" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"step": 5', '"step": 6'))
    assert manifest.read_text() != text
    assert run("sft", world, unfinished) == 0
    assert "manifest.json has another checksum" in caplog.text
    assert jobs.alike(unfinished, whole("sft")) == ""


def test_all_damaged_is_said_and_restart_begins_anew(unfinished, world, whole, capsys):
    flip(unfinished / "state" / "000004" / "learner.safetensors")
    truncate(unfinished / "state" / "000005" / "learner.safetensors")
    assert run("sft", world, unfinished) == 2
    said = sentence(capsys)
    assert "every saved state" in said and "--restart" in said
    assert states(unfinished) == [4, 5]  # nothing was thrown away
    assert run("sft", world, unfinished, "--restart") == 0
    assert "continuing" not in capsys.readouterr().err
    assert jobs.alike(unfinished, whole("sft")) == ""


def test_a_full_disk_leaves_the_state_before(world, whole, tmp_path, monkeypatch, capsys):
    """Mutation caught: the old state removed before the new one is whole; the folder removed by the UserError."""
    save, calls = state.save_file, 0

    def full(tensors, path, **more):
        nonlocal calls
        calls += 1
        save(tensors, path, **more)
        if calls == 7:  # the first of three parts of the third state
            truncate(Path(path))
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    out = tmp_path / "run"
    assert run("sft", world, out, "--state-every", 2) == 2
    assert "no space left on device; what was saved before is whole" in sentence(capsys)
    assert {p.name for p in (out / "state").iterdir()} == {"000002", "000004", "rows"}
    monkeypatch.undo()
    assert run("sft", world, out) == 0
    assert jobs.alike(out, whole("sft")) == ""


@pytest.mark.long
def test_a_damaged_stash_is_made_again(world, whole, tmp_path, caplog):
    out = tmp_path / "small"
    words = jobs.command("small", world, out, "--state-every", 1)
    assert jobs.call(words, die=("heedful.learner.local:LocalLearner.step", 7)) == 9
    flip(out / "state" / "stash" / "000002" / "stash.safetensors")
    assert cli.main(words) == 0
    assert "what was kept of step 2 is damaged" in caplog.text
    assert jobs.alike(out, whole("small")) == ""
    assert Path(f"{out}.bill").read_text().split()[:3] == ["1", "2", "2"]


@pytest.mark.long
def test_the_judge_is_not_paid_twice_between_two_states(world, whole, tmp_path):
    """Killed in step 6 with a state of step 3 only: steps 4, 5 and 6 use the rollouts that were kept.

    Mutation caught: only the newest stash kept; stashes dropped by the newest instead of the older state.
    """
    out = tmp_path / "small"
    words = jobs.command("small", world, out, "--state-every", 3)
    assert jobs.call(words, die=("heedful.learner.local:LocalLearner.step", 22)) == 9
    assert states(out) == [3] and state.States(out / "state" / "stash").steps() == [4, 5, 6]
    assert jobs.call(words, die=("heedful.learner.local:LocalLearner.step", 18)) == 9  # in step 8
    assert states(out) == [3, 6]
    flip(out / "state" / "000006" / "beta.safetensors")
    assert jobs.call(words) == 0
    assert jobs.alike(out, whole("small")) == ""
    assert Path(f"{out}.bill").read_text().split() == list("12345678")


def test_one_process_a_folder(unfinished, world, capsys):
    """Mutation caught: no lock; a lock that outlives its process."""
    with locked(unfinished):
        assert run("sft", world, unfinished) == 2
        said = sentence(capsys)
        assert f"another process ({os.getpid()}) is training in" in said
        with pytest.raises(BaseException, match="another process"):
            Run(unfinished, object(), total_steps=1, report_to="none").__enter__()
    (unfinished / ".lock").write_text("1")  # of a process that was killed
    assert run("sft", world, unfinished) == 0


# ── other settings ───────────────────────────────────────────────────────────────────────────────


def test_a_changed_config_is_refused_by_name(unfinished, world, capsys):
    """Mutation caught: a changed schedule that silently continues; fields that change no result refused."""
    assert run("sft", world, unfinished, "--epochs", 3, "--seed", 1) == 2
    said = sentence(capsys)
    assert "seed was 0, is 1" in said and "epochs was 2.0, is 3.0" in said and "--restart" in said
    assert states(unfinished) == [4, 5]
    assert run("dpo", world, unfinished) == 2
    assert "it is one of sft, not of preference" in sentence(capsys)
    free = [
        "--save-every",
        2,
        "--log-every",
        2,
        "--state-every",
        3,
        "--no-quiet",
        "--micro-batch-tokens",
        99,
    ]
    assert run("sft", world, unfinished, *free) == 0
    told = capsys.readouterr().err
    assert "since then " in told and "save_every was 0, is 2; " in told
    (event,) = [json.loads(line) for line in (unfinished / "record.jsonl").read_text().splitlines()]
    assert event["step"] == 5 and "micro_batch_tokens was 8192, is 99" in event["changed"]
    assert "log_every was 1, is 2" in event["changed"]


def test_mended_data_goes_on_and_is_told(world, tmp_path, capsys):
    """In the same file or in another. Mutation caught: training that is lost because a row was mended; a change that
    nobody can see afterwards."""
    copy = Path(shutil.copytree(world, tmp_path / "world"))
    stopped("sft", copy, tmp_path / "run", 3)
    lines = (copy / "demonstrations.jsonl").read_text().splitlines()
    (copy / "demonstrations.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    capsys.readouterr()
    (copy / "other.jsonl").write_text("\n".join(lines[1:]) + "\n")
    assert run("sft", copy, tmp_path / "run", "--seed", 1, "--data", copy / "other.jsonl") == 2
    assert "differently: seed was 0, is 1." in sentence(capsys)  # and no word of the data
    assert run("sft", copy, tmp_path / "run") == 0
    changed = f"{copy / 'demonstrations.jsonl'} was changed"
    assert f"since then {changed}\n" in capsys.readouterr().err
    record = [
        json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()
    ]
    assert {"step": 3, "changed": [changed]} in record


def test_a_changed_model_is_refused(world, tmp_path, capsys):
    """The same size and the same time of change do not deceive. Mutation caught: a fingerprint of size and mtime."""
    copy, what = Path(shutil.copytree(world, tmp_path / "world")), "model/model.safetensors"
    stopped("sft", copy, tmp_path / "run", 3)
    before = (copy / what).stat()
    flip(copy / what)
    os.utime(copy / what, ns=(before.st_atime_ns, before.st_mtime_ns))
    capsys.readouterr()
    assert run("sft", copy, tmp_path / "run") == 2
    assert f"{copy / what.split('/')[0]} was changed since" in sentence(capsys)
    flip(copy / what)
    assert run("sft", copy, tmp_path / "run") == 0


def test_large_files_are_sampled(tmp_path, monkeypatch):
    """Quick digests notice the ends, the size and the samples; small files are read whole."""
    monkeypatch.setattr(files, "READ_WHOLE", 1000)
    monkeypatch.setattr(files, "SAMPLE", 10)
    monkeypatch.setattr(files, "SAMPLES", 5)
    file, seen = tmp_path / "f", set()
    for data in (b"a" * 2000, b"a" * 1999, b"b" + b"a" * 1999, b"a" * 1999 + b"b", b"a" * 1000):
        file.write_bytes(data)
        seen.add(files.digest(file, quick=True))
    assert len(seen) == 5
    assert files.digest(file, quick=True) == files.digest(file)


def test_resume_says_it_loudly(unfinished, world, whole, tmp_path, capsys):
    assert run("sft", world, tmp_path / "new", "--resume") == 2
    assert "holds no saved state to go on from" in sentence(capsys)
    assert not (tmp_path / "new").exists()
    assert run("sft", world, unfinished, "--resume", "--restart") == 2
    assert "give one of them" in sentence(capsys)
    assert run("sft", world, unfinished, "--resume") == 0
    assert jobs.alike(unfinished, whole("sft")) == ""
    assert "\nresume:" not in (unfinished / "config.yaml").read_text()


@pytest.mark.long
def test_a_run_without_a_state_begins_anew(world, whole, tmp_path):
    """Killed before the first state: nothing of the first try stays, whatever the settings were."""
    out = tmp_path / "run"
    words = jobs.command("sft", world, out, "--save-every", 1)
    assert jobs.call(words, die=("heedful.learner.local:LocalLearner.step", 4)) == 9
    assert len(jobs.rows(out)) == 3 and states(out) == []
    assert run("sft", world, out, "--save-every", 4) == 0
    assert jobs.alike(out, whole("sft")) == ""
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == ["000004", "000008"]


# ── metrics and checkpoints ──────────────────────────────────────────────────────────────────────


@pytest.mark.long
def test_every_step_once_in_both_logs(world, whole, tmp_path):
    """Died in step 8 with the state of step 5 and a torn line: steps 6 and 7 come again, and once only.

    Mutation caught: metrics appended without a cut; TensorBoard events of the lost steps left visible.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    words = jobs.command("sft", world, out, "--state-every", 5, "--report-to", "tensorboard")
    assert jobs.call(words, die=("heedful.learner.local:LocalLearner.step", 8)) == 9
    with open(out / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "secon')
    before = [line.split('"seconds": ')[1] for line in
              (out / "metrics.jsonl").read_text().splitlines()[:5]]  # fmt: skip
    assert cli.main(words) == 0
    assert jobs.alike(out, whole("sft")) == ""
    assert [r["step"] for r in jobs.rows(out)] == list(range(1, 10))
    times = [r["seconds"] for r in jobs.rows(out)]
    assert [float(b.partition(",")[0]) for b in before] == times[:5] and times[5] >= times[4]
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == list(range(1, 10))


def test_seconds_go_on(tmp_path):
    """Mutation caught: a clock that begins anew, or counts the lines before, too."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds": 99.5}\n')
    with MetricsLog(tmp_path, None, "none", after=1, seconds=100.0) as log:
        log.write(2, {"loss": 1.0})
    first, second = jobs.rows(tmp_path)
    assert first["seconds"] == 99.5 and 100 <= second["seconds"] < 199


@pytest.mark.long
def test_killed_while_the_state_is_thrown_away(world, whole, tmp_path, capsys):
    """The model is finished then: the same command says so, and throws away the rest.

    Mutation caught: gigabytes of state left for ever; a finished folder of somebody else's cleaned.
    """
    out = tmp_path / "run"
    words = jobs.command("sft", world, out, "--state-every", 8)
    assert jobs.call(words, die=("heedful.run:discard", 2)) == 9
    assert jobs.alike(out, whole("sft")).startswith("left behind")
    assert cli.main(words) == 2
    assert "already holds a finished model" in sentence(capsys)
    assert jobs.alike(out, whole("sft")) == ""
    (out / "state").mkdir()
    assert cli.main(words) == 2
    assert (out / "state").exists()


def test_checkpoints_survive_and_the_best_is_never_pruned(world, tmp_path, capsys):
    """Mutation caught: checkpoints wiped when a run goes on; the best one pruned; max taken for min."""
    out = tmp_path / "run"
    more = ["--save-every", 1, "--keep-last", 2, "--keep-best", "max:eval/loss"]
    stopped("sft", world, out, 6, *more)
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == ["000001", "000005", "000006"]  # fmt: skip
    assert run("sft", world, out, *more) == 0
    found = [p.name for p in sorted((out / "checkpoints").iterdir())]
    assert found == ["000001", "000008", "000009"]  # the loss falls, so the first is the highest
    assert "best eval/loss: " in capsys.readouterr().err
    measured = {r["step"]: r["eval/loss"] for r in jobs.rows(out)}
    assert max(measured, key=measured.__getitem__) == 1 and len(measured) == 9
    assert run("sft", world, tmp_path / "low", *more[:-1], "min:eval/loss") == 0
    found = [p.name for p in sorted((tmp_path / "low" / "checkpoints").iterdir())]
    assert found == ["000008", "000009"]


@pytest.mark.parametrize(("more", "words"), [
    (["--keep-last", 2], "give --save-every"),
    (["--save-every", 1, "--keep-best", "eval/loss"], "min: or max:"),
    (["--save-every", 1, "--keep-best", "min:eval/lost"], "did you mean 'eval/loss'"),
    (["--state-every", -1], "--state-every -1: must be at least 0"),
])  # fmt: skip
def test_settings_that_make_no_sense(more, words, world, tmp_path, capsys):
    assert run("sft", world, tmp_path / "run", *more) == 2
    assert words in sentence(capsys)
    assert not (tmp_path / "run").exists()


# ── the pieces ───────────────────────────────────────────────────────────────────────────────────


def test_saving_takes_its_share_of_the_time(tmp_path, monkeypatch):
    """By a clock of our own: a state after 10 s, then every 2 s / 5 % = 40 s. Mutation caught: a fixed interval."""
    now, written = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def slow(self, parts, about, shards=None):
        nonlocal now
        now += 2.0
        written.append(about["step"])

    monkeypatch.setattr(state.States, "write", slow)
    monkeypatch.setattr(state.States, "steps", lambda self: written[-2:])

    @dataclass(frozen=True)
    class Config:
        out: Path = tmp_path / "run"

    with Run(tmp_path / "run", Config(), total_steps=200, quiet=True, report_to="none") as open_run:
        open_run.restore({})
        for step in range(1, 101):
            now += 1.0
            open_run.keep(step, {})
    assert written == [10, 50, 90]


def test_values_come_back_as_they_were(tmp_path):
    """Mutation caught: tuples as lists, keys as strings, NaN refused, tensors that share memory refused."""
    base = torch.arange(6.0)
    sample = Sample((1, 2), (False, True), (0.0, -0.1 / 3))
    value = {
        "numbers": [1, -0.1 / 3, float("inf"), None, True, "ß\n"],
        0: (base, base[2:4], base.to(torch.bfloat16), torch.tensor(3), torch.zeros(2, 0)),
        "turned": torch.arange(6).view(2, 3).T,
        "nouns": [sample, replace(collate([sample]), group=torch.tensor([7]))],
        "empty": {"dict": {}, "list": [], "tuple": ()},
    }
    state.dump(value, tmp_path / "v.safetensors")
    back = state.load(tmp_path / "v.safetensors")
    assert back["numbers"] == value["numbers"] and back["empty"] == value["empty"]
    assert isinstance(back[0], tuple) and torch.equal(back["turned"], value["turned"])
    for mine, its in zip(back[0], value[0], strict=True):
        assert torch.equal(mine, its) and mine.dtype == its.dtype and mine.shape == its.shape
    assert back["nouns"][0] == sample and isinstance(back["nouns"][1], Batch)
    assert back["nouns"][1].group.tolist() == [7]
    state.dump(float("nan"), tmp_path / "n.safetensors")
    assert str(state.load(tmp_path / "n.safetensors")) == "nan"
    with pytest.raises(TypeError, match="cannot be kept"):
        state.dump({"f": sys}, tmp_path / "x.safetensors")


def test_the_global_generators_go_on():
    """A user's reward may draw from them. Mutation caught: one of the three forgotten."""
    import numpy

    generators, draw = state.GlobalRandom(), lambda: (
        random.gauss(0, 1), random.random(), float(numpy.random.rand()), float(torch.rand(()))
    )  # fmt: skip
    random.gauss(0, 1)  # leaves the second of a pair behind
    kept = generators.state_dict()
    first = draw()
    generators.load_state_dict(kept)
    assert draw() == first


def test_a_state_of_other_parts_is_refused(unfinished, world, capsys):
    (unfinished / "state" / "000005").rename(unfinished / "state" / "x")
    saved = state.States(unfinished / "state").read(4)
    with pytest.raises(UserError, match="consists of learner, other"):
        saved.load({"learner": state.Holder(), "other": state.Holder()})


def test_the_save_is_rehearsed_when_a_run_goes_on(world, tmp_path, monkeypatch, capsys):
    """Libraries and disks change while a run rests; its states stay. Mutation caught: a rehearsal at step 0 alone."""
    out = tmp_path / "out"
    stopped("sft", world, out, 2)
    before = states(out)

    def broken(self, folder, **given):
        raise ValueError("a newer library")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", broken)
    assert run("sft", world, out) == 2
    assert "the model could not be saved: ValueError: a newer library" in capsys.readouterr().err
    assert before and states(out) == before
    monkeypatch.undo()
    assert run("sft", world, out) == 0
