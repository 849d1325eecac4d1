"""The disk fails, or the power does, at operations all over a run. docs/results/faults.py does it at every one."""

from __future__ import annotations

import errno
import functools
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

import disk_trials
import faulty_disk
from heedful import disk
from heedful.errors import UserError
from heedful.recipes import demo
from heedful.remote.journal import Journal
from heedful.yaml_file import read_yaml

pytestmark = pytest.mark.skipif(
    faulty_disk.library() is None, reason="no C compiler for the failing disk, or no Linux"
)
CHEAP = ("sft",)
# What they write sft, dpo, rloo and small write with the same code; -m exhaustive has them, too.
ALIKE = ("pretrain", "kto", "bco", "ppo", "online_dpo", "segments")
SAMPLED = [
    pytest.param(
        name,
        marks=[]
        if name in CHEAP
        else pytest.mark.exhaustive
        if name in ALIKE
        else pytest.mark.long,
    )
    for name in disk_trials.JOBS
]


@pytest.fixture(scope="module")
def peace(tmp_path_factory) -> Callable[[str], disk_trials.Peace]:
    """A job in peace, run once."""
    world = disk_trials.make_world(tmp_path_factory.mktemp("world"))
    place = tmp_path_factory.mktemp("peace")
    return functools.cache(
        lambda name: disk_trials.in_peace(
            disk_trials.JOBS[name], world, place / name.replace(" ", "-")
        )
    )


