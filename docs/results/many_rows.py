"""How much memory and time many rows take before training: python docs/results/many_rows.py 100000 1000000

For each number of rows and each of `train sft`, `reward`, `dpo`, `grpo` and `pretrain`: made-up rows (a prompt of 8
words, responses of 6 to 12), four steps of 16 of them with a model of 60 thousand weights, in a process of its own.
`peak_mib` is the most memory that the process had; `bytes_a_row` what it grows by between the fewest rows and these;
`ms_a_row` the processor's time between them, of reading, checking, tokenising, writing and a shuffle. `--jobs dpo`
leaves the others out; `--beside SRC` measures another checkout's `src` too. The result goes to `--out`, usually
many_rows.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = (
    "stone",
    "river",
    "cloud",
    "engine",
    "paper",
    "winter",
    "garden",
    "silver",
    "question",
    "answer",
    "seven",
)
GIVE_BACK = {"MALLOC_ARENA_MAX": "1", "HEEDFUL_CACHE": "", "TOKENIZERS_PARALLELISM": "false"}
FEW = 1000  # the number that the others are compared with
BY_EPOCHS = ["--held-out", "0.0005"]
OPTIONS = {
    "sft": BY_EPOCHS,
    "reward": BY_EPOCHS,
    "dpo": BY_EPOCHS,
    "grpo": ["--reward", "length(price=0.1)", "--batch-size", "16", "--max-tokens", "4"],
    "pretrain": [*BY_EPOCHS, "--batch-size", "16"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="+")
    parser.add_argument("--jobs", nargs="+", default=list(OPTIONS))
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "runs": [],
    }
    here = Path(__file__).parents[2] / "src"
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        make_model(folder / "model")
        for rows in [FEW, *asked.rows]:
            write(folder / "rows.jsonl", rows)
            for job in asked.jobs:
                for side, source in (("now", here), ("beside", asked.beside)):
                    if source is not None:
                        result["runs"].append(measured(folder, job, rows, side, source))
                        print(json.dumps(result["runs"][-1]), flush=True)
                        asked.out.write_text(json.dumps(compared(result), indent=1) + "\n")


def make_model(folder: Path) -> None:
    """A Llama of 2 layers and a tokenizer of 300 pieces."""
    from heedful.models.new import new_model, train_tokenizer

    tokenizer = train_tokenizer(["Human: " + " ".join(WORDS)] * 50, 300)
    model = new_model("llama", tokenizer, hidden_size=32, layers=2, heads=2, context=256, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write(path: Path, rows: int) -> None:
    """Comparisons that are demonstrations and texts too, no two of the same prompt."""
    with path.open("w") as file:
        for row in made_up(rows):
            file.write(json.dumps(row) + "\n")


def made_up(rows: int) -> Iterator[dict[str, str]]:
    draw = random.Random(0)
    for number in range(rows):
        prompt, chosen, rejected = (
            " ".join(draw.choices(WORDS, k=k))
            for k in (8, draw.randint(6, 12), draw.randint(6, 12))
        )
        yield {
            "prompt": f"{prompt} {number}",
            "chosen": f" {chosen}.",
            "rejected": f" {rejected}?",
            "completion": f" {chosen}.",
            "text": f"{prompt} {number} {chosen}.",
        }


def measured(folder: Path, job: str, rows: int, side: str, source: Path) -> dict[str, Any]:
    out = folder / f"{job}-{rows}-{side}"
    paths = {"--model": folder / "model", "--data": folder / "rows.jsonl", "--out": out}
    command = [sys.executable, "-m", "heedful", "train", job, "--steps", "4", "--quiet"]
    command += [*OPTIONS[job], "--report-to", "none"]
    command += [str(word) for pair in paths.items() for word in pair]
    env = os.environ | GIVE_BACK | {"PYTHONPATH": str(source)}
    started = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"{job} with {rows} rows ended with {os.waitstatus_to_exitcode(status)}")
    return {"job": job, "rows": rows, "code": side, **of(used)}


def of(used: resource.struct_rusage) -> dict[str, float]:
    seconds = used.ru_utime + used.ru_stime
    return {"peak_mib": round(used.ru_maxrss / 1024), "cpu_seconds": round(seconds, 1)}


def compared(result: dict[str, Any]) -> dict[str, Any]:
    """Each run beside the one on the fewest rows."""
    few = {(r["job"], r["code"]): r for r in result["runs"] if r["rows"] == FEW}
    for run in result["runs"]:
        if more := run["rows"] - FEW:
            first = few[run["job"], run["code"]]
            run["bytes_a_row"] = round((run["peak_mib"] - first["peak_mib"]) * 2**20 / more)
            run["ms_a_row"] = round(1000 * (run["cpu_seconds"] - first["cpu_seconds"]) / more, 3)
    return result


if __name__ == "__main__":
    main()
