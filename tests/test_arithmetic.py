"""What is computed is the same on processors that round in other ways than the one at hand.

PyTorch and the kernels add up in another order on each kind of processor. Who passes on one only has a tolerance that
was read off a run. So the numeric core, the tests marked `arithmetic`, which the suite runs as it is, runs twice more
when .ci/run asks for what takes long.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from attending import needs_kernels
from heedful.errors import UserError
from heedful.fast import kernels
from heedful.fast.kernels import build

HERE = Path(__file__).parent
# PyTorch's own loops, MKL's and oneDNN's products: what each does on a processor that has nothing beyond x86-64.
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
OTHERS = {
    "compiled for any": {"HEEDFUL_KERNELS": "baseline", **PLAIN},
    "without kernels": {"HEEDFUL_KERNELS": "off"},
}


@pytest.mark.long
@pytest.mark.parametrize("processor", OTHERS)
def test_the_core_holds_on_another_processor(processor):
    """Mutation caught: a tolerance that only this processor's rounding stays within."""
    core = [p for p in HERE.rglob("test_*.py") if "pytest.mark.arithmetic" in p.read_text()]
    words = f"-q -p no:cacheprovider --rootdir={HERE.parent}".split()
    which = [
        "-m",
        "arithmetic and not long and not exhaustive",
        *sorted({*core} - {Path(__file__)}),
    ]
    kept = {name: x for name, x in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *which],
        env={**kept, "OMP_NUM_THREADS": "1", **OTHERS[processor]}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@needs_kernels
def test_kernels_are_switched(monkeypatch):
    """Mutation caught: the processor at hand compiled for all the same; a word that means nothing taken for native."""
    try:
        for kind, made in {"baseline": True, "off": False}.items():
            monkeypatch.setenv("HEEDFUL_KERNELS", kind)
            build.library.cache_clear()
            assert kernels.available() == made
            if made and platform.machine() == "x86_64":
                assert kernels.library().lanes() == 4
        monkeypatch.setenv("HEEDFUL_KERNELS", "sse")
        build.library.cache_clear()
        with pytest.raises(UserError, match="must be native, baseline or off, not 'sse'"):
            kernels.available()
    finally:
        build.library.cache_clear()
