"""Files that nobody else reads, and addresses that are shown without their passwords."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import argon2
import pytest

from heedful.cli import main
from heedful.errors import UserError
from heedful.store.database.db import backup, open_store
from heedful.store.membership import people
from workspace import make_project

SECRET = "s3cr/t@x:y"


@pytest.mark.parametrize(
    "address",
    [
        f"nothing://ada:{SECRET}@db.example.org:5432/heedful",  # no such driver
        f"postgresql://ada:{SECRET}@db.example.org:port/heedful",  # no such port
        "nothing://db.example.org/heedful?user=ada&password=s3cr",
        Path(f"postgresql://ada:{SECRET}@db.example.org/heedful"),  # as --workspace takes it
    ],
)
def test_a_password_is_never_shown(address: str | Path):
    """Wherever in the address it stands, and also where nobody can parse it: neither in the sentence nor behind it."""
    with pytest.raises(UserError, match="db") as error:
        open_store(address)
    assert "s3cr" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_workspace_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the umask: folder, settings, database with WAL, backup and export; and the umask is as before."""
    before = os.umask(0)
    try:
        folder = tmp_path / "work"
        assert main(["init", str(folder)]) == 0
        store = open_store(folder)
        make_project(store)
        found = {p.name: rights(p) for p in folder.iterdir()}
        assert rights(folder) == 0o700 and found.pop("runs") == 0o700
        assert set(found.values()) == {0o600} and {"heedful.db", "heedful.db-wal"} <= set(found)
        backup(folder / "heedful.db", folder / "copy.db")
        store.close()
        out = tmp_path / "out" / "prompts.jsonl"
        assert main(["export", "prompts", str(out), "--workspace", str(folder)]) == 0
        assert {rights(p) for p in (folder / "copy.db", *out.parent.iterdir())} == {0o600}
        (folder / "heedful.db").chmod(0o664)  # of an older version, or for a group
        open_store(folder).close()
        assert rights(folder / "heedful.db") == 0o660
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_a_password_is_dear_to_guess():
    """RFC 9106, section 4, its second choice. Mutation caught: the hasher of the other tests, which costs nothing."""
    stored = people.hash_password("correct horse 9")
    costs = argon2.extract_parameters(stored)
    assert costs.type == argon2.Type.ID
    assert costs.memory_cost >= 64 << 10 and costs.time_cost >= 3
    assert people.verify_password(stored, "correct horse 9")
    assert not people.verify_password(stored, "correct horse 8")
    assert not people.verify_password(None, "correct horse 9")
