"""What `heedful plan` says beside what is measured: python docs/results/plan.py --out docs/results/plan.json

`--loading` measures instead what a rank of two has in memory of its own (Linux's RssAnon) while a model of 126 million
parameters in bfloat16 is loaded for a run in float32, and shared out.

Llamas of 0.5 to 30 million parameters take a step of SFT on a CPU, alone, on two ranks, and shared out on two and
four; the bytes of all tensors that are alive at its fullest moment are counted as they are made and freed. The CPU
takes the way of a GPU: heedful's kernels for CPUs, which keep less, are off, and layers are called as transformers has
them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any

os.environ["HEEDFUL_KERNELS"] = "off"

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from heedful.data.collate import collate
from heedful.fast import llama
from heedful.learner.fsdp import ShardedLearner
from heedful.learner.local import LocalLearner, Optim
from heedful.models.load import load_policy
from heedful.models.sharded import shard
from heedful.planning import memory, models
from heedful.planning.tracing import Peak, trace
from heedful.ranks import Ranks, joined
from heedful.training.forwards import policy_forward
from heedful.training.supervised import cross_entropy
from heedful.types import Sample

SIZES = {  # width, layers, vocabulary, rows a rank
    "0.5M": (96, 4, 512, 4),
    "3M": (192, 6, 2048, 4),
    "30M": (512, 8, 8192, 4),
}
LOADED = (768, 12, 8192, 0)
LENGTH = 128
WAYS = [(1, False), (2, False), (2, True), (4, True)]


class Measured(Peak):
    """Storages at the size that they have after each operation: FSDP empties some, and fills them again."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        alive = (storage() for storage in self.storages.values())
        self.most = max(self.most, sum(x.nbytes() for x in alive if x is not None))
        return out

    def _made(self, x: Tensor) -> None:
        storage = local(x).untyped_storage()
        if storage._cdata not in self._alive:
            self._alive[storage._cdata] = 0
            self.storages[storage._cdata] = weakref.ref(storage)
            weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self._alive.pop(key, None)
        self.storages.pop(key, None)


def local(x):
    return x.to_local() if hasattr(x, "to_local") else x


def make(size: tuple[int, int, int, int], folder: Path, dtype: torch.dtype = torch.float32) -> None:
    width, layers, vocabulary, _ = size
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=2 * LENGTH,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)  # type: ignore[arg-type]


def planned(folder: Path, rows: int, ranks: int, sharded: bool) -> float:
    """Bytes on each rank, of one micro-batch a step."""
    model = models.empty(str(folder))
    of, tokens = models.sizes(model), rows * LENGTH
    how = memory.Setting("float32", ranks, sharded, several=False)
    passed = trace(model, tokens, tokens, LENGTH, grads=sharded)
    return memory.total(memory.learner(of, how, passed)) + passed.bytes


def measured(folder: Path, rows: int, ranks: Ranks, sharded: bool) -> float:
    llama.learns = lambda model, layout: False  # the way of a GPU
    model = load_policy(folder)
    how = {"micro_batch_tokens": 1 << 20, "ranks": ranks}
    optim, forward = Optim(1e-4, 10), policy_forward()
    if sharded:
        shard(model, ranks, device=torch.device("cpu"))
        learner = ShardedLearner(model, forward, optim, **how)
    else:
        learner = LocalLearner(model, forward, optim, **how)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 500, (rows * ranks.world, LENGTH + 1), generator=draw).tolist()
    samples = [Sample(tuple(t), (False, *[True] * LENGTH), (0.0,) * (LENGTH + 1)) for t in tokens]
    batch = collate(samples)
    kept = [*learner.model.parameters(), *learner.model.buffers()]
    storages = {
        local(x).untyped_storage()._cdata: local(x).untyped_storage().nbytes() for x in kept
    }
    peak = Measured()
    peak.know(*kept)
    with peak:
        for _ in range(2):  # from the second on Adam has its moments
            learner.step(cross_entropy, batch)
    return sum(storages.values()) + peak.most


def own() -> int:
    """Bytes of this process that are in no file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def loading(folder: Path, ranks: Ranks) -> dict[str, int]:
    """MiB of a rank's own once a model is loaded, and at most until it is shared out; the whole model's."""
    before, seen, done = own(), [0], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(own())
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    model = load_policy(folder, mapped=True)
    loaded, whole = own(), sum(4 * p.numel() for p in model.parameters())
    shard(model, ranks, device=torch.device("cpu"))
    done.set()
    looking.join()
    parts = {"whole": whole, "loaded": loaded - before, "most": max(seen) - before}
    return {name: round(size / 2**20) for name, size in parts.items()}


def inside(name: str, folder: str, sharded: str, out: str) -> None:
    with joined() as ranks:
        if name == "loading":
            found = loading(Path(folder), ranks)
        else:
            found = measured(Path(folder), SIZES[name][3], ranks, sharded == "1")
        if ranks.rank == 0:
            Path(out).write_text(json.dumps(found))


def table(out: Path | None, names: list[str]) -> None:
    rows = []
    if out is not None and out.exists():  # sizes that are not measured anew stay
        rows = [row for row in json.loads(out.read_text())["rows"] if row["model"] not in names]
    for name in names:
        for ranks, sharded in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                make(SIZES[name], Path(folder))
                said = planned(Path(folder), SIZES[name][3], ranks, sharded)
                found = start(name, folder, ranks, sharded)
            row = {
                "model": name,
                "ranks": ranks,
                "shard": sharded,
                "planned": round(said),
                "measured": round(found),
            }
            rows.append(row | {"off": round(said / found - 1, 4)})
            print(json.dumps(rows[-1]), flush=True)
    if out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        }
        found = json.loads(out.read_text()) if out.exists() else {}
        found |= {"machine": machine, "tokens a row": LENGTH, "rows": rows}
        out.write_text(json.dumps(found, indent=1) + "\n")


def start(name: str, folder: str, ranks: int, sharded: bool) -> Any:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = Path(folder) / "bytes.json"
    words = [sys.executable, __file__, "--inside", name, folder, str(int(sharded)), str(told)]
    places = {
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen(words, env={**os.environ, **places, "RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(ranks)
    ]
    if sum(process.wait() for process in running):
        raise SystemExit(f"{name} on {ranks} ranks failed")
    return json.loads(told.read_text())


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", nargs="*", default=list(SIZES))
    parser.add_argument("--loading", action="store_true")
    given = parser.parse_args()
    if given.loading:
        with tempfile.TemporaryDirectory() as folder:
            make(LOADED, Path(folder), torch.bfloat16)
            said = start("loading", folder, 2, True)
        print(json.dumps(said))
        if given.out is not None:
            kept = json.loads(given.out.read_text()) | {"loading, MiB of a rank": said}
            given.out.write_text(json.dumps(kept, indent=1) + "\n")
        return
    table(given.out, given.models)


if __name__ == "__main__":
    main()
