"""What PyTorch's threads are told: on a machine that does other things, too, not to wait for long."""

import os
import subprocess
import sys

import pytest


def run(program: str, **environment: str) -> subprocess.CompletedProcess:
    gone = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libgomp's variable")
def test_what_pytorchs_threads_are_told():
    """Mutation caught: told after PyTorch is loaded; what somebody has chosen overruled."""
    program = "import heedful, torch"
    said = run(program, OMP_DISPLAY_ENV="verbose").stderr
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("PyTorch brings another OpenMP")
    assert "GOMP_SPINCOUNT = '10000'" in said
    said = run(program, OMP_DISPLAY_ENV="verbose", GOMP_SPINCOUNT="77").stderr
    assert "GOMP_SPINCOUNT = '77'" in said
