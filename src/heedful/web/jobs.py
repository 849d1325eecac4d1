"""Training that a lead starts from the web: jobs, each a process of its own with a folder in the workspace.

A job is `python -m heedful COMMAND config.yaml` under a small parent (`web.job_parent`) that outlives the server. Both
hold a lock on the job's folder, so whether it runs is what the system says, after a restart too; how it ended the
parent writes down. A job that was killed with its parent says nothing, and is told as ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedful.errors import UserError
from heedful.store.database.db import new_id
from heedful.store.database.privacy import make_private, private_files

FOLDER = "jobs"
ABOUT, CONFIG, LOG, LOCK, ENDED = "job.json", "config.yaml", "log.txt", "lock", "ended.json"
MOST_LOG = 200_000  # bytes of a log in one answer
AT_ONCE = 1  # jobs: a second one would halve the machine of the first


@dataclass(frozen=True)
class Job:
    """What was started: `out` is the folder of its run, below the workspace."""

    id: str
    command: str
    name: str
    out: str
    project: str | None
    actor: str
    started_at: float


def start(
    workspace: Path,
    command: str,
    config: dict[str, Any],
    *,
    name: str,
    out: str,
    project: str | None = None,
    actor: str,
) -> Job:
    """Begin `heedful COMMAND`; UserError where another job runs."""
    import yaml

    job = Job(new_id(), command, name, out, project, actor, time.time())
    with private_files(), _starting(workspace):
        running = [one for one in listed(workspace) if state(workspace, one)["state"] == "running"]
        if len(running) >= AT_ONCE:
            raise UserError(
                f"'{running[0].name}' is running, and there is one job at a time; wait for it, or stop it"
            )
        folder = workspace / FOLDER / job.id
        folder.mkdir(parents=True)
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (folder / CONFIG).write_text(text, encoding="utf-8")
        (folder / ABOUT).write_text(json.dumps(asdict(job)), encoding="utf-8")
        make_private(folder / LOG)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with open(folder / LOG, "ab") as log:
                process = subprocess.Popen(
                    (sys.executable, "-m", "heedful.web.job_parent", str(folder.resolve())),
                    cwd=workspace,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,  # neither the server's end nor its terminal's ends it
                    env=os.environ | {"HEEDFUL_JOB_LOCK": str(lock), "PYTHONUNBUFFERED": "1"},
                )
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(process.pid).encode(), 0)
        finally:
            os.close(lock)  # the job holds its own
    return job


def listed(workspace: Path) -> list[Job]:
    """All jobs, the newest first."""
    return sorted(_all(workspace), key=lambda job: job.id, reverse=True)


def find(workspace: Path, key: str) -> Job:
    for job in _all(workspace):
        if job.id == key:
            return job
    raise UserError("there is no such job")


def state(workspace: Path, job: Job) -> dict[str, Any]:
    """{state, code, ended_at}: running; finished, failed or stopped by its exit code; ended, where nobody wrote how."""
    folder = workspace / FOLDER / job.id
    if held(folder / LOCK):
        return {"state": "running", "code": None, "ended_at": None}
    try:
        told = json.loads((folder / ENDED).read_text(encoding="utf-8"))
        code, at = int(told["code"]), float(told["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return {"state": "ended", "code": None, "ended_at": None}
    name = "finished" if code == 0 else "stopped" if code < 0 or code >= 128 else "failed"
    return {"state": name, "code": code, "ended_at": at}


def log(workspace: Path, job: Job, after: int = 0) -> dict[str, Any]:
    """{text, next}: what has been written since the byte `after`; of a long log, its end."""
    path = workspace / FOLDER / job.id / LOG
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = max(min(after, size), size - MOST_LOG)
            file.seek(begin)
            chunk = file.read(MOST_LOG)
    except FileNotFoundError:
        return {"text": "", "next": 0}
    # Half a character at the end comes with the next piece.
    whole = chunk.decode("utf-8", "ignore").encode()
    taken = len(chunk) if len(chunk) - len(whole) > 3 else len(whole)
    return {"text": chunk[:taken].decode("utf-8", "replace"), "next": begin + taken}


def stop(workspace: Path, job: Job, *, force: bool = False) -> bool:
    """Ask it to stop: it saves its state and ends, and the same command goes on from there. `force`: at once.

    Whether it was running.
    """
    folder = workspace / FOLDER / job.id
    if not held(folder / LOCK):
        return False
    try:
        group = int((folder / LOCK).read_text(encoding="ascii"))
        os.killpg(group, signal.SIGKILL if force else signal.SIGTERM)
    except (OSError, ValueError):
        return False
    return True


def config_of(workspace: Path, job: Job) -> str:
    return (workspace / FOLDER / job.id / CONFIG).read_text(encoding="utf-8")


def _all(workspace: Path) -> Iterator[Job]:
    folder = workspace / FOLDER
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        try:
            yield Job(**json.loads((path / ABOUT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue


def held(lock: Path) -> bool:
    """Whether a process holds a lock; its id alone could be another process's by now."""
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def _starting(workspace: Path) -> Iterator[None]:
    """One start at a time, of several servers too."""
    folder = workspace / FOLDER
    folder.mkdir(exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
