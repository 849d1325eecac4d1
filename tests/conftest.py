"""What every test gets: no network, one thread a worker, the same seeds, shape-checked losses."""

from __future__ import annotations

import atexit
import gc
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything imports torch or transformers: they read these once, on import.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    HEEDFUL_CACHE="",
)
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # two workers with two threads each would fight for two cores
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import hypothesis
import pytest
from jaxtyping import install_import_hook

# The losses are annotated with shapes; from here on a call with the wrong shape or dtype is an error.
# It only works on modules that are not imported yet, hence here and not in a fixture.
assert "heedful.losses" not in sys.modules
install_import_hook(["heedful.losses"], "beartype.beartype")

# The same examples each time, and no verdict by the clock: a machine may be busy with other things.
hypothesis.settings.register_profile(
    "heedful",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("heedful")

# Databases wait for the disk at every commit, which is most of the time of many tests. What a power cut leaves is the
# matter of faulty_disk.c, whatever the files lie on.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

SEED = 0


@pytest.fixture(autouse=True)
def _seeds():
    """No test depends on which tests ran before it in the same worker."""
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)
        torch.set_flush_denormal(False)  # as heedful's learner leaves it, which hypothesis refuses


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """A shell's background jobs ignore SIGINT, and so would the tests' own process and all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def own_postgres():
    """A PostgreSQL server that the tests may stop and start; None where HEEDFUL_TEST_POSTGRES names somebody's."""
    if os.environ.get("HEEDFUL_TEST_POSTGRES"):
        yield None
        return
    import postgres as own

    programs = own.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed, and HEEDFUL_TEST_POSTGRES names no server")
    # Whether it plans by statistics would depend on when it last looked at the tables by itself.
    with own.running(programs, "-c autovacuum=off") as server:
        yield server


@pytest.fixture(scope="session")
def postgres(own_postgres) -> str:
    """The address of a PostgreSQL server, as its superuser: the one that HEEDFUL_TEST_POSTGRES names, or one started
    here."""
    return own_postgres.url if own_postgres else os.environ["HEEDFUL_TEST_POSTGRES"]


@pytest.fixture(scope="session")
def copies(postgres: str) -> Iterator[Any]:
    """`databases.Copies` on the PostgreSQL server."""
    import databases
    from heedful.store.database.db import open_store

    with databases.postgresql(postgres) as name:
        open_store(databases.address(postgres, name)).close()
        made = databases.Copies(postgres, name)
        yield made
        made.close()


@pytest.hookimpl(tryfirst=True)  # before the markers are asked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "postgres" in item.keywords and item.get_closest_marker("long_on_postgres"):
            item.add_marker("long")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """A quarter of the time in which all is imported went into looking, again and again, for what of it is no longer
    needed. It stays until the end."""
    gc.disable()
    atexit.register(gc.unfreeze)
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database of each kind with all tables and no rows."""
    import databases

    if request.param == "sqlite":
        yield databases.sqlite(tmp_path / "heedful.db")
        return
    server = request.getfixturevalue("postgres")
    with request.getfixturevalue("copies").one() as name:
        yield databases.address(server, name)


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database of each kind."""
    import databases

    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'heedful.db'}"
        return
    server = request.getfixturevalue("postgres")
    with databases.postgresql(server) as name:
        yield databases.address(server, name)
