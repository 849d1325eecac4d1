"""Freed blocks stay with the process, and products of next to nothing are as fast as others."""

import resource
import sys

import pytest
import torch

import interruptions as jobs
import tiny
from heedful.fast import process
from heedful.models.load import load_policy
from heedful.models.new import new_model, train_tokenizer


def alone(work, *args) -> list[int]:
    """What `work` returns in a process that has run nothing yet, neither in one thread nor in several."""
    here, there = jobs.CONTEXT.Pipe(duplex=False)
    child = jobs.CONTEXT.Process(target=_send, args=(there, work, args))
    jobs.launch(child)
    there.close()
    try:
        return here.recv()
    finally:
        jobs.finish(child)


def _send(pipe, work, args) -> None:
    pipe.send(work(*args))


def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def told_to_keep() -> list[int]:
    torch.set_num_threads(1)
    first, told = faults(), process.keep_freed_memory()
    faults()
    return [first, int(told), faults()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.long
def test_pages_are_faulted_in_once():
    """Mutation caught: one of the two thresholds left as it was."""
    first, told, then = alone(told_to_keep)
    if not told:
        pytest.skip("another C library than glibc")
    # Twenty blocks of 4,096 pages; with transparent huge pages a block has 8.
    assert then < first / 5


def left_of_next_to_nothing(folder: str | None) -> list[int]:
    torch.set_num_threads(2)
    if folder:
        load_policy(folder)
    else:
        tok = train_tokenizer(["a"], 300)
        new_model("llama", tok, hidden_size=32, layers=1, heads=2, context=32, seed=0)
    small, one = torch.full((512, 512), 700_000, dtype=torch.int32).view(torch.float32), torch.eye(512)  # fmt: skip
    products = torch.mm(small, one), small * 1.0
    return [int(x.view(torch.int32).count_nonzero()) for x in products]


@pytest.mark.long
@pytest.mark.parametrize("loaded", [True, False])
def test_next_to_nothing_is_nothing(loaded, tmp_path):
    """In every thread of a product, after a model has been loaded or made.

    Mutation caught: told when the threads of products had been started already (half of the rows are left).
    """
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot")
    if loaded:
        tiny.causal_lm("qwen2").save_pretrained(tmp_path)
    assert alone(left_of_next_to_nothing, str(tmp_path) if loaded else None) == [0, 0]


def test_rows_are_rounded_up_by_a_quarter_at_most():
    """And to few numbers. Mutation caught: a step too fine, which is a kernel for each number of rows."""
    found = [process.rounded(n) for n in range(1, 4097)]
    assert all(n <= r <= 1.25 * n for n, r in enumerate(found, 1))
    assert found[:8] == [1, 2, 3, 4, 5, 6, 7, 8] and len(set(found)) == 7 + 4 * 9 + 1