@pytest.mark.parametrize("name", SAMPLED)
def test_a_command_meets_a_few_faults(name, peace, tmp_path):
    """One after the other in one folder, early ones and late ones; then it ends in the same bits.

    Mutation caught: a name or bytes that are not synced before something depends on them; an error of the disk that
    is a traceback, or that leaves half a file under its name.
    """
    job, chance = peace(name), random.Random(f"{name}/faults")
    total = len(job.operations)
    kinds = chance.sample(faulty_disk.FAULTS, 4)
    chosen = [(kind, chance.randint(1, total * 2 // 3)) for kind in kinds]
    assert disk_trials.endure(job, tmp_path, chosen).wrong == ""


def test_the_store_keeps_what_it_acknowledged(tmp_path):
    """Mutation caught: a receipt before the commit, a commit that is not synced."""
    disk_trials.make_workspace(tmp_path / "before")
    chance = random.Random("store/faults")
    kinds = ("kill", "power", "power, names kept", "ENOSPC", "EIO")
    chosen = [(kind, chance.randint(3, 40)) for kind in kinds]
    assert disk_trials.answer_on(tmp_path / "before", tmp_path, chosen).wrong == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", faulty_disk.FAULTS)
@pytest.mark.parametrize("name", disk_trials.JOBS)
def test_every_operation_of_every_command(name, kind, peace, tmp_path):
    job = peace(name)
    wrong = [
        told
        for at in range(1, len(job.operations) + 1)
        if (told := disk_trials.endure(job, tmp_path / str(at), [(kind, at)]).wrong)
    ]
    assert wrong == []


def test_a_power_cut_takes_what_was_not_synced(tmp_path):
    """By a recording of one's own: bytes without fsync, names in folders that were not synced.

    Mutation caught: a checker that is too kind to find anything.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "old").write_text("old")

    def kept(names_kept: bool) -> dict:
        place = faulty_disk.Disk(folder)
        node = faulty_disk.File(bytearray(b"new"), b"n")
        place._put(str(folder / "fresh"), node)
        place._put(str(folder / "old"), faulty_disk.File(bytearray(b"newer"), b""))
        place.lose_power(names_kept=names_kept)
        return {p.name: p.read_text() for p in folder.iterdir()}

    assert kept(False) == {"old": "old"}
    assert kept(True) == {"old": "", "fresh": "n"}


# ── the sentences ────────────────────────────────────────────────────────────────────────────────


def behind(cause: BaseException) -> Exception:
    error = RuntimeError("told by another library")
    error.__cause__ = cause
    return error


def while_handling(error: Exception, cause: BaseException) -> Exception:
    """Raised, without `from`, by whoever handles the disk's."""
    error.__context__ = cause
    return error


def of_sqlite(code: int) -> Exception:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = code
    return OperationalError("INSERT", {}, error)


@pytest.mark.parametrize(("error", "words"), [
    (OSError(errno.EDQUOT, "x", "a/b"), "cannot read or write a/b: disk quota exceeded; what was saved"),
    (behind(OSError(errno.EROFS, "x")), "cannot read or write runs/a: read-only file system;"),
    (Exception("I/O error: No space left on device (os error 28)"), "runs/a: no space left on device;"),
    (RuntimeError("writing failed: Input/output error"), "runs/a: input/output error;"),
    (of_sqlite(sqlite3.SQLITE_FULL), "the database: database or disk is full;"),
    (while_handling(RuntimeError("no"), OSError(errno.EIO, "x")), "runs/a: input/output error;"),
    (while_handling(ValueError("write to closed file"), OSError(errno.EIO, "x")), "runs/a: input/output error;"),
    (ExceptionGroup("tasks", [ValueError(), OSError(errno.EIO, "x")]), "runs/a: input/output error;"),
])  # fmt: skip
def test_what_a_disk_refuses_is_a_sentence(error, words):
    """Whoever wraps it. Mutation caught: only OSError known, the file's name lost."""
    if isinstance(error, OperationalError):
        error.__cause__ = error.orig
    assert words in (disk.sentence(error, "runs/a") or "")


@pytest.mark.parametrize("error", [
    ValueError("x"), OSError(errno.ECONNREFUSED, "x"), FileNotFoundError(errno.ENOENT, "x"),
    of_sqlite(sqlite3.SQLITE_CONSTRAINT),
    while_handling(KeyError("step"), OSError(errno.ENOSPC, "x")),
    while_handling(ValueError("x"), OSError(errno.ENOSPC, "x")),
])  # fmt: skip
def test_a_bug_stays_a_bug(error):
    """Mutation caught: every error of ours told as one of the disk's, or what was raised while one was handled."""
    assert disk.sentence(error) is None


def test_an_error_within_a_write_is_told_with_its_place(tmp_path: Path):
    told = f"cannot save {tmp_path}/a: file too large"
    with pytest.raises(UserError, match=told), disk.whole(tmp_path / "a"):
        raise OSError(errno.EFBIG, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_seal_shows_damage(tmp_path: Path):
    """Cut off, zeroed, turned: mutation caught: a cache's file that is taken as it is."""
    path = tmp_path / "a"
    disk.seal(path, b"content" * 9)
    assert disk.unsealed(path) == b"content" * 9
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:9], bytes(len(whole)), b"C" + whole[1:]):
        path.write_bytes(damaged)
        assert disk.unsealed(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and disk.unsealed(tmp_path / "b") is None


@pytest.mark.parametrize("damage", [
    lambda line: line[: len(line) // 2], lambda line: bytes(len(line)), lambda line: line.replace(b"yes", b"no!"),
    lambda line: b"\xff" + line, lambda line: b"[1]\n", lambda line: b"",
])  # fmt: skip
def test_a_damaged_answer_is_asked_again_and_alone(damage, tmp_path: Path):
    """Mutation caught: an answer that nobody gave, a line that takes the next one with it, a traceback."""
    cache = tmp_path / "answers.jsonl"
    first = Journal(cache)
    first.write("a", {"text": "yes"})
    first.write("b", ["yes"])
    one, two, _ = cache.read_bytes().split(b"\n")
    assert Journal(cache).read() == {"a": {"text": "yes"}, "b": ["yes"]}
    cache.write_bytes(one + b"\n" + damage(two + b"\n"))
    assert Journal(cache).read() == {"a": {"text": "yes"}}
    Journal(cache).write("c", None)
    assert Journal(cache).read() == {"a": {"text": "yes"}, "c": None}


def test_a_demo_that_was_killed_at_once_goes_on(tmp_path: Path, monkeypatch):
    """Mutation caught: a folder of the demo's that is taken for somebody's; somebody's that is taken for the demo's."""
    out, asked = tmp_path / "demo", demo.Config(out=tmp_path / "demo", quiet=True)

    def killed(config):
        config.out.mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.world, "run", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            demo.run(asked)
    (out / "demo.json").rename(out / ".demo.json.partial")
    (out / "data").rmdir()
    with pytest.raises(KeyboardInterrupt):
        demo.run(asked)
    (out / "demo.json").unlink()
    with pytest.raises(UserError, match="holds no demo"):
        demo.run(asked)
    assert (out / "data").is_dir()


# ── files of settings ────────────────────────────────────────────────────────────────────────────

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [
    (BOMB, "stands for more than 50,000 values, aliases counted"),
    ("a: &a [*a]", "stands for more than 50,000 values"),
    ("a: &a {b: *a}\n<<: *a", "stands for more than 50,000 values"),
    ("[" * 5000, "nested too deeply"),
    ("a: " + "x" * (1 << 20), "larger than 1 MiB"),
    ("a: 1\na: 2", "the key 'a' is there twice"),
    ("a: 2026-13-40", "not YAML"),
    ("? [a]\n: b", "not YAML"),
    ("a: \xff", "not YAML"),
])  # fmt: skip
def test_a_file_of_settings_is_read_or_refused(text, words, tmp_path: Path):
    """Mutation caught: memory without end, a traceback; and an honest alias refused."""
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=f"^here: .*{words}"):
        read_yaml(path, "here")
    path.write_text("a: &a [1, 2]\nb: *a\nc: {<<: {d: 3}, e: 4}")
    assert read_yaml(path, "here") == {"a": [1, 2], "b": [1, 2], "c": {"d": 3, "e": 4}}


def test_what_was_tried_outlives_a_stop_and_a_command_that_never_ends(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Of the command that makes the published figures. Mutations caught: a trial that is lost ends all; one that was
    made is made again after a stop, or left out; who lost some ends well."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "results"))
    import faults

    operations, tries, stops = [f"write {i}" for i in range(5)], [], [3, 6]

    def trial(some, folder: Path) -> disk_trials.Outcome:
        if len(tries) + 1 in stops:
            stops.pop(0)
            raise KeyboardInterrupt
        tries.append((folder.exists(), *some))
        if len(tries) == 4:
            raise TimeoutError("still running after 600 s")
        return disk_trials.Outcome("", tuple(kind for kind, _ in some))

    def prepared(name: str, _world: Path, place: Path):
        place.mkdir()
        if name == "b":
            raise TimeoutError("not even in peace")
        return trial, operations

    monkeypatch.setattr(faults, "prepared", prepared)
    monkeypatch.setattr(disk_trials, "make_world", lambda folder: folder)
    out = tmp_path / "faults.json"
    monkeypatch.setattr("sys.argv", ["faults.py", "a", "b", "--minutes", "0", "--out", str(out)])
    for tried in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            faults.main()
        assert json.loads(out.read_text())["unfinished"]["tried"] == {"a": tried * faults.TOGETHER}
    with pytest.raises(SystemExit) as end:
        faults.main()
    assert end.value.code == 1
    results = json.loads(out.read_text())
    assert results == json.loads(capsys.readouterr().out)
    met = [fault for _, *some in tries for fault in some]
    assert met == list(faults.order(operations, 0)) and len(met) == 5 * len(faulty_disk.FAULTS)
    assert results["jobs"]["a"]["faults_met"] == len(met) - faults.TOGETHER
    assert [len(lost) for lost in results["lost"].values()] == [1, 1]
    assert "still running" in results["lost"]["a"][0] and "unfinished" not in results
