"""A run's folder: whole or absent, whatever happens on the way."""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from heedful.disk import write_folder
from heedful.errors import UserError
from heedful.run import Run, plain
from heedful.run.settings import changes


@dataclass(frozen=True)
class Config:
    out: Path
    rate: float = 0.1


def opened(out: Path) -> Run:
    return Run(out, Config(out), total_steps=2, quiet=True, report_to="none")


def model(text: str):
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(text)
        (folder / "config.json").write_text("{}")

    return write


def test_a_failing_writer_leaves_the_old_folder_and_no_other(tmp_path):
    target = tmp_path / "checkpoint"
    write_folder(target, model("old"))

    def broken(folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="no space left on device; what was saved before is whole"):
        write_folder(target, broken)
    assert (target / "model.safetensors").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_metrics_and_config_are_written_as_they_come(tmp_path):
    with opened(tmp_path / "run") as run:
        run.log(1, {"loss": 1.5})
        rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        assert json.loads(rows[0])["loss"] == 1.5  # flushed: a dashboard can follow
        run.log(2, {"loss": 1.25, "kl/seq": 0.5})
    rows = [json.loads(r) for r in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2]
    assert (tmp_path / "run" / "config.yaml").read_text() == f"out: {tmp_path}/run\nrate: 0.1\n"


def test_the_final_model_appears_with_config_json_last(tmp_path, monkeypatch):
    """Mutation caught: config.json in place before the weights, so that half a model looks whole."""
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).name), replace(a, b)))
    with opened(tmp_path / "run") as run:
        run.finish(model("new"))
    assert order[-1] == "config.json"
    assert (tmp_path / "run" / "model.safetensors").read_text() == "new"
    with pytest.raises(UserError, match="already holds a finished model"):
        opened(tmp_path / "run")


def test_an_unfinished_run_starts_again(tmp_path):
    with opened(tmp_path / "run") as run:
        run.log(1, {"loss": 9.0})
        run.checkpoint(1, model("one"))
    with opened(tmp_path / "run") as run:
        run.log(1, {"loss": 2.0})
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "9.0" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_what_the_user_must_mend_leaves_nothing_unless_there_are_checkpoints(tmp_path):
    with pytest.raises(UserError), opened(tmp_path / "a"):
        raise UserError("the reward is nan")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError), opened(tmp_path / "b") as run:
        run.checkpoint(1, model("one"))
        raise UserError("the reward is nan")
    assert (tmp_path / "b" / "checkpoints" / "000001" / "config.json").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(UserError, match="loss became nan at step 1"), opened(tmp_path / "r") as run:
        run.log(1, {"loss": float("nan")})


def test_plain():
    assert plain(Config(Path("a"))) == {"out": "a", "rate": 0.1}
    assert plain({"x": (1, Path("b"))}) == {"x": [1, "b"]}


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """It wrote down every knob, read or not, and its recipe had its config elsewhere; what is read must be the same.

    Mutation caught: a state that is refused because a config has moved, or because of a knob that nobody reads.
    """
    now = {
        "recipe": "heedful.configs.policy",
        "settings": {"advantage": "gae", "lam": 0.95},
        "inputs": {},
    }
    old = {"advantage": "gae", "lam": 0.95, "n_step": 1000, "truncate": 2.0}
    before = {"recipe": "heedful.recipes.configs.policy", "settings": old, "inputs": {}}
    changes(tmp_path, before, now)
    with pytest.raises(UserError, match=r"lam was 0\.9, is 0\.95"):
        changes(tmp_path, {**before, "settings": {**old, "lam": 0.9}}, now)
    with pytest.raises(UserError, match="one of online, not of policy"):
        changes(tmp_path, {**before, "recipe": "heedful.recipes.configs.online"}, now)
