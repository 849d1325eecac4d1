"""Freed blocks stay with the process, and products of next to nothing are as fast as others."""

import os
import subprocess
import sys

import pytest
import torch

import tiny
from heedful.fast import process

PROGRAM = """
import resource, torch
from heedful.fast.process import keep_freed_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, told, then = faults(), keep_freed_memory(), (faults(), faults())[1]
print(first, int(told), then)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_pages_are_faulted_in_once():
    """Mutation caught: one of the two thresholds left as it was."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    first, told, then = map(int, out.stdout.split())
    if not told:
        pytest.skip("another C library than glibc")
    # Twenty blocks of 4,096 pages; with transparent huge pages a block has 8.
    assert then < first / 5


DENORMAL = """
import sys, torch
if len(sys.argv) > 1:
    from heedful.models.load import load_policy
    load_policy(sys.argv[1])
else:
    from heedful.models.new import new_model, train_tokenizer
    new_model("llama", train_tokenizer(["a"], 300), hidden_size=32, layers=1, heads=2, context=32, seed=0)
small, one = torch.full((512, 512), 700_000, dtype=torch.int32).view(torch.float32), torch.eye(512)
print(*(x.view(torch.int32).count_nonzero().item() for x in (torch.mm(small, one), small * 1.0)))
"""


@pytest.mark.parametrize("loaded", [True, False])
def test_next_to_nothing_is_nothing(loaded, tmp_path):
    """In every thread of a product, after a model has been loaded or made.

    Mutation caught: told when the threads of products had been started already (half of the rows are left).
    """
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot")
    if loaded:
        tiny.causal_lm("qwen2").save_pretrained(tmp_path)
    out = subprocess.run(
        [sys.executable, "-c", DENORMAL, *[str(tmp_path)] * loaded],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert out.stdout.split() == ["0", "0"]


def test_rows_are_rounded_up_by_a_quarter_at_most():
    """And to few numbers. Mutation caught: a step too fine, which is a kernel for each number of rows."""
    found = [process.rounded(n) for n in range(1, 4097)]
    assert all(n <= r <= 1.25 * n for n, r in enumerate(found, 1))
    assert found[:8] == [1, 2, 3, 4, 5, 6, 7, 8] and len(set(found)) == 7 + 4 * 9 + 1
