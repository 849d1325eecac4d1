"""`python -m benchmarks.run TASK`: heedful beside TRL on the same inputs, process by process in turn.

Prints one JSON line for each process and, where both ran, one with the ratio of their seconds (TRL's by heedful's:
above 1, heedful is the faster) over pairs of neighbouring processes. A repeat is a process; within it the seconds of
a step go from the end of one step to the end of the next (data, logging and all), the first step, which warms up,
left out; what was computed once for all steps, such as a reference's log-probs, is shared among them. The wall
seconds are of the whole process, from before the first heavy import. `others` is the share of the machine's processors
that other programs had meanwhile; who had much is told, since numbers of such a process say little. Exits with 1 when
the two did not do the same work.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))  # this checkout's heedful, whichever is installed

from benchmarks import checks, process, startup, tools  # noqa: E402
from benchmarks.inputs import SEED, SIZES, build  # noqa: E402
from benchmarks.job import BLOCKS, SAMPLING, TASKS, TRAINING, Job, add_line, lines_file, positive  # noqa: E402

Result = dict[str, Any]
DISTURBED = 0.05  # the share of the processors that others may have had before it is said


def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    impls = ["heedful", "trl"] if args.impl == "both" else [args.impl]
    tasks = TASKS if args.task == "all" else [args.task]
    theirs = {task: interpreter(task, args) for task in tasks}
    if "trl" in impls and (gone := [p for p in theirs.values() if not p.exists()]):
        sys.exit(f"there is no {gone[0]}: `make bench` makes it, from benchmarks/requirements-*")
    wrong: list[str] = []
    with process.neighbours(args.busy):
        for task in tasks:
            python = {"heedful": sys.executable, "trl": str(theirs[task])}
            wrong += measure(task, impls, python, args)
    for sentence in wrong:
        print(f"FAILED {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def measure(task: str, impls: list[str], python: dict[str, str], args) -> list[str]:
    """Every process of a task, its lines, and what is wrong with them."""
    results: dict[str, list[Result]] = {impl: [] for impl in impls}
    wrong: list[str] = []
    for _ in range(args.repeats):
        for impl in impls:
            if task == "startup":
                found = startup.measure(impl, python[impl], args.threads)
            else:
                found = process.run(impl, python[impl], job(task, args))
            results[impl].append(found)
            if not args.busy and (taken := found.get("others") or 0.0) > DISTURBED:
                print(f"other programs took {taken:.0%} of the processors", file=sys.stderr)
            tell({**about(task, impl, args), **summary(task, args.size, found)}, args.out)
    if task != "startup":
        wrong += [
            w for impl in impls for r in results[impl] for w in checks.alone(job(task, args), r)
        ]
        if len(impls) == 2:
            pairs = zip(*results.values(), strict=True)
            wrong += [w for a, b in pairs for w in checks.together(job(task, args), a, b)]
    if len(impls) == 2:
        line: Result = {}
        for name, of in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
            ratios = [
                paired(a[of], b[of]) for a, b in zip(*results.values(), strict=True) if a.get(of)
            ]
            if ratios:
                line[name] = {"min": min(ratios), "median": median(ratios), "max": max(ratios)}
        if task == "startup":
            line["commands"] = {
                name: median(
                    b["seconds"][i] / a["seconds"][i]
                    for a, b in zip(*results.values(), strict=True)
                )
                for i, name in enumerate(startup.NAMES)
            }
        tell({**about(task, "trl/heedful", args), **line, "same_work": not wrong}, args.out)
    return [f"{task}: {w}" for w in dict.fromkeys(wrong)]


def paired(ours: list[float], theirs: list[float]) -> float:
    """The median over steps, which hold the same examples on both sides, of their seconds by ours."""
    return median(b / a for a, b in zip(ours, theirs, strict=True))


def job(task: str, args) -> Job:
    folder = build(args.size, args.cache)
    if task == tools.NAME:
        tools.build(folder, SIZES[args.size], SEED)
    return Job(
        task=task,
        size=args.size,
        folder=str(folder),
        dtype=args.dtype,
        flags=args.flags,
        threads=args.threads,
        seed=SEED,
        breakdown=args.breakdown,
    )


def about(task: str, impl: str, args) -> Result:
    said = {"task": task, "impl": impl, "size": args.size, "flags": args.flags, "dtype": args.dtype}
    return {**said, "threads": args.threads, "busy": args.busy, "cpu": cpu_model()}


def summary(task: str, size_name: str, found: Result) -> Result:
    """What a line says of a process. Tokens a second: real ones of training, sampled ones where something samples."""
    seconds, size = found["seconds"], SIZES[size_name]
    line: Result = {
        "seconds": {"median": median(seconds), "min": min(seconds), "max": max(seconds)},
        "steps": len(seconds),
        "others": found.get("others"),
    }
    if found.get("cpu_seconds"):
        line["cpu_seconds"] = {"median": median(found["cpu_seconds"])}
    if task in TRAINING:
        line["tokens_per_second"] = sum(found["tokens"][1:]) / sum(seconds)
        line["examples_per_second"] = size.batch * len(seconds) / sum(seconds)
    elif task != "startup":
        steps = size.rounds if task in (*SAMPLING, tools.NAME) else BLOCKS
        line["tokens_per_second"] = found["sampled"] / steps / (sum(seconds) / len(seconds))
        line["examples_per_second"] = size.responses * len(seconds) / sum(seconds)
    for name in ("wall", "peak_rss_mib", "updates", "sampled", "parts", "versions"):
        if found.get(name):
            line[name] = found[name]
    line |= {k: v for k, v in found.get("extra", {}).items() if k != "greedy"}
    if found.get("losses"):
        line["loss"] = {"first": found["losses"][0], "last": found["losses"][-1]}
    return line


def tell(line: Result, out: Path | None) -> None:
    add_line(rounded(line), out)


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return value


def cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return text.split("model name", 1)[1].split(":", 1)[1].splitlines()[0].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def interpreter(task: str, args) -> Path:
    return (args.trl_ppo_python if task == "ppo" else args.trl_python) or trl_python(task)


def trl_python(task: str = "sft") -> Path:
    """This environment where it has just the TRL that the task is pinned to, else that of `make bench`.

    PPO has a TRL of its own, the last one that could do it.
    """
    of = "-ppo" if task == "ppo" else ""
    pins = (ROOT / f"benchmarks/requirements-trl{of}.txt").read_text(encoding="utf-8")
    try:
        if f"trl=={version('trl')}" in pins.splitlines():
            return Path(sys.executable)
    except PackageNotFoundError:
        pass
    return ROOT / f".venv-bench{of}/bin/python"


def arguments() -> argparse.ArgumentParser:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    p = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    p.add_argument("task", choices=[*TASKS, tools.NAME, "all"])
    p.add_argument("--impl", choices=["heedful", "trl", "both"], default="both")
    p.add_argument("--size", choices=list(SIZES), default="tiny")
    p.add_argument("--repeats", type=positive, default=5, help="processes of each side")
    p.add_argument("--flags", choices=["default", "best"], default="default")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    p.add_argument("--threads", type=positive, default=cores or 1)
    p.add_argument(
        "--busy", type=int, default=0, help="programs that compute beside it all the time"
    )
    p.add_argument(
        "--breakdown", action="store_true", help="heedful: where the seconds go, and the floor"
    )
    p.add_argument("--trl-python", type=Path, help="an interpreter whose environment has TRL")
    p.add_argument("--trl-ppo-python", type=Path, help="one with a TRL that has PPO, for that task")
    p.add_argument("--cache", type=Path, default=ROOT / "benchmarks/.cache")
    p.add_argument("--out", type=lines_file, help="append the lines to this file")
    return p


if __name__ == "__main__":
    sys.exit(main())
