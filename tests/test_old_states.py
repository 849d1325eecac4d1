"""A run's state that an earlier version saved is read by this one: `old_states/FORMAT.json` has its files, as base64.

A format that is released gets a file: `PYTHONPATH=src:tests python tests/test_old_states.py` writes that of the newest,
with the code of that release.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.errors import UserError
from heedful.run.state import FORMAT, MANIFEST, Holder, States
from heedful.types import Message, Sampling

OLD = Path(__file__).parent / "old_states"
ABOUT = {"step": 4, "seconds": 1.5, "settings": {"lr": 0.001, "data": ["a.jsonl"]}}


def values() -> dict[str, Any]:
    """Everything that a part may hold."""
    tensor = torch.tensor([[1.5, -2.0], [0.1, 3e-8]])
    return {
        "learner": {
            "weights": {"a.b": tensor, "half": tensor.to(torch.bfloat16)},
            "optimiser": {0: {"step": torch.tensor(4.0), "exp_avg": tensor.T}},
        },
        "stash": {"rows": [(1, None, "é\u2028\x00"), [True, 2.5]], "turn": Message("user", "Hi")},
        "sampling": Sampling(0.7),
    }


@pytest.mark.parametrize("file", sorted(OLD.glob("*.json")), ids=lambda path: path.stem)
def test_a_state_of_before_is_read(file: Path, tmp_path: Path):
    """Bit for bit, with what was said of it. Mutation caught: a kind of value or a file that has another name now."""
    saved = States(unpacked(file, tmp_path)).read(4)
    assert {name: value for name, value in saved.about.items() if name in ABOUT} == ABOUT
    parts = {name: Holder() for name in values()}
    saved.load(parts)
    for name, value in values().items():
        assert_same(parts[name].value, value)


def test_a_state_to_come_and_one_without_a_part_are_refused(tmp_path: Path):
    """One sentence each. Mutation caught: a newer format read as if it were this one."""
    folder = unpacked(OLD / f"{FORMAT}.json", tmp_path)
    with pytest.raises(
        UserError, match=r"holds learner, sampling, stash, but this run consists of"
    ):
        States(folder).read(4).load({"learner": Holder()})
    manifest = folder / "000004" / MANIFEST
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"format": FORMAT + 1}))
    with pytest.raises(UserError, match=r"was saved by a newer heedful.*upgrade heedful to go on"):
        States(folder).read(4)


def unpacked(file: Path, tmp_path: Path) -> Path:
    (tmp_path / "000004").mkdir()
    for name, words in json.loads(file.read_text(encoding="utf-8")).items():
        (tmp_path / "000004" / name).write_bytes(base64.b64decode(words))
    return tmp_path


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype and torch.equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert_same(found[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    else:
        assert found == wanted


def write_newest() -> Path:
    folder = Path(tempfile.mkdtemp())
    States(folder).write({name: Holder(value) for name, value in values().items()}, ABOUT)
    files = {
        path.name: base64.b64encode(path.read_bytes()).decode()
        for path in sorted((folder / "000004").iterdir())
    }
    OLD.mkdir(exist_ok=True)
    target = OLD / f"{FORMAT}.json"
    target.write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    print(write_newest(), file=sys.stderr)
