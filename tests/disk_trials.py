"""Whole commands and the store on a disk that fails: what is run, where it fails, and what must hold afterwards.

Used by tests/test_faults.py in small and by docs/results/faults.py in full. Whatever happens at whichever operation: a
command that could not go on says so in one sentence, and the same command then ends as if nothing had happened.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from sqlalchemy import func, select

import faulty_disk
import interruptions as jobs
import workspace
from faulty_disk import Disk, Fault
from heedful.data.files import write_rows
from heedful.disk import PARTIAL
from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import Unavailable, new_id, open_store
from heedful.store.project import projects
from heedful.store.tables import schema

# What is said where there is nothing left to do.
FINISHED = ("already holds a finished model", "a backup is restored into a folder of its own")
Words = Callable[[Path, Path], Sequence[object]]  # of the world and the folder that is watched


@dataclass(frozen=True)
class Job:
    """A command, and how its outcome in a folder differs from that of a run in peace: empty if it does not."""

    words: Words
    differs: Callable[[Path, Path], str]
    before: Sequence[Words] = ()
    """Commands whose outcome is there when it begins."""


def make_world(folder: Path) -> Path:
    """Everything that the jobs read."""
    w = jobs.make_world(folder)
    asked = [f"What is {i} + {i % 7}?" for i in range(6)]
    rows = (
        {"prompt": q, "completion": f" {'I guess ' * k}{i}."}
        for i, q in enumerate(asked)
        for k in (0, 1)
    )
    write_rows(w / "samples.jsonl", rows)
    write_rows(w / "held_out.jsonl", ({"prompt": f"{i}!"} for i in range(2)))
    return w


def training(job: str) -> Job:
    """One of `interruptions.JOBS`, which keeps a state at every third step and, if it has any, a checkpoint at every
    fifth."""
    checkpoints = () if job == "segments" else ("--save-every", 5)
    more = ("--state-every", 3, *checkpoints, "--report-to", "tensorboard")
    return Job(
        lambda w, f: jobs.command(job, w, f / "out", *more),
        lambda f, reference: jobs.alike(f / "out", reference / "out"),
    )


def files(words: Words, *names: str, before: Sequence[Words] = ()) -> Job:
    """A command that leaves these files."""

    def differs(f: Path, reference: Path) -> str:
        other = [n for n in names if (f / n).read_bytes() != (reference / n).read_bytes()]
        return f"other {', '.join(other)}" if other else ""

    return Job(words, differs, before)


SHORT = ("--max-tokens", 6, "--quiet")
INIT: Words = lambda w, f: ["init", f / "work"]  # noqa: E731
IMPORT: Words = lambda w, f: [  # noqa: E731
    "import", "comparisons", w / "pairs.jsonl", "--workspace", f / "work", "--project", "p", "--quiet",
]  # fmt: skip


BACKUP: Words = lambda w, f: ["backup", f / "work", f / "b.zip"]  # noqa: E731


def compared(w: Path, f: Path) -> list[object]:
    small = {"batch_size": 4, "held_out": 0.2, "learning_rate": 1e-3}
    plan = {
        "out": str(f / "out"), "model": str(w / "model"), "reward": str(w / "reward"),
        "data": str(w / "prompts.jsonl"), "comparisons": str(w / "pairs.jsonl"), "seeds": [0],
        "checkpoints": 1, "methods": {"dpo": small, "best_of_2": None},
        "evaluate": {"data": str(w / "prompts.jsonl"), "max_tokens": 6},
    }  # fmt: skip
    path = f.with_name(f"{f.name}.plan.yaml")
    path.write_text(yaml.safe_dump(plan))
    return ["compare", path, "--quiet"]


def iterated(w: Path, f: Path) -> list[object]:
    return [
        "iterate", "--model", w / "model", "--prompts", w / "prompts.jsonl", "--out", f / "out",
        "--workspace", f / "work", "--rounds", 1, "--prompts-per-round", 5, "--raters", "tiny:likes_short",
        "--held-out", w / "held_out.jsonl", *SHORT,
    ]  # fmt: skip


def same_rounds(f: Path, reference: Path) -> str:
    """Each question answered once, and the same policy: ids and times of the database are of this run."""
    one, other = (f / "out" / "round-1", reference / "out" / "round-1")
    if jobs.weights(one / "policy") != jobs.weights(other / "policy"):
        return "another policy"
    ours, theirs = (judgments(x / "work") for x in (f, reference))
    return unsound(f / "work") or (f"{ours} judgments" if ours != theirs else "")


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


def same_judgments(f: Path, reference: Path) -> str:
    """As many as in the file, each once."""
    ours, theirs = (judgments(x / "work") for x in (f, reference))
    return unsound(f / "work") or (f"{ours} judgments" if ours != theirs else "")


JOBS: dict[str, Job] = {name: training(name) for name in jobs.JOBS if name != "sft, capped"} | {
    "sample": files(
        lambda w, f: ["sample", "--model", w / "model", "--data", w / "prompts.jsonl", "--n", 2, "--out",
                      f / "s.jsonl", *SHORT], "s.jsonl"),
    "score": files(
        lambda w, f: ["score", "--reward", w / "reward", "--data", w / "samples.jsonl", "--out", f / "s.jsonl.gz"],
        "s.jsonl.gz"),
    "judge": files(
        lambda w, f: ["judge", "--data", w / "samples.jsonl", "--judge", "tiny:likes_short", "--out", f / "c.jsonl"],
        "c.jsonl"),
    "evaluate": files(
        lambda w, f: ["evaluate", "--model", w / "model", "--data", w / "prompts.jsonl", "--reward", w / "reward",
                      "--out", f / "eval", *SHORT], "eval/samples.jsonl", "eval/evaluation.json"),
    "world": files(
        lambda w, f: ["world", "capitals", "--out", f / "data", "--documents", 20, "--demonstrations", 10],
        *(f"data/{n}.jsonl" for n in ("text", "demonstrations", "prompts", "held_out"))),
    "merge": Job(
        lambda w, f: ["merge", f / "run", "--out", f / "whole"],
        lambda f, r: "" if jobs.weights(f / "whole") == jobs.weights(r / "whole") else "another model",
        before=[lambda w, f: jobs.command("sft", w, f / "run", "--steps", 3, "--lora.rank", 2)]),
    "report": Job(
        lambda w, f: ["report", f / "run", "--out", f / "page.html"],
        lambda f, r: "" if (f / "page.html").read_text().rstrip().endswith("</html>") else "half a page",
        before=[lambda w, f: jobs.command("sft", w, f / "run", "--steps", 3)]),
    "init": Job(INIT, lambda f, r: unsound(f / "work")),
    "import": Job(IMPORT, same_judgments, before=[INIT]),
    "export": Job(
        lambda w, f: ["export", "comparisons", f / "c.csv", "--workspace", f / "work", "--project", "p"],
        lambda f, r: "" if lines(f / "c.csv") == lines(r / "c.csv") else "other rows",
        before=[INIT, IMPORT]),
    "backup": Job(
        BACKUP, lambda f, r: unsound(f / "work") or "no backup" * (not (f / "b.zip").exists()),
        before=[INIT, IMPORT]),
    "restore": Job(
        lambda w, f: ["restore", f / "b.zip", f / "again"],
        lambda f, r: unsound(f / "again") or ("" if judgments(f / "again") == judgments(f / "work") else "others"),
        before=[INIT, IMPORT, BACKUP]),
    "compare": Job(
        compared,
        lambda f, r: "" if jobs.weights(f / "out/runs/dpo-seed0") == jobs.weights(r / "out/runs/dpo-seed0")
        and (f / "out/table.md").exists() else "another comparison"),
    "iterate": Job(iterated, same_rounds, before=[INIT]),
}  # fmt: skip


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Peace:
    """A job that nothing happened to: its outcome, how many operations it took, and what was there before."""

    job: Job
    world: Path
    before: Path
    folder: Path
    operations: list[str]


def in_peace(job: Job, world: Path, place: Path) -> Peace:
    """Run it; the recording must explain all that is there then, or the shim has not seen everything."""
    before, folder = place / "before", place / "peace"
    before.mkdir(parents=True)
    for words in job.before:
        assert run(words, world, Fault(before)) == 0, told(before)
    shutil.copytree(before, folder)
    disk = Disk(folder)
    assert run(job.words, world, Fault(folder)) == 0, told(folder)
    disk.play(Fault(folder).recording)
    seen, there = (
        {k: v for k, v in t.items() if not k.endswith("-shm")}
        for t in (disk.tree(), faulty_disk.tree(folder))
    )
    assert seen == there, {k for k in seen.keys() | there.keys() if seen.get(k) != there.get(k)}
    return Peace(job, world, before, folder, disk.operations)


@dataclass(frozen=True)
class Outcome:
    """What was wrong, or nothing, and which faults were met: a command that goes on may be over before the next one."""

    wrong: str
    met: tuple[str, ...]


def endure(peace: Peace, place: Path, faults: Sequence[tuple[str, int]]) -> Outcome:
    """A job that meets the faults one after the other, and then goes on in peace."""
    folder, met, trail = place / "disk", [], ""
    shutil.copytree(peace.before, folder)
    for kind, at in faults:
        disk, said, fault = Disk(folder), len(told(folder)), Fault(folder, kind, at)
        code = run(peace.job.words, peace.world, fault)
        words = told(folder)[said:]
        number = sum(1 for _ in faulty_disk.records(fault.recording))
        trail += f"{kind} at {at}: exit code {code} after {number} operations\n"
        over = code == 0 or any(done in words for done in FINISHED)
        if number >= at - 1:
            met.append(kind)
        fits = code in (-signal.SIGKILL, 0) if fault.dies else code in (0, 2)
        if not (fits or over) or "Traceback" in words or words.count("heedful: ") != (code == 2):
            return Outcome(f"{trail}{words}", tuple(met))
        if kind.startswith("power"):
            disk.play(fault.recording)
            disk.lose_power(names_kept=kind == "power, names kept")
        elif over:
            break
    wrong = end(peace, folder)
    return Outcome(f"{trail}{wrong}" if wrong else "", tuple(met))


def end(peace: Peace, folder: Path) -> str:
    """The same command once more."""
    said = len(told(folder))
    code = run(peace.job.words, peace.world, Fault(folder))
    words = told(folder)[said:]
    if code and not (code == 2 and any(done in words for done in FINISHED)):
        return f"could not go on, exit code {code}: {words}"
    if left := [str(p.relative_to(folder)) for p in folder.rglob(f".*{PARTIAL}")]:
        return f"left behind: {left}"
    return peace.job.differs(folder, peace.folder)


def run(words: Words, world: Path, fault: Fault) -> int:
    return jobs.call([str(w) for w in words(world, fault.folder)], fault=fault)


def told(folder: Path) -> str:
    """All that the commands in it have said."""
    path = Path(f"{folder}.said")
    return path.read_text() if path.exists() else ""


# ── the store ────────────────────────────────────────────────────────────────────────────────────

QUESTIONS = 8


def make_workspace(folder: Path) -> None:
    """Questions for one rater."""
    folder.mkdir(parents=True)
    store = open_store(f"sqlite:///{folder}/heedful.db")
    project = workspace.make_project(store)
    workspace.make_tasks(store, project, QUESTIONS)
    workspace.make_rater(store)
    store.close()


def answering(folder: Path, receipts: Path, fault: Fault) -> None:
    """A process in which a rater answers all that is left; each receipt is written down before the next question.

    Exit code 3: the store said that it cannot now.
    """
    jobs.tell(Path(f"{folder}.said"))
    faulty_disk.arm(fault)
    try:
        store = open_store(f"sqlite:///{folder}/heedful.db")
        with store.read() as connection:
            project = projects.by_name(connection, "capitals").id  # type: ignore[union-attr]
            rater = connection.execute(select(schema.rater.c.id)).scalar_one()
        while (question := workspace.claim(store, project, rater)) is not None:
            key = new_id()
            workspace.answer(store, question, rater, key=key)
            with open(receipts, "a") as file:
                file.write(f"{key}\n")
        store.close()
    except (Unavailable, UserError) as error:
        print(f"heedful: {error}", file=sys.stderr)
        os._exit(3)
    os._exit(0)


def answer_on(before: Path, place: Path, faults: Sequence[tuple[str, int]]) -> Outcome:
    """The rater's process meets the faults one after the other, then ends in peace."""
    folder, receipts, met, trail = place / "disk", place / "receipts", [], ""
    shutil.copytree(before, folder)
    for kind, at in (*faults, ("kill", 0)):
        fault, disk = Fault(folder, kind, at), Disk(folder)
        process = jobs.CONTEXT.Process(target=answering, args=(folder, receipts, fault))
        jobs.launch(process)
        code = jobs.finish(process)
        trail += f"{kind} at {at}: exit code {code}\n"
        if at and code:
            met.append(kind)
        if code not in ((0,) if not at else (0, -signal.SIGKILL) if fault.dies else (0, 3)):
            return Outcome(trail + told(folder), tuple(met))
        if kind.startswith("power"):
            disk.play(fault.recording)
            disk.lose_power(names_kept=kind == "power, names kept")
        if wrong := unsound(folder) or lost(folder, receipts):
            return Outcome(trail + wrong, tuple(met))
    number = judgments(folder)
    wrong = "" if number == QUESTIONS else f"{trail}{number} judgments of {QUESTIONS} questions"
    return Outcome(wrong, tuple(met))


def lost(folder: Path, receipts: Path) -> str:
    """Whether a judgment is missing that was acknowledged."""
    known = set(receipts.read_text().split()) if receipts.exists() else set()
    store = open_store(f"sqlite:///{folder}/heedful.db")
    with store.read() as connection:
        stored = set(connection.execute(select(schema.judgment.c.idempotency_key)).scalars())
    store.close()
    return f"{len(known - stored)} acknowledged judgments are gone" if known - stored else ""


def unsound(folder: Path) -> str:
    """What is wrong with a workspace's database."""
    store = open_store(f"sqlite:///{folder}/heedful.db")
    try:
        with store.read() as connection:
            whole = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            broken = audit.broken_at(connection)
    finally:
        store.close()
    return "" if (whole, orphans, broken) == ("ok", [], None) else f"{whole} {orphans} {broken}"


def judgments(folder: Path) -> int:
    store = open_store(f"sqlite:///{folder}/heedful.db")
    with store.read() as connection:
        number = connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()
    store.close()
    return number
