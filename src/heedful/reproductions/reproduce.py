"""The command: each seed once, then the verdict, the picture and the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

from heedful.configs.reproduce import Config
from heedful.data.files import write_json
from heedful.disk import make_folder, write_text
from heedful.errors import Stopped, UserError
from heedful.reproductions import Reproduction, load, names, pages, results

STARTED_BY = "HEEDFUL_REPRODUCE"  # in the environment of a seed's process: who waits for it


def run(config: Config) -> int:
    """Prints a line for each reproduction; 1 where a criterion is not met, else 0."""
    if config.list or not config.name:
        for name in names():
            print(line(load(name), results.committed(name)))
        return 0
    chosen = [load(name) for name in (names() if config.name == "all" else [config.name])]
    out = config.out / "quick" if config.quick else config.out
    if config.only is not None:
        end_with(os.environ.pop(STARTED_BY, None))
        of_seed(chosen[0], config.only, out / chosen[0].name, config.quick)
        return 0
    failed = False
    for reproduction in chosen:
        result = reproduced(reproduction, out, config)
        print(line(reproduction, result))
        for criterion in result["criteria"]:
            print(f"  {pages.sentence(criterion)}")
        failed = failed or not all(c["pass"] for c in result["criteria"])
    print(pages.write(out, config.page or out / "index.md"))
    return int(failed and not config.quick)


def line(reproduction: Reproduction, result: dict[str, Any] | None) -> str:
    """Its name, verdict, date and command."""
    verdict, day = results.verdict_of(reproduction, result), result["date"] if result else "-"
    return f"{reproduction.name:<20} {verdict:<12} {day:<10}  {reproduction.command}"


def reproduced(reproduction: Reproduction, out: Path, config: Config) -> dict[str, Any]:
    """All seeds, those of an earlier call as they are, and what follows from them, in NAME.json and NAME.svg."""
    from heedful.recipes.demo import machine

    make_folder(out)
    count = 1 if config.quick else config.seeds or reproduction.seeds
    folder = out / reproduction.name
    if (jobs := min(count, config.jobs or cores())) > 1:
        side_by_side(reproduction, count, folder, jobs)
    seeds = [of_seed(reproduction, seed, folder, config.quick) for seed in range(count)]
    about = {"machine": machine(), "date": date.today().isoformat(), "quick": config.quick}
    result = results.result_of(reproduction, seeds, quick=config.quick, about=about)
    write_json(out / f"{reproduction.name}.json", result)
    if result["figure"]:
        write_text(
            out / f"{reproduction.name}.svg", pages.picture(reproduction.name, result["figure"])
        )
    return result


def side_by_side(reproduction: Reproduction, count: int, folder: Path, jobs: int) -> None:
    """The seeds that are missing, so many at a time, each by `--only` in a process of its own.

    A small model keeps one core busy, whatever it is given: as many seeds as cores take a share of the time.
    """
    from heedful.run.stop import StopSignals

    waiting = [seed for seed in range(count) if kept(reproduction, seed, folder, False) is None]
    words = ["reproduce", reproduction.name, "--out", str(folder.parent), "--only"]
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
    settings = threads | os.environ | {STARTED_BY: str(os.getpid())}
    running: list[subprocess.Popen[bytes]] = []
    failed = False
    try:
        with StopSignals() as asked:
            while asked.received is None and (running or (waiting and not failed)):
                while waiting and not failed and len(running) < jobs:
                    command = [sys.executable, "-m", "heedful", *words, str(waiting.pop(0))]
                    # In a session of its own, so that it hears of Ctrl-C once, from here.
                    running.append(subprocess.Popen(command, env=settings, start_new_session=True))
                time.sleep(0.1)
                failed = failed or any(process.poll() for process in running)
                running = [process for process in running if process.poll() is None]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    if asked.received is not None:
        raise Stopped("stopped; seeds that are done are kept", asked.received)
    if failed:
        raise UserError(f"a seed of {reproduction.name} failed; those that are done are kept")


def end_with(parent: str | None) -> None:
    """SIGTERM to this process as soon as the one that started it is no more, which may have been killed."""

    def watch() -> None:
        while str(os.getppid()) == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kept(reproduction: Reproduction, seed: int, folder: Path, quick: bool) -> dict[str, Any] | None:
    """The result of a seed of an earlier call, where nothing has changed since."""
    file, made_by = folder / f"{seed}.json", results.fingerprint(reproduction, quick)
    before = results.read(file) if file.exists() else {}
    return before["result"] if before.get("made_by") == made_by else None


def of_seed(reproduction: Reproduction, seed: int, folder: Path, quick: bool) -> dict[str, Any]:
    """The result of a seed: of an earlier call, or made now."""
    if (before := kept(reproduction, seed, folder, quick)) is not None:
        return before
    made_by = results.fingerprint(reproduction, quick)
    work = folder / str(seed)
    if (note := folder / f"{seed}.made_by").exists() and note.read_text(
        encoding="utf-8"
    ) != made_by:
        shutil.rmtree(work, ignore_errors=True)  # what another version left would be gone on from
    make_folder(work)
    write_text(note, made_by)
    print(f"reproduce: {reproduction.name}, seed {seed}", file=sys.stderr, flush=True)
    clock, worked = time.monotonic(), processor()
    found = json.loads(json.dumps(reproduction.run(seed, work, quick)))
    took = {"seconds": time.monotonic() - clock, "processor_seconds": processor() - worked}
    result = {"seed": seed, **found, **{name: round(value, 1) for name, value in took.items()}}
    write_json(folder / f"{seed}.json", {"made_by": made_by, "result": result})
    return result


def processor() -> float:
    """Seconds that this process and those that it has waited for have computed."""
    return sum(os.times()[:4])
