"""Runs that die: a small job for every recipe that trains, and processes in which they are killed.

Used by tests/test_resume.py in small and by docs/results/resume.py in full. To add a recipe, add a line to JOBS.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

import faulty_disk
import small_policy
import tiny
from changed import changed
from heedful import cli
from heedful.configs.commands import COMMANDS
from heedful.control.filming import cut, filmed
from heedful.control.games import load_game
from heedful.control.players import by_chance
from heedful.data.clips import as_text
from heedful.data.files import write_rows
from heedful.models.load import new_reward_model
from heedful.run import FINISHED

# A process of the fork server has imported everything already, and has no threads of the parent's.
CONTEXT = multiprocessing.get_context("forkserver")
RECIPES = (
    "pretrain",
    "sft",
    "reward_model",
    "preference",
    "policy",
    "online",
    "q_learning",
    "ilql",
    "distil",
    "segments",
)
CONTEXT.set_forkserver_preload(
    ["heedful.cli", "torch.utils.tensorboard", *(f"heedful.recipes.{r}" for r in RECIPES)]
)

# The policy-like loop as one command more; its file has its flags too.
for name in ("heedful.small_policy", "heedful.configs.small_policy"):
    sys.modules[name] = small_policy
COMMANDS["train small"] = ("small_policy", "a small policy-gradient loop")

SMALL = ["--hidden-size", "16", "--layers", "1", "--heads", "2", "--vocab-size", "300"]


def epochs(length: int) -> list:
    """Passes whose ends fall within a batch."""
    return ["--epochs", 2 * length, "--batch-size", 4, "--held-out", 0.2]


def policy(w: Path, length: int) -> list:
    return [
        "--model", w / "model", "--data", w / "prompts.jsonl", "--reward", w / "reward", "length(price=0.1)",
        "--steps", 8 * length, "--batch-size", 8, "--max-tokens", 6,
    ]  # fmt: skip


# The options of a job: of (world, length), where length 1 takes about ten steps.
JOBS: dict[str, Callable[[Path, int], list]] = {
    "pretrain": lambda w, n: [
        "--data", w / "texts.jsonl", "--steps", 12 * n, "--batch-size", 2, "--pack-length", 32,
        "--context", 32, *SMALL,
    ],
    "sft": lambda w, n: ["--model", w / "model", "--data", w / "demonstrations.jsonl", *epochs(n)],
    "sft, capped": lambda w, n: [*JOBS["sft"](w, n), "--steps", 7 * n],
    "reward": lambda w, n: ["--model", w / "model", "--data", w / "pairs.jsonl", *epochs(n)],
    "attributes": lambda w, n: ["--model", w / "model", "--data", w / "ratings.jsonl", *epochs(n)],
    "dpo": lambda w, n: ["--model", w / "model", "--data", w / "pairs.jsonl", *epochs(n)],
    "kto": lambda w, n: ["--model", w / "model", "--data", w / "pairs.jsonl", *epochs(n)],
    "bco": lambda w, n: ["--model", w / "model", "--data", w / "pairs.jsonl", *epochs(n)],
    "ppo": lambda w, n: [*policy(w, n), "--inner-epochs", 2, "--kl-target", 0.5, "--minibatch-size", 4,
                         "--ptx.data", w / "texts.jsonl", "--ptx.batch-size", 2],
    "rloo": lambda w, n: [*policy(w, n), "--group-size", 2, "--normalise-rewards",
                          "--reference-every", 3, "--reference-share", 0.5],
    "online_dpo": lambda w, n: [*policy(w, n), "--refresh-reference", 3],
    "psi_learning": lambda w, n: [*policy(w, n), "--updates", 2, "--replay", 3, "--minibatch-size", 6],
    "ilql": lambda w, n: ["--model", w / "model", "--data", w / "episodes.jsonl", *epochs(n)],
    "decision": lambda w, n: JOBS["ilql"](w, n),
    "distil": lambda w, n: ["--model", w / "model", "--data", w / "demonstrations.jsonl",
                            "--context", w / "context.txt", *epochs(n)],
    "segments": lambda w, n: ["--data", w / "clips.jsonl", "--iterations", 8 * n, "--episodes", 2],
    "small": lambda w, n: ["--model", w / "model", "--data", w / "prompts.jsonl", "--steps", 8 * n],
}  # fmt: skip
POLICY = ("ppo", "rloo", "online_dpo", "psi_learning")
SUPERVISED = ("pretrain", "sft", "reward", "dpo", "ilql", "distil")


def make_world(folder: Path) -> Path:
    """A tiny model, a reward model, and files for all the jobs."""
    tok = tiny.tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tiny.policy(tok).save_pretrained(folder / "model")
    tok.save_pretrained(folder / "model")
    new_reward_model(str(folder / "model"), seed=0).save_pretrained(folder / "reward")
    tok.save_pretrained(folder / "reward")
    asked = [f"What is {i} + {i % 7}?" for i in range(23)]
    write_rows(folder / "texts.jsonl", ({"text": f"{q} It is {i}."} for i, q in enumerate(asked)))
    write_rows(folder / "prompts.jsonl", ({"prompt": q} for q in asked[:13]))
    write_rows(
        folder / "demonstrations.jsonl",
        ({"prompt": q, "completion": f" {i + i % 7}."} for i, q in enumerate(asked)),
    )
    write_rows(
        folder / "pairs.jsonl",
        (
            {"prompt": q, "chosen": f" {i + i % 7}.", "rejected": f" Who knows, {i}?"}
            for i, q in enumerate(asked)
        ),
    )
    write_rows(folder / "episodes.jsonl", map(episode, asked))
    write_rows(
        folder / "ratings.jsonl",
        (
            {"prompt": q, "completion": f" {i}.", "axis": axis, "value": i % divisor}
            for i, q in enumerate(asked)
            for axis, divisor in (("warm", 4), ("polite", 2))
        ),
    )
    (folder / "context.txt").write_text("Add up.")
    write_rows(folder / "clips.jsonl", compared_clips("tetris(pieces=6)", 4))
    return folder


def compared_clips(spec: str, number: int) -> list[dict]:
    """Questions about two clips by chance, every second one of them a tie."""
    rng, game = np.random.default_rng(0), load_game(spec)
    shown = [
        as_text(cut(filmed(game, spec, by_chance, seed)[0], 4, rng)) for seed in range(2 * number)
    ]
    return [
        {"prompt": f"{k}?", "responses": shown[2 * k : 2 * k + 2], "ranking": [1, 1 + k % 2]}
        for k in range(number)
    ]


def episode(question: str) -> dict:
    """A logged episode of two turns."""
    said = [question, "7.", "Sure?", "Yes."]
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return {"messages": messages, "rewards": [0.5, -1.0], "reward": len(question) % 3}


def command(job: str, world: Path, out: Path, *more: object, length: int = 1) -> list[str]:
    """The job as a user types it."""
    common = ["--out", out, "--lr", "1e-3", "--quiet"]
    if job == "small":
        common += ["--bill", f"{out}.bill"]
    if "--report-to" not in more:
        common += ["--report-to", "none"]
    words = ["train", job.partition(",")[0], *JOBS[job](world, length), *common]
    return changed(words, *more)


def start(
    words: Sequence[str],
    *,
    die: tuple[str, int] | None = None,
    fault: faulty_disk.Fault | None = None,
) -> BaseProcess:
    """The command in a process of its own, which ends without a word at the n-th call of a function, if so asked, or on
    a disk that fails."""
    began = CONTEXT.Event()
    process = CONTEXT.Process(target=_inside, args=(list(words), die, fault, began))
    process.began = began  # type: ignore[attr-defined]
    launch(process)
    return process


def launch(process: BaseProcess) -> None:
    """Start a process of CONTEXT. All of them stand on faulty_disk.c, which does nothing until it is armed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    before = os.environ.get("LD_PRELOAD")
    if shim := faulty_disk.library():
        os.environ["LD_PRELOAD"] = str(shim)  # of the fork server, with the first process
    try:
        process.start()
    finally:
        os.environ.pop("LD_PRELOAD", None)
        if before is not None:
            os.environ["LD_PRELOAD"] = before


