"""On a machine that does other things, too, threads let go of a processor when the others are not there."""

import os
import subprocess
import sys

import pytest

from attending import needs_kernels

SAMPLED = """
import heedful, os, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
from heedful.engine.passes import FEW, SHORT, passes
from heedful.engine.prepared import Prepared
from heedful.engine.slots import SlotCache

model = LlamaForCausalLM(LlamaConfig(vocab_size=2048, hidden_size=256, intermediate_size=512, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128))
cache = SlotCache(4)
cache.reserve(16, 64)
with torch.inference_mode():
    ways = passes(model, cache, FEW, SHORT)
    assert type(ways.stack) is Prepared
    ways.prefill([[5, 6, 7]] * 16, torch.arange(16), 0)
    tokens, lengths = torch.full((16,), 9), torch.full((16,), 3)

    def seconds():
        def step():
            start = time.perf_counter()
            ways.decode(tokens, lengths)
            return time.perf_counter() - start
        return min(step() for _ in range(50))

    torch.set_num_threads(2)
    seconds()
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {min(os.sched_getaffinity(0))})
    both = seconds()
    torch.set_num_threads(1)
    print(both / seconds())
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess:
    gone = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip


@needs_kernels
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor alone")
def test_two_threads_get_along_on_one_processor():
    """As when something else has taken the other one. Mutation caught: OpenMP's barriers, for which each thread waits
    for milliseconds or its whole time slice (12 to 260 times the seconds of one thread)."""
    assert float(run(SAMPLED).stdout) < 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libgomp's variable")
def test_what_pytorchs_threads_are_told():
    """Mutation caught: told after PyTorch is loaded; what somebody has chosen overruled."""
    program = "import heedful, torch"
    said = run(program, OMP_DISPLAY_ENV="verbose").stderr
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("PyTorch brings another OpenMP")
    assert "GOMP_SPINCOUNT = '10000'" in said
    for chosen in ({"GOMP_SPINCOUNT": "77"}, {"OMP_WAIT_POLICY": "passive"}):
        said = run(program, OMP_DISPLAY_ENV="verbose", **chosen).stderr
        assert f"GOMP_SPINCOUNT = '{chosen.get('GOMP_SPINCOUNT', 0)}'" in said
