"""Memory and time of a training step with LoRA, frozen and recomputed layers: python docs/results/training_memory.py

A Llama of 12 layers and 23 million parameters on 4 rows of 384 tokens, in one micro-batch, on a CPU; every
row of the table in a process of its own. Peak: the most memory the process had, less what it had before
the model was made; tensors are given back to the system when they are freed, since otherwise a
fragmented heap would be measured. Kept: activations saved for the backward pass of one forward.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from heedful.configs.common import Lora, Training

GIVE_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
ROWS, LENGTH, STEPS = 4, 384, 2
WAYS: dict[str, dict] = {
    "all weights": {},
    "recomputed": {"gradient_checkpointing": True},
    "LoRA, rank 16": {"lora": Lora(rank=16)},
    "LoRA, recomputed": {"lora": Lora(rank=16), "gradient_checkpointing": True},
    "bottom 9 of 12 frozen": {"freeze": 9},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, LoRA, recomputed": {
        "dtype": "bfloat16",
        "lora": Lora(rank=16),
        "gradient_checkpointing": True,
    },
}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        _make(folder)
        table(folder)


def table(folder: str) -> None:
    print("| way | trained | kept, MiB | peak, MiB | seconds a step |\n|---|---|---|---|---|")
    for way in WAYS:
        command = [sys.executable, __file__, way, folder]
        env = os.environ | GIVE_BACK
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env)
        row = json.loads(done.stdout)
        print(
            f"| {way} | {row['trained']:,} | {row['kept']:.0f} | {row['peak']:.0f} | {row['seconds']:.1f} |",
            flush=True,
        )


def _make(folder: str) -> None:
    from heedful.models.new import new_model, train_tokenizer
    from heedful.models.save import save_model

    tok = train_tokenizer(["a small text, often"] * 3, 280)
    sizes = dict(hidden_size=384, layers=12, heads=6, context=LENGTH, seed=0)
    save_model(new_model("llama", tok, **sizes), tok, Path(folder))


def measure(way: str, folder: str) -> dict[str, float]:
    import torch

    from heedful.data.collate import collate
    from heedful.learner.local import LocalLearner, Loss, Optim
    from heedful.models.load import load_policy
    from heedful.training.forwards import policy_forward
    from heedful.training.trainable import parameters, prepare
    from heedful.types import Sample

    config = Training(out=Path("run"), **WAYS[way])
    if config.lora.rank:
        import peft  # noqa: F401  (libraries are no part of what is measured)
    before = _peak()
    model = prepare(load_policy(folder, dtype=config.dtype), config)
    g = torch.Generator().manual_seed(0)
    rows = [
        Sample(tuple(torch.randint(4, 256, (LENGTH,), generator=g).tolist()), (False, *(True,) * (LENGTH - 1)),
               (0.0,) * LENGTH, group=i)
        for i in range(ROWS)
    ]  # fmt: skip
    batch = collate(rows)
    learner = LocalLearner(
        model, policy_forward(), Optim(1e-5, STEPS), micro_batch_tokens=2 * ROWS * LENGTH
    )
    started = time.monotonic()
    for _ in range(STEPS):
        learner.step(lambda out, b: Loss(-out.logp), batch)
    seconds, peak = (time.monotonic() - started) / STEPS, _peak() - before
    return {
        "trained": parameters(model)[0],
        "kept": _kept(model, batch.tokens[:, :-1]),
        "peak": peak,
        "seconds": seconds,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _kept(model, tokens) -> float:
    import torch

    sizes: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def keep(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    assert out.shape[1] == LENGTH - 1
    return sum(sizes.values()) / 2**20


if __name__ == "__main__":
    main()