def finish(process: BaseProcess, *, seconds: float = 600) -> int:
    """The exit code: −9 for SIGKILL."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"still running after {seconds} s")
    return process.exitcode


def interrupt(process: BaseProcess, after: float, number: int) -> int:
    """Send a signal so many seconds after the command began, if there is still somebody to get it; the exit code."""
    while process.is_alive() and not process.began.is_set():  # type: ignore[attr-defined]
        process.join(0.01)
    process.join(after)
    if process.is_alive():
        os.kill(process.pid or 0, number)
    return finish(process)


def call(
    words: Sequence[str],
    *,
    die: tuple[str, int] | None = None,
    fault: faulty_disk.Fault | None = None,
) -> int:
    """The command in a process of its own; its exit code."""
    return finish(start(words, die=die, fault=fault))


def tell(path: Path) -> None:
    """From here on all that this process says is added to a file."""
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    os.dup2(2, 1)


def _inside(
    words: list[str], die: tuple[str, int] | None, fault: faulty_disk.Fault | None, began: Event
) -> None:
    place = fault.folder if fault else words[words.index("--out") + 1]
    tell(Path(f"{place}.said"))
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    if die:
        die_at(*die)
    if fault:
        faulty_disk.arm(fault)
    began.set()
    code = cli.main(words)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the interpreter's own end is not what is tested
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def die_at(name: str, call_: int) -> None:
    """End the process, as by SIGKILL, on the way into the n-th call of `module:function` or `module:Class.method`."""
    module, _, path = name.partition(":")
    holder: object = importlib.import_module(module)
    *outer, last = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    function, calls = getattr(holder, last), 0

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call_:
            os._exit(9)
        return function(*args, **kwargs)

    setattr(holder, last, wrapped)


def said(out: Path) -> str:
    """What the processes with this --out wrote to the terminal, all of them."""
    path = Path(f"{out}.said")
    return path.read_text() if path.exists() else ""


def weights(out: Path) -> str:
    """sha256 over the names and bytes of what the model consists of, its tokenizer included."""
    total = hashlib.sha256()
    for path in sorted(out.iterdir()):
        if path.suffix in (".safetensors", ".json") or path.name == "chat_template.jinja":
            total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def rows(out: Path) -> list[dict]:
    """metrics.jsonl, of which every line must be whole."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def alike(out: Path, reference: Path) -> str:
    """How a finished run differs from one that nobody interrupted; empty if it does not.

    Compared: the model bit for bit; each step logged once, in order; the same metrics, clocks apart.
    """
    if not any((out / name).exists() for name in FINISHED):
        return "not finished"
    if weights(out) != weights(reference):
        return "other weights"
    ours, theirs = rows(out), rows(reference)
    if [r["step"] for r in ours] != [r["step"] for r in theirs]:
        return f"steps {[r['step'] for r in ours]}"
    clocks = ("seconds", "tokens_per_second")
    for mine, its in zip(ours, theirs, strict=True):
        if {k: v for k, v in mine.items() if k not in clocks} != {
            k: v for k, v in its.items() if k not in clocks
        }:
            return f"other metrics at step {mine['step']}"
    times = [r["seconds"] for r in ours]
    if times != sorted(times):
        return "seconds go backwards"
    left = [p.name for p in out.iterdir() if p.name.startswith(".") or p.name == "state"]
    return f"left behind: {left}" if left else ""
