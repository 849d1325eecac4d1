"""`heedful compare` on tiny models: runs, resumes, survives a failing method, and draws every checkpoint."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import tiny
from heedful import configs
from heedful.cli import main
from heedful.configs.compare_plan import Entry, Plan, evaluation, read_file
from heedful.configs.typed import made
from heedful.data.sources import write_rows
from heedful.disk import DiskError
from heedful.errors import UserError
from heedful.evals.frontier import hypervolume
from heedful.recipes import compare, evaluate, policy
from heedful.recipes.compare import against, evaluated_checkpoints, read_plan, refuse_edited
from heedful.report.compare_figures import apart, kl_by_beta

pytestmark = pytest.mark.long

DOCS = Path(__file__).parents[2] / "docs" / "results" / "compare"
WORDS = ["Who cares?", "What is 2 + 2?", "Why?", "Name a capital.", "Go on.", "How?"]
SMALL = {"steps": 3, "batch_size": 8, "max_tokens": 6, "learning_rate": 1e-3}


def gold(prompt, response: str) -> float:
    return float(len(response) % 3)


def write(path: Path, plan: dict) -> Path:
    path.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("compare")
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(at / "lm")
    tok.save_pretrained(at / "lm")
    chats = [[{"role": "user", "content": w}] for w in WORDS]
    write_rows(at / "prompts.jsonl", ({"prompt": c} for c in chats))
    pairs = (
        {"prompt": c, "chosen": "Four.", "rejected": f"Five {i}."} for i, c in enumerate(chats)
    )
    write_rows(at / "pairs.jsonl", pairs)
    return at


def plan(at: Path, **changes) -> dict:
    return {
        "out": str(at / "out"), "model": str(at / "lm"), "reward": "tiny:likes_short",
        "data": str(at / "prompts.jsonl"), "comparisons": str(at / "pairs.jsonl"), "seeds": [0, 1],
        "checkpoints": 2, "common": {"learning_rate": 1e-3},
        "methods": {
            "rloo": SMALL,
            "sure": {"method": "dpo", "batch_size": 2, "epochs": 2, "held_out": 0.0},
            "broken": {"method": "rloo", **SMALL, "max_tokens": 4096},
            "best_of_4": None,
        },
        "evaluate": {"data": str(at / "prompts.jsonl"), "scorer": f"{__name__}:gold", "max_tokens": 6},
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def done(at) -> Path:
    """Everything run once; what the tests below look at."""
    assert main(["compare", str(write(at / "plan.yaml", plan(at))), "--quiet"]) == 1
    return at / "out"


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_two_methods_and_two_seeds(done):
    """Points, costs and means are those of the runs' own files.

    Mutation caught: taking the seconds of the run's end for all of its checkpoints; a KL to another model than
    the start; a checkpoint evaluated in place of the finished model.
    """
    methods = {m["label"]: m for m in results(done)["methods"]}
    rloo, dpo = methods["rloo"], methods["sure"]
    assert [p["step"] for p in rloo["points"]] == [1, 3]
    assert [p["step"] for p in dpo["points"]] == [3, 6]
    assert [p["responses"] for p in rloo["points"]] == [8, 24]
    assert [p["optimiser_steps"] for p in rloo["points"]] == [1, 3]
    assert [p["responses"] for p in dpo["points"]] == [0, 0]
    for k, seed in enumerate((0, 1)):
        run = done / "runs" / f"rloo-seed{seed}"
        assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == seed
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for point, step in zip(rloo["points"], (1, 3), strict=True):
            assert point["seconds"]["seeds"][k] == rows[step - 1]["seconds"]
            found = done / "eval" / f"rloo-seed{seed}-{step}" / "evaluation.json"
            told = json.loads(found.read_text())
            for name in ("gold", "reward", "kl", "length"):
                assert point[name]["seeds"][k] == pytest.approx(told[name], abs=2e-6)
            last = run if step == 3 else run / "checkpoints" / "000001"
            assert told["model"] == str(last)
        evaluation = yaml.safe_load((found.parent / "config.yaml").read_text())
        assert evaluation["reference"].endswith("/lm") and evaluation["seed"] == seed
    best = methods["best_of_4"]["points"]
    assert [p["step"] for p in best] == [2, 4] and best[1]["reward"]["mean"] > best[0]["reward"][
        "mean"
    ]
    start = results(done)["start"]
    every = [p for m in methods.values() for p in m["points"]]
    budget = max(kl for p in every for kl in p["kl"]["seeds"])
    for k, area in enumerate(
        rloo["points"][-1]["hypervolume"]["seeds"]
    ):  # not over a budget of its own
        spent = [(p["kl"]["seeds"][k], p["gold"]["seeds"][k]) for p in rloo["points"]]
        assert area == pytest.approx(hypervolume(spent, budget, start["gold"]["mean"]))
    assert start["kl"]["mean"] == 0.0 and best[1]["reward"]["mean"] > start["reward"]["mean"]


def test_wins_are_against_the_start_prompt_by_prompt():
    """Mutation caught: sides swapped; the means compared in place of the prompts."""
    start = {"gold": [0.0, 1.0, 2.0, 5.0]}
    found = against(start, {"gold": [1.0, 2.0, 2.0, 0.0]})
    assert found["win_rate"] == [1.0, 1.0, 0.5, 0.0]
    assert "win_rate" not in against({"reward": [1.0]}, {"reward": [2.0]})


def test_a_failing_method_is_told_of_and_stops_nobody(done):
    """Mutation caught: no `except UserError` around a run; failures left out of the table."""
    broken = next(m for m in results(done)["methods"] if m["label"] == "broken")
    assert broken["points"] == [] and broken["runs"] == 0
    assert [f["seed"] for f in broken["failed"]] == [0, 1]
    assert all("no room for 4096 more" in f["why"] for f in broken["failed"])
    assert not (done / "runs" / "broken-seed0").exists()
    table = (done / "table.md").read_text(encoding="utf-8")
    assert re.search("- broken, seeds 0, 1, failed: .*no room for 4096 more", table)
    assert "no room for 4096 more" in (done / "compare.html").read_text(encoding="utf-8")


def test_the_figures_have_every_checkpoint(done):
    """A large marker for each checkpoint of a method and a small one for each run at it; best of n has no time.

    Mutation caught: leaving out the first or the last point; a method without a label; the start missing.
    """
    page = (done / "compare.html").read_text(encoding="utf-8")
    charts = re.findall(r'<svg viewBox[^>]*class="chart compare".*?</svg>', page, re.S)
    assert len(charts) == 4  # gold and proxy, against KL and against time
    for chart, points in zip(charts, (6, 4, 6, 4), strict=True):
        assert len(re.findall(r"<g><title>(?!start)", chart)) == points
        assert chart.count('class="run-dot"') == 2 * points
        assert chart.count('class="ci"') == points
        labels = re.findall(r'class="note">([^<]*)<', chart)
        assert sorted(labels) == ["best_of_4", "rloo", "start", "sure"]
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_kl_against_beta(at, tmp_path):
    """What differs by β alone is a line, in the order of β; a failed run and one of its own kind are none.

    Mutation caught: methods of other epochs on one line; β of the part for KL overlooked; β in the order of the file.
    """
    dpo, ppo = {"method": "dpo", "batch_size": 2}, {"method": "ppo", **SMALL}
    methods = {
        "dpo-1": dpo | {"beta": 1.0}, "dpo-.1": dpo | {"beta": 0.1}, "long": dpo | {"epochs": 9},
        "ppo-.1": ppo | {"beta": 0.1}, "ppo-.3": ppo | {"beta": 0.3}, "best_of_4": None,
    }  # fmt: skip
    _, entries = read_file(write(tmp_path / "plan.yaml", plan(at, methods=methods)))
    told = [compare.alike_but_beta(entry, entries) for entry in entries]
    first = ["dpo-1", "dpo-1", "long", "ppo-.1", "ppo-.1", None]
    assert [t.get("beta_of") for t in told] == first
    assert [t.get("beta") for t in told] == [1.0, 0.1, 0.1, 0.1, 0.3, None]

    def point(kl: float) -> list[dict]:
        return [{"kl": {"mean": kl, "ci": [kl - 0.1, kl + 0.1]}}]

    kls = [0.5, 2.0, 3.0, 4.0, None, 1.8]
    named = [
        {"label": e.label, "method": e.method, **t} for e, t in zip(entries, told, strict=True)
    ]
    ends = [m | {"points": point(kl) if kl else []} for kl, m in zip(kls, named, strict=True)]
    chart = kl_by_beta({"methods": ends})
    assert chart is not None and '<desc id="f-kl-beta-d">dpo: 2.00 to 0.50</desc>' in chart
    assert kl_by_beta({"methods": ends[2:]}) is None


def test_again_nothing_is_made_anew(done, at, capsys):
    """Mutation caught: training or evaluating what is finished; results that change when they are read again."""
    before = {p: os.stat(p).st_mtime_ns for p in done.rglob("*") if p.is_file()}
    drawn = {"results.json", "table.md", "compare.html", "sources.json"}
    told = results(done)
    assert main(["compare", str(at / "plan.yaml")]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        last.startswith("compare: 1 of 4 methods failed: broken: ")
        and "no room for 4096 more" in last
    )
    assert results(done) == told
    after = {p: os.stat(p).st_mtime_ns for p in done.rglob("*") if p.is_file()}
    assert after.keys() == before.keys()
    assert {p.name for p in after if after[p] != before[p]} <= drawn


@pytest.mark.long
def test_a_changed_run_is_refused_and_a_changed_evaluation_made_again(at, tmp_path, capsys):
    """Mutation caught: old numbers under a new config; `quiet` taken for a change; save_every, which follows
    from the steps, named in their place; with people's answers, wins against the start, or no line for their gold."""
    rows = [
        {"prompt": [{"role": "user", "content": w}], "completion": "x" * k}
        for k, w in enumerate(WORDS, 1)
    ]
    write_rows(tmp_path / "people.jsonl", rows)
    only = {
        "people": str(tmp_path / "people.jsonl"),
        "methods": {"raft": SMALL | {"group_size": 4}},
        "seeds": [0],
        "out": str(tmp_path / "out"),
    }
    path = tmp_path / "plan.yaml"
    assert main(["compare", str(write(path, plan(at, **only, checkpoints=1)))]) == 0
    weights = tmp_path / "out" / "runs" / "raft-seed0" / "model.safetensors"
    made_at = weights.stat().st_mtime_ns
    told = results(tmp_path / "out")
    assert told["people"]["gold"]["mean"] == 1.0  # lengths 1 to 6, modulo 3
    for name, wins in (
        ("start", told["start"]["win_rate"]),
        ("raft-seed0-3", told["methods"][0]["points"][0]["win_rate"]),
    ):
        found = (
            json.loads(x)
            for x in (tmp_path / "out/eval" / name / "samples.jsonl").read_text().splitlines()
        )
        won = [
            0.5 * (1 + (r["gold"] > k % 3) - (r["gold"] < k % 3)) for k, r in enumerate(found, 1)
        ]
        assert wins["mean"] == pytest.approx(sum(won) / 6)
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "wins against people" in page and page.count('class="note">people&#39;s answers<') == 2
    fewer = plan(at, **only, checkpoints=1)
    fewer["evaluate"]["limit"] = 2
    assert main(["compare", str(write(path, fewer)), "--quiet"]) == 0
    assert results(tmp_path / "out")["prompts"] == 2
    assert weights.stat().st_mtime_ns == made_at
    only["methods"]["raft"] = only["methods"]["raft"] | {"temperature": 0.5}
    capsys.readouterr()
    assert main(["compare", str(write(path, plan(at, **only, checkpoints=1)))]) == 2
    assert "was made with temperature 1.0, not 0.5" in capsys.readouterr().err
    assert results(tmp_path / "out")["title"] == "heedful: 1 method, 1 seed"
    for changed, told in (
        ({"steps": 6}, "steps 3, not 6"),
        ({"lora": {"rank": 2}}, "lora.rank 0, not 2"),
    ):
        only["methods"]["raft"] = SMALL | {"group_size": 4} | changed
        assert main(["compare", str(write(path, plan(at, **only, checkpoints=2)))]) == 2
        assert f"was made with {told}" in capsys.readouterr().err


