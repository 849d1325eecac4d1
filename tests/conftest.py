"""What every test gets: no network, one thread a worker, the same seeds, shape-checked losses."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

# Before anything imports torch or transformers: they read these once, on import.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
)
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # two workers with two threads each would fight for two cores
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import pytest
from jaxtyping import install_import_hook

# The losses are annotated with shapes; from here on a call with the wrong shape or dtype is an error.
# It only works on modules that are not imported yet, hence here and not in a fixture.
assert "heedful.losses" not in sys.modules
install_import_hook(["heedful.losses"], "beartype.beartype")

SEED = 0


@pytest.fixture(autouse=True)
def _seeds():
    """No test depends on which tests ran before it in the same worker."""
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real text and real comparisons that is too large for the repository."""
    named = os.environ.get("HEEDFUL_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if named and not folder.is_dir():
        pytest.fail(f"HEEDFUL_TEST_DATA names {folder}, which is not a folder")
    if not folder.is_dir():
        pytest.skip("real data is not here; set HEEDFUL_TEST_DATA to the folder that holds it")
    return folder
