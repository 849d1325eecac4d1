"""A run's folder: whole or absent, whatever happens on the way."""

import errno
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from heedful import registry
from heedful.configs import iterate
from heedful.disk import write_folder
from heedful.errors import UserError
from heedful.remote.sources import sources
from heedful.run import Run, finished, plain, state
from heedful.run.settings import DATA, FREE, INPUTS, changes, identity
from heedful.run.stop import locked


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
    assert changes(tmp_path, before, now) == []
    here = {"versions": {"torch": "2", "heedful": "1"}, "machine": {"kernels": "native"}}
    there = {"versions": {"torch": "1"}, "machine": {"kernels": "off"}}
    assert [told.partition(" (")[0] for told in changes(tmp_path, before | there, now | here)] == [
        "torch: 1 before, 2 now",
        "heedful: an earlier one before, 1 now",
        "kernels: off before, native now",
    ]
    with pytest.raises(UserError, match=r"lam was 0\.9, is 0\.95"):
        changes(tmp_path, {**before, "settings": {**old, "lam": 0.9}}, now)
    with pytest.raises(UserError, match="one of online, not of policy"):
        changes(tmp_path, {**before, "recipe": "heedful.recipes.configs.online"}, now)


def test_a_flag_that_an_earlier_release_did_not_know_is_no_difference(tmp_path):
    """While it has its default. Mutation caught: an upgrade that no unfinished run survives; a new flag that somebody
    has set, or a change back to the default, that is not seen."""
    before = {"recipe": "policy", "settings": {"lr": 1.0}, "inputs": {}}
    now = {**before, "settings": {"lr": 1.0, "judged": "turn"}, "usual": ["judged"]}
    assert changes(tmp_path, before, now) == []
    with pytest.raises(UserError, match="judged was None, is turn"):
        changes(tmp_path, before, {**now, "usual": []})
    known = {**before, "settings": {"lr": 1.0, "judged": "episode"}}
    with pytest.raises(UserError, match="judged was episode, is turn"):
        changes(tmp_path, known, now)


def test_the_document_says_what_a_run_is(tmp_path):
    """Mutation caught: a part of the identity, or a flag that may differ, that the page does not know, or no more."""
    text = (Path(__file__).parents[1] / "docs" / "resume.md").read_text(encoding="utf-8")
    table = text.partition("<!-- identity: begin -->")[2].partition("<!-- identity: end -->")[0]
    rows = [line.split("|")[1:4] for line in table.strip().splitlines()[2:]]
    parts = {name.strip(" `"): what for name, what, _ in rows}
    now = identity({"device": "cpu"})
    assert list(parts) == list(now)
    assert set(re.findall(r"--([\w.-]+)", parts["inputs"])) == {x.replace("_", "-") for x in INPUTS}
    assert set(re.findall(r"`(\w+)`", parts["versions"])) == set(now["versions"])
    assert set(re.findall(r"`(\w+)`", parts["machine"])) == set(now["machine"])
    free = text.partition("may differ when a run goes on:")[2].partition("`--out`")[0]
    named = {name.replace("-", "_") for name in re.findall(r"--([\w.-]+)", free)}
    assert named == {*FREE, *DATA}
    of_iterate = text.partition("keeps the same of itself in")[2]
    may, rows_of = (re.search(f"{words} `(.*?)`", of_iterate) for words in ("Its", "rows of its"))
    assert may and set(may[1].split()) == set(iterate.FREE)
    assert rows_of and set(rows_of[1].split()) == set(iterate.ROWS)
    fields = set(iterate.Config.__dataclass_fields__)
    assert {*iterate.FREE, *iterate.ROWS, *iterate.INPUTS} <= fields


def test_whose_code_is_in_it(tmp_path, monkeypatch):
    """A function's module and what it imports from beside it, however it is named; found without being run.

    Mutation caught: the module alone; a plug-in's name; the standard library, or a model's name with a colon.
    """
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mod.py").write_text("from .words import (\n    LIST,\n)\nraise SystemExit\n")
    (package / "words.py").write_text("import other\nLIST = []\n")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "apart.py").write_text("")
    monkeypatch.chdir(tmp_path)

    def of(**config) -> dict[str, str]:
        return sources(config)

    config = {
        "reward": ["numeric", "x=mine.mod:score(price=1)", "ensemble(./other.py:a, runs/b)"],
        "device": "cuda:0", "model": "llm:org/name", "judge": "http://localhost:80/v1#m", "loss": "json:loads",
    }  # fmt: skip
    before = of(**config)
    assert set(before) == {"mine.mod", "./other.py"}
    (tmp_path / "apart.py").write_text("changed = 1")
    assert of(**config) == before
    for file in (package / "mod.py", package / "words.py"):
        file.write_text(file.read_text() + "# another\n")
        assert {m for m, x in of(**config).items() if x != before[m]} == {"mine.mod"}
        before = of(**config)
    (tmp_path / "other.py").write_text("changed = 1")
    assert all(digest != before[module] for module, digest in of(**config).items())
    entry = registry.Entry("loss", "theirs", "mine.mod:loss")
    monkeypatch.setattr(
        registry, "entries", lambda kind: {"theirs": entry} if kind == "loss" else {}
    )
    assert set(of(loss="theirs", surrogate="theirs")) == {"mine.mod"}


def test_what_a_late_kill_leaves_is_tidied_by_whoever_asks(tmp_path):
    """`compare` and `iterate` ask whether a run is finished, and begin none that is.

    Mutation caught: gigabytes of state and half-moved files for ever; a folder that nobody locked touched.
    """
    out = tmp_path / "run"
    with opened(out) as run:
        run.finish(model("new"))
    left = ("state", ".state.old.partial", ".final.partial")
    (out / "state").mkdir()
    assert finished(out) and (out / "state").exists()
    for locks in (True, False):  # killed, or stopped by an error of the disk
        for name in left:
            (out / name).mkdir(exist_ok=True)
        with locked(out):
            assert finished(out) and all((out / name).exists() for name in left)
        if locks:
            (out / ".lock").write_text("1")
        assert finished(out) and not any((out / name).exists() for name in (*left, ".lock"))
    assert not finished(tmp_path)


def test_the_state_of_a_newer_version_is_refused(tmp_path):
    """As a database is: in a sentence that says what to do. One without a number was saved before there was one."""
    states = state.States(tmp_path / "state")
    states.write({"part": state.Holder({"x": 1})}, {"step": 1})
    manifest = tmp_path / "state" / "000001" / state.MANIFEST
    told = json.loads(manifest.read_text())
    for number, refused in ((None, False), (state.FORMAT, False), (state.FORMAT + 1, True)):
        told.pop("format")
        manifest.write_text(json.dumps(told | {"format": number} if number else told))
        told["format"] = number
        if refused:
            with pytest.raises(UserError, match=r"newer heedful \(format 2.*upgrade heedful"):
                states.newest()
        else:
            assert states.newest().step == 1
