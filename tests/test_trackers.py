"""Trackers are asked for by flags, else by their own environment variables, else by our names; none can end a run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heedful.configs import sft
from heedful.errors import UserError
from heedful.run.trackers import tracker

VARIABLES = (
    "WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID", "WANDB_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_NAME", "MLFLOW_RUN_ID", "TRACKIO_PROJECT", "TENSORBOARD_LOGGING_DIR",
)  # fmt: skip


class Calls(ModuleType):
    """A package that remembers what is called; what it returns can be called too."""

    def __init__(self, name: str):
        super().__init__(name)
        self.calls: list[tuple[str, tuple, dict]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Calls:
            self.calls.append((name, args, kwargs))
            return self

        return call

    def of(self, name: str) -> list[Any]:
        return [args[0] if args else kwargs for n, args, kwargs in self.calls if n == name]


@pytest.fixture
def package(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def fake(name: str) -> Calls:
        module = Calls(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return fake


def config(**other: Any) -> sft.Config:
    return sft.Config(model="m", data="d", out=Path("runs/x"), **other)


def asked(package: Any, name: str, tmp_path: Path, **other: Any) -> Calls:
    module = package(name)
    opened = tracker(name, tmp_path, config(**other), 0)
    assert opened is not None
    opened.log(3, {"loss": 1.5})
    opened.close()
    return module


def test_wandb(package, tmp_path, monkeypatch):
    """Mutation caught: `project="heedful"` passed always, which W&B prefers to WANDB_PROJECT."""
    [ours] = asked(package, "wandb", tmp_path).of("init")
    assert (ours["project"], ours["name"]) == ("heedful", tmp_path.name)
    assert ours["dir"] == str(tmp_path) and ours["config"]["learning_rate"] == 2e-5
    for name, value in (("PROJECT", "team"), ("NAME", "run7"), ("DIR", "/else")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    [theirs] = asked(package, "wandb", tmp_path).of("init")
    assert (theirs["project"], theirs["name"], theirs["dir"]) == (None, None, None)
    module = asked(package, "wandb", tmp_path, project="p", run_name="r")
    assert [(m["project"], m["name"]) for m in module.of("init")] == [("p", "r")]
    assert module.of("log") == [{"loss": 1.5}] and module.of("finish") == [{}]


def test_mlflow(package, tmp_path, monkeypatch):
    module = asked(package, "mlflow", tmp_path)
    assert module.of("set_tracking_uri") == [(tmp_path / "mlruns").resolve().as_uri()]
    assert module.of("set_experiment") == ["heedful"]
    assert module.of("start_run") == [{"run_name": tmp_path.name}]
    assert module.calls[-2:] == [
        ("log_metrics", ({"loss": 1.5},), {"step": 3}),
        ("end_run", (), {}),
    ]
    for name, value in (("TRACKING_URI", "http://x"), ("EXPERIMENT_NAME", "e"), ("RUN_NAME", "r")):
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    module = asked(package, "mlflow", tmp_path)
    assert module.of("set_tracking_uri") == module.of("set_experiment") == []
    assert module.of("start_run") == [{"run_name": "r"}]
    assert asked(package, "mlflow", tmp_path, project="p").of("set_experiment") == ["p"]


def test_trackio_and_tensorboard(package, tmp_path, monkeypatch):
    assert asked(package, "trackio", tmp_path).of("init")[0]["project"] == "heedful"
    monkeypatch.setenv("TRACKIO_PROJECT", "team")
    assert asked(package, "trackio", tmp_path).of("init")[0]["project"] == "team"
    assert asked(package, "trackio", tmp_path, project="p").of("init")[0]["project"] == "p"
    boards = package("torch.utils.tensorboard")
    for shared, folder in ((None, "run/tensorboard"), (str(tmp_path / "boards"), "boards/run")):
        if shared:
            monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", shared)
        assert tracker("tensorboard", tmp_path / "run", config(), 0) is not None
        assert boards.of("SummaryWriter")[-1] == str(tmp_path / folder)


def test_what_is_missing_is_one_sentence_before_training(package, tmp_path, caplog, monkeypatch):
    """Mutation caught: an ImportError after the model has been loaded; a tracker whose network failure ends the run."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="--report-to mlflow needs a package"):
        tracker("mlflow", tmp_path, config(), 0)
    monkeypatch.delitem(sys.modules, "mlflow")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install mlflow"):
        sft.refuse_nonsense(config(report_to="mlflow"))

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    module = package("wandb")
    module.log = broken
    opened = tracker("wandb", tmp_path, config(), 0)
    assert opened is not None
    for step in (1, 2):
        opened.log(step, {"loss": 1.0})
    assert caplog.text.count("no route to host") == 1
    module.init = broken
    with pytest.raises(
        UserError, match="--report-to wandb cannot begin: OSError: no route to host"
    ):
        tracker("wandb", tmp_path, config(), 0)
