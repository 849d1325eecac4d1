"""The process that counts for the lead's pages says what the server would, and its end is no end of the server."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from databases import new_store
from heedful.errors import Unavailable, UserError
from heedful.store.database.db import Store
from heedful.web import figures
from heedful.web.figures import Counting, Figures
from heedful.web.tallies import Tallies
from workspace import answer, claim, make_project, make_rater, make_tasks


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """In the workspace itself: the other process finds it there."""
    return new_store(tmp_path / "heedful.db")


@pytest.fixture
def project(store: Store) -> str:
    """Two raters say different things of three questions each."""
    key = make_project(store)
    make_tasks(store, key, 3, overlap=2)
    for value, rater in enumerate((make_rater(store), make_rater(store))):
        while (given := claim(store, key, rater)) is not None:
            answer(store, given, rater, {"value": 1 + 4 * value})
    return key


def test_what_is_counted_apart_is_the_same(store: Store, project: str, tmp_path: Path):
    """Catches a report that is asked by another name, an argument that is lost on the way, and a missing project or a
    process that was killed that fails in other words than in the server."""
    here = Counting(store, Tallies(None))
    apart = Figures(here, tmp_path)

    async def session() -> None:
        asks: list[tuple[str, dict]] = [(name, {}) for name in here.reports]
        asks += [("disagreements", {"after": 1, "limit": 1}), ("labels", {"rater_id": "nobody"})]
        for name, asked in asks:
            expected = json.loads(json.dumps(here.count(name, project, **asked)))
            assert await apart(name, project, **asked) == expected, name
        with pytest.raises(UserError, match="no such project"):
            await apart("labels", "nothing")
        process = apart._worker and apart._worker._process
        assert process
        process.send_signal(signal.SIGSTOP)
        waits = asyncio.ensure_future(apart("labels", project))
        await asyncio.sleep(0.1)
        process.kill()
        with pytest.raises(UserError, match="open the page again"):
            await waits
        assert (await apart("labels", project))["used"] == 6
        await apart.close()

    asyncio.run(session())


def test_who_counts_for_ever_is_unavailable(
    store: Store, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Catches a page that waits without end for a process that hangs."""
    monkeypatch.setattr(figures, "PATIENCE", 0.0)
    apart = Figures(Counting(store, Tallies(None)), tmp_path)

    async def session() -> None:
        with pytest.raises(Unavailable, match="not counted within"):
            await apart("labels", project)
        await apart.close()

    asyncio.run(session())
