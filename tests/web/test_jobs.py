"""Training from the web: a process of its own, which outlives the server, one at a time, for owners."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from heedful.errors import UserError
from heedful.web import job_parent, jobs
from workspace import make_project

SLOW = """\
import signal, sys, time
def stop(*_):
    print("saving", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("ready \\u00e9", flush=True)
time.sleep(60)
"""


@pytest.fixture
def command(stand_in: Any) -> Any:
    """`command(code)`: what stands in for heedful, with the parent of jobs."""

    def write(code: str) -> None:
        place = stand_in(code)
        (place / "web").mkdir(exist_ok=True)
        (place / "web" / "__init__.py").write_text("")
        (place / "web" / "job_parent.py").write_text(Path(job_parent.__file__).read_text())

    return write


def start(workspace: Path, name: str = "one") -> jobs.Job:
    return jobs.start(workspace, "iterate", {"x": 1}, name=name, out=f"runs/{name}", actor="me")


def until(workspace: Path, job: jobs.Job, what: Any, seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, jobs.log(workspace, job)["text"]
        time.sleep(0.02)


def has_ended(workspace: Path, job: jobs.Job) -> bool:
    return jobs.state(workspace, job)["state"] != "running"


def test_a_job_is_followed_and_stopped(tmp_path: Path, command: Any):
    """One at a time; asked to stop it saves and says with which signal it ended; the log comes piece by piece.

    Mutations caught: a stop that ends the parent alone; SIGKILL in place of SIGTERM; a second job at the same time."""
    command(SLOW)
    job = start(tmp_path)
    until(tmp_path, job, lambda: "ready é" in jobs.log(tmp_path, job)["text"])
    first = jobs.log(tmp_path, job)
    assert jobs.log(tmp_path, job, first["next"]) == {"text": "", "next": first["next"]}
    with pytest.raises(UserError, match="'one' is running"):
        start(tmp_path, "two")
    assert jobs.stop(tmp_path, job)
    until(tmp_path, job, lambda: has_ended(tmp_path, job))
    told = jobs.state(tmp_path, job)
    assert (told["state"], told["code"]) == ("stopped", 143)
    assert jobs.log(tmp_path, job, first["next"])["text"] == "saving\n"
    assert not jobs.stop(tmp_path, job)
    assert [j.name for j in jobs.listed(tmp_path)] == ["one"]
    assert (tmp_path / "jobs" / job.id / "config.yaml").stat().st_mode & 0o077 == 0


def test_a_job_that_is_killed_is_told_as_ended(tmp_path: Path, command: Any):
    """Parent and all, so that nobody writes down how. Mutation caught: whoever wrote no end runs for ever."""
    command(SLOW)
    job = start(tmp_path)
    until(tmp_path, job, lambda: "ready" in jobs.log(tmp_path, job)["text"])
    assert jobs.stop(tmp_path, job, force=True)
    until(tmp_path, job, lambda: has_ended(tmp_path, job))
    assert jobs.state(tmp_path, job) == {"state": "ended", "code": None, "ended_at": None}
    start(tmp_path, "two")
    (two, _) = jobs.listed(tmp_path)
    jobs.stop(tmp_path, two, force=True)


def test_a_job_outlives_the_server(tmp_path: Path, command: Any):
    """Started by a process that is killed; another one sees it run, and how it ended."""
    command("import time; time.sleep(2); raise SystemExit(2)")
    code = (
        f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "from heedful.web import jobs; from pathlib import Path\n"
        f"jobs.start(Path({str(tmp_path)!r}), 'iterate', {{}}, name='one', out='runs/one', actor='me')\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    # PYTHONPATH is the stand-in's, for the job; the server that starts it is the real one.
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == -signal.SIGKILL
    (job,) = jobs.listed(tmp_path)
    assert jobs.state(tmp_path, job)["state"] == "running"
    until(tmp_path, job, lambda: has_ended(tmp_path, job))
    assert jobs.state(tmp_path, job)["code"] == 2
    assert jobs.state(tmp_path, job)["state"] == "failed"


def test_what_is_started_from_the_web(tmp_path: Path, person: Any, store: Any, command: Any):
    """Names out of lists and numbers, so that no config can name a function; only by an owner; the config is what the
    form said. Mutation caught: a model or a method that is on no list."""
    command("import sys; print(open(sys.argv[2]).read()); print('done')")
    project = make_project(store, "towns")
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    (tmp_path / "runs" / "sft" / "config.json").write_text("{}")
    owner, lead = person("owner"), person("lead")
    place = f"/api/projects/{project}/jobs"
    good = {"command": "iterate", "name": "first", "model": "runs/sft", "rounds": 2, "beta": 0.2}
    assert lead.browser.post(place, json=good).status_code == 403
    for wrong, status, words in (
        ({"model": "os:system"}, 400, "none of the models"),
        ({"model": "../.."}, 400, "none of the models"),
        ({"method": "dpoo"}, 400, "did you mean 'dpo'"),
        ({"name": "../x"}, 400, "a run is named by"),
        ({"name": "-x"}, 400, "a run is named by"),
        ({"rounds": 0}, 422, "rounds"),
        ({"command": "train"}, 422, "command"),
    ):
        refused = owner.browser.post(place, json=good | wrong)
        assert refused.status_code == status and words in refused.json()["error"], wrong
    assert jobs.listed(tmp_path) == []
    made = owner.browser.post(place, json=good)
    assert made.status_code == 201, made.text
    job = jobs.find(tmp_path, made.json()["id"])
    until(tmp_path, job, lambda: has_ended(tmp_path, job))
    told = owner.browser.get(f"/api/jobs/{job.id}").json()
    assert told["state"] == "finished" and told["log"]["text"].endswith("done\n")
    config = yaml.safe_load(told["config"])
    assert config["optimise"] == {"method": "dpo", "beta": 0.2}
    assert (config["project"], config["rounds"], config["out"]) == ("towns", 2, "runs/first")
    assert config["keep"] == [config["prompts"]] == ["db:.#towns"]
    assert [j["id"] for j in owner.browser.get("/api/jobs").json()] == [job.id]
    assert owner.browser.post(f"/api/jobs/{job.id}/stop", json={}).json() == {"stopped": False}
    assert owner.browser.get("/api/jobs/x").status_code == 400
    both = {"reward": "runs/sft", "methods": ["dpo", "rloo"], "command": "compare", "seeds": 2}
    made = owner.browser.post(place, json={"name": "both", "model": "runs/sft"} | both)
    job = jobs.find(tmp_path, made.json()["id"])
    until(tmp_path, job, lambda: has_ended(tmp_path, job))
    config = yaml.safe_load(jobs.config_of(tmp_path, job))
    assert list(config["methods"]) == ["dpo", "rloo"] and config["seeds"] == [0, 1]


def test_the_configs_are_what_the_commands_take(tmp_path: Path):
    """Mutation caught: a field that heedful iterate or compare has no more; a method that the page does not offer."""
    from heedful.configs import compare_plan, policy, preference
    from heedful.configs import iterate as iterate_config
    from heedful.configs.commands import methods
    from heedful.configs.typed import made
    from heedful.web import training

    assert tuple(sorted(methods(preference, policy))) == training.METHODS
    form = training.Round(command="iterate", name="r", model="m", epochs=1.0, weights="raters")
    config, _ = training.iterate(form, "p")
    assert config["weights"] == "raters"
    iterate_config.refuse_nonsense(made(iterate_config.Config, config, "form"))
    both = ["dpo", "rloo"]
    compared = training.Comparison(
        command="compare", name="c", model="m", reward="r", methods=both, steps=2
    )
    config, _ = training.compare(compared, "p")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    compare_plan.read_file(tmp_path / "c.yaml")


@pytest.mark.long
def test_rounds_are_trained_from_the_web(tmp_path: Path, person: Any, store: Any):
    """The real command: the model answers, a rater judges, it is trained, and the next round's questions come.

    Mutation caught: a config that the command takes and cannot run, such as prompts that it does not find."""
    import tiny
    from heedful.store.project import content
    from workspace import answer, claim, make_rater

    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(tmp_path / "runs" / "sft")
    tok.save_pretrained(tmp_path / "runs" / "sft")
    (tmp_path / "heedful.toml").write_text("")
    project, ada = make_project(store, "towns"), make_rater(store)
    with store.write() as connection:
        asked = [(f"The capital of land {i}? ", content.Origin()) for i in range(30)]
        content.add_prompts(connection, project, asked)
    form = {
        "command": "iterate",
        "name": "first",
        "model": "runs/sft",
        "rounds": 2,
        "prompts_per_round": 6,
    }
    form |= {"max_tokens": 8, "device": "cpu", "keep": False, "epochs": 1}
    owner = person("owner").browser
    made = owner.post(f"/api/projects/{project}/jobs", json=form)
    assert made.status_code == 201, made.text
    job, answers = jobs.find(tmp_path, made.json()["id"]), 0

    def judged() -> bool:
        nonlocal answers
        if given := claim(store, project, ada):
            answer(store, given, ada, {"value": 2})
            answers += 1
        return has_ended(tmp_path, job)

    until(tmp_path, job, judged, 300)
    told = owner.get(f"/api/jobs/{job.id}").json()
    assert (told["state"], answers) == ("finished", 12), told["log"]["text"]
    assert (tmp_path / "runs" / "first" / "round-2" / "policy" / "config.json").exists()
    assert len(told["runs"]) == 4  # a reward model and a policy of each round


@pytest.mark.long
def test_methods_are_compared_from_the_web(tmp_path: Path, person: Any, store: Any):
    """The real command: two methods trained and measured on what a project's raters said, and a report.

    Mutation caught: a config that the command takes and cannot run, such as a project without held-out prompts."""
    from transformers import AutoModelForSequenceClassification

    import tiny
    from workspace import answer, claim, make_rater, make_task

    tok, runs = tiny.tokenizer(), tmp_path / "runs"
    tiny.policy(tok).save_pretrained(runs / "sft")
    tok.save_pretrained(runs / "sft")
    scoring = AutoModelForSequenceClassification.from_pretrained(runs / "sft", num_labels=1)
    scoring.save_pretrained(runs / "reward")
    tok.save_pretrained(runs / "reward")
    (tmp_path / "heedful.toml").write_text("")
    project, ada = make_project(store, "towns"), make_rater(store)
    for i in range(40):
        asked = f"The capital of land {i}? "
        make_task(store, project, question=asked, responses=(f"Lima {i}.", "No."))
    while given := claim(store, project, ada):
        answer(store, given, ada, {"value": 2})
    form = {"command": "compare", "name": "both", "model": "runs/sft", "reward": "runs/reward"}
    form |= {"methods": ["dpo", "rloo"], "seeds": 1, "checkpoints": 1, "steps": 2, "max_tokens": 8}
    owner = person("owner").browser
    made = owner.post(f"/api/projects/{project}/jobs", json=form)
    assert made.status_code == 201, made.text
    job = jobs.find(tmp_path, made.json()["id"])
    until(tmp_path, job, lambda: has_ended(tmp_path, job), 300)
    told = owner.get(f"/api/jobs/{job.id}").json()
    assert told["state"] == "finished", told["log"]["text"]
    assert len(told["runs"]) == 2  # a policy of each method
    page = owner.get(f"/api/runs/{told['report']}/report")
    assert page.status_code == 200 and "dpo" in page.text and "rloo" in page.text