WRONG = {
    "method": ({"methods": {"roo": {}}}, "no method 'roo' (did you mean 'rloo'?)"),
    "field": ({"methods": {"rloo": {"bta": 1}}}, "unknown field 'bta' (did you mean 'beta'?)"),
    "key": ({"seed": [1]}, "unknown field 'seed' (did you mean 'seeds'?)"),
    "common": ({"common": {"max_tokens": 2}}, "dpo has no field 'max_tokens'"),
    "value": ({"methods": {"rloo": {"steps": "many"}}}, "steps is 'many', expected a whole number"),
    "choice": ({"methods": {"rloo": {"kl": "los"}}}, "(did you mean 'loss'?)"),
    "ours": ({"methods": {"rloo": {"seed": 3}}}, "'seed' is the same for every method"),
    "label": ({"methods": {"../rloo": {}}}, "a label names folders"),
    "one": ({"methods": {"best_of_1": {}}}, "take 2 or more"),
    "evaluate": ({"evaluate": {"data": "x", "scorers": "y"}}, "(did you mean 'scorer'?)"),
    "reference": ({"evaluate": {"data": "x", "reference": "y"}}, "set by compare itself"),
    "people": (
        {"people": "p.jsonl", "evaluate": {"data": "x"}},
        "`people` needs a scorer or a judge",
    ),
    "comparisons": ({"comparisons": None}, "`comparisons` is not given"),
    "seeds": ({"seeds": [1, 1]}, "duplicate seed"),
    "group": (
        {"methods": {"rloo": {"batch_size": 6}}},
        "methods.rloo: --batch-size 6 is no multiple of",
    ),
    "losses": (
        {"methods": {"simpo": {"reference": "m"}}},
        "methods.simpo: reference would have no effect, because --loss simpo reads no reference",
    ),
    "pairs of one": ({"methods": {"online_dpo": {"n": 1}}}, "needs at least 2 responses"),
    "lora": ({"methods": {"dpo": {"lora": {"alpha": 4}}}}, "have no effect without --lora.rank"),
    "unread": ({"methods": {"raft": {"beta": 1}}}, "methods.raft: beta would have no effect"),
    "none": ({"methods": {}}, "at least one method"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_before_anything_runs(at, tmp_path, capsys, what):
    """One sentence, exit code 2, nothing made. Mutation caught: a check that waits for the run to begin."""
    changes, sentence = WRONG[what]
    broken = plan(at, out=str(tmp_path / "out")) | changes
    assert main(["compare", str(write(tmp_path / "plan.yaml", broken))]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and said.startswith("heedful: ") and "\n" not in said
    assert not (tmp_path / "out").exists()


def test_unreadable_plans(tmp_path, capsys):
    for text, sentence in (
        ("a: [", "not YAML"),
        ("- a", "expected keys and values"),
        ("", "expected"),
    ):
        (tmp_path / "plan.yaml").write_text(text)
        assert main(["compare", str(tmp_path / "plan.yaml")]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml: No such file" in capsys.readouterr().err


def test_values_become_the_types_of_the_fields():
    """YAML 1.1 reads 1e-4 as text, and 1 is no truth. Mutation caught: values passed on as they are."""
    config = made(
        evaluate.Config,
        {
            "model": "m",
            "data": "d",
            "out": "o",
            "temperature": "5e-1",
            "limit": None,
            "max-tokens": 3,
        },
        "here",
    )
    assert (config.temperature, config.limit, config.max_tokens, config.out) == (
        0.5,
        None,
        3,
        Path("o"),
    )
    with pytest.raises(UserError, match=r"here: quiet is 1, expected true or false"):
        made(evaluate.Config, {"model": "m", "data": "d", "out": "o", "quiet": 1}, "here")
    with pytest.raises(UserError, match=r"here: 'out' is missing"):
        made(evaluate.Config, {"model": "m", "data": "d"}, "here")
    given = {"model": "m", "data": "d", "out": "o", "reward": "r", "ptx": {"cof": 1}}
    with pytest.raises(UserError, match=r"here: ptx: unknown field 'cof'"):
        made(policy.Config, given, "here")


def test_evaluations_sample_as_the_methods_do_unless_told_otherwise(at):
    """Mutation caught: 16 tokens in training and 48 in the evaluation; a judge of the start against itself."""
    loose = {"data": str(at / "prompts.jsonl"), "scorer": f"{__name__}:gold"}
    common = {"learning_rate": 1e-3, "temperature": 0.7}
    for told, expected in (({}, 6), ({"max-tokens": 9}, 9)):
        file = write(
            at / "loose.yaml",
            plan(at, evaluate=loose | told, common=common, methods={"rloo": SMALL}),
        )
        read, _ = read_file(file)
        start = evaluation(read, "start", read.model, seed=0, reference=None)
        assert (start.max_tokens, start.temperature) == (expected, 0.7)
    judged = write(
        at / "loose.yaml",
        plan(at, evaluate=loose | {"judge": "capitals"}, common={"learning_rate": 1e-3}),
    )
    read, _ = read_file(judged)
    assert evaluation(read, "start", read.model, seed=0).judge is None
    other = evaluation(read, "rloo-seed0-1", read.model, seed=0)
    assert (other.judge, other.baseline) == (
        "capitals",
        str(at / "out" / "eval" / "start" / "samples.jsonl"),
    )


def test_evaluated_checkpoints_are_evenly_spread_and_end_with_the_finished_model(tmp_path):
    """Mutation caught: the first checkpoints in place of spread ones; the last step twice."""
    for step in (5, 10, 15, 20):
        (tmp_path / "checkpoints" / f"{step:06d}").mkdir(parents=True)
    assert [s for s, _ in evaluated_checkpoints(tmp_path, 21, 4)] == [5, 10, 15, 21]
    assert [s for s, _ in evaluated_checkpoints(tmp_path, 20, 2)] == [10, 20]
    assert evaluated_checkpoints(tmp_path, 20, 1) == [(20, tmp_path)]
    assert [s for s, _ in evaluated_checkpoints(tmp_path, 20, 9)] == [5, 10, 15, 20]


def test_optimiser_steps_leave_the_critics_warm_up_out():
    """PPO: 128 responses in minibatches of 64, 4 epochs; in 2 of 5 rounds only the critic learns."""
    config = policy.Config(out=Path("o"), model="m", reward=("r",), data="d")
    entry = Entry(label="ppo", method="ppo", flags=configs.policy, config=config)
    assert entry.cost(5).optimiser_steps == 3 * 4 * 2
    assert entry.cost(1).optimiser_steps == 0
    assert entry.cost(5).responses == 5 * 128


@pytest.mark.parametrize("file", ["capitals.yaml", "preferences.yaml"])
def test_the_ready_files_are_right(tmp_path, monkeypatch, file):
    """Every field exists, and what samples samples equally much. Mutation caught: a preset that is left out."""
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    row = {"prompt": "a", "responses": ["b", "c", "d"], "ranking": [1, 2, 3]}
    write_rows(folder / "comparisons.jsonl", [row] * 2800)
    monkeypatch.chdir(tmp_path)
    plan, entries = read_plan(DOCS / file)
    methods = {e.method for e in entries}
    if file == "capitals.yaml":
        assert set(configs.policy.METHODS) <= methods
        sampled = [e for e in entries if e.flags is configs.policy]
        costs = [e.cost(e.config.steps).responses for e in sampled]
        assert set(costs) == {2688}
        dpo = next(e for e in entries if e.method == "dpo").config
        assert dpo.save_every == 15 and plan.checkpoints == 4  # of about 62 steps
    else:
        assert set(configs.preference.METHODS) <= methods


def test_the_example_of_the_page_is_right(tmp_path, monkeypatch):
    """Mutation caught: a key of docs/compare.md that the command does not know."""
    text = (DOCS.parents[1] / "compare.md").read_text(encoding="utf-8")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    write_rows(
        tmp_path / "runs/demo/comparisons.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    )
    (tmp_path / "plan.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.S)[0])
    monkeypatch.chdir(tmp_path)
    plan, entries = read_plan(Path("plan.yaml"))
    assert [e.method for e in entries] == ["rloo", "dpo", "rloo", "best_of_16"]
    assert entries[2].config.kl.beta == 0.5 and entries[2].config.learning_rate == 5e-4
    assert entries[1].run_config(plan, 2).out == Path("runs/compare/runs/dpo-seed2")


def test_labels_keep_apart_and_near_their_ends():
    """Least squares by hand: three at 50 with space 10 go to 40, 50, 60. Mutation caught: pushing downwards only."""
    assert apart([50, 50, 50], low=0, high=100, space=10) == [40, 50, 60]
    assert apart([10, 40, 90], low=0, high=100, space=10) == [10, 40, 90]
    assert apart([0, 2, 80], low=0, high=100, space=10) == [0, 10, 80]
    assert apart([98, 99, 100], low=0, high=100, space=10) == [80, 90, 100]
    assert apart([5, 5, 5], low=0, high=10, space=10) == [0, 10, 20]


def test_functions_that_were_edited_are_no_part_of_one_table(tmp_path, monkeypatch):
    """Mutation caught: half of the runs by one reward, half by another, side by side without a word."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "gold"):
        (tmp_path / f"{name}.py").write_text("def score(prompt, response): return 0.0")
    plan = Plan(
        out=tmp_path / "out", model="m", data="d", reward="mine:score", methods={"rloo": {}},
        evaluate={"data": "e", "scorer": "gold:score"},
    )  # fmt: skip
    refuse_edited(plan)
    refuse_edited(replace(plan, seeds=(4,)))
    (tmp_path / "gold.py").write_text("def score(prompt, response): return 1.0")
    with pytest.raises(UserError, match="gold was edited since what is in"):
        refuse_edited(plan)


def test_a_full_disk_is_no_methods_fault(at, tmp_path, monkeypatch, capsys):
    """All others would meet it, too. Mutation caught: a table in which every method has failed, and exit code 1."""

    def full(*_):
        raise DiskError("cannot save a: no space left on device")

    monkeypatch.setattr(compare, "tried", full)
    monkeypatch.setattr(compare, "measured", lambda _: {"length": [1.0]})
    file = write(tmp_path / "plan.yaml", plan(at, out=str(tmp_path / "out")))
    assert main(["compare", str(file), "--quiet"]) == 2
    assert "heedful: cannot save a: no space left on device" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
