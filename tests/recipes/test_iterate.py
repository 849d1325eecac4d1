"""The loop over people: it waits, goes on where it was, and learns from what was said."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from sqlalchemy import func, select

import postgres
from heedful.cli import main
from heedful.configs.common import Lora
from heedful.configs.iterate import Ask
from heedful.configs.optimise import Optimise
from heedful.configs.policy import METHODS as ONLINE
from heedful.configs.preference import METHODS as OFFLINE
from heedful.data.files import write_rows
from heedful.data.shown import as_messages
from heedful.data.sources import prompt_from_json, read_comparisons, read_prompts
from heedful.errors import Stopped, UserError
from heedful.learner.local import LocalLearner
from heedful.recipes import init, iterate, iterate_asking, reward_model
from heedful.remote.journal import Journal
from heedful.run import Run
from heedful.store.database import patience
from heedful.store.database.db import Store, open_store
from heedful.store.lead import reports, rounds
from heedful.store.project import content, projects
from heedful.store.rating import show
from heedful.store.tables import schema
from heedful.web.routes.lead import rendered as lead_rendered
from heedful.web.routes.rate import payload
from killed import Killed, killed_after
from tiny import policy, tokenizer
from workspace import answer, claim, make_rater


@pytest.fixture
def config(tmp_path: Path) -> iterate.Config:
    """A tiny model, a workspace, eight prompts to learn from and three to evaluate on."""
    tok = tokenizer()
    policy(tok).save_pretrained(tmp_path / "model")
    tok.save_pretrained(tmp_path / "model")
    prompts = tmp_path / "prompts.jsonl"
    write_rows(prompts, ({"prompt": [{"role": "user", "content": f"{i}?"}]} for i in range(8)))
    evaluated = tmp_path / "evaluated.jsonl"
    write_rows(evaluated, ({"prompt": f"{i}!"} for i in range(3)))
    init.run(init.Config(folder=tmp_path / "work"))
    return iterate.Config(
        model=str(tmp_path / "model"),
        prompts=str(prompts),
        out=tmp_path / "work" / "runs" / "rounds",
        workspace=tmp_path / "work",
        project="p",
        rounds=1,
        prompts_per_round=4,
        max_tokens=6,
        raters=("tiny:likes_short",),
        held_out=str(evaluated),
        quiet=True,
    )


def changed(config: iterate.Config, **values) -> iterate.Config:
    return iterate.Config(**(vars(config) | values))


def count(config: iterate.Config, table) -> int:
    store = open_store(config.workspace)
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_two_rounds_of_simulated_raters(config: iterate.Config):
    """The second round samples from the first one's policy, asks about what the first one's reward model is unsure of,
    and learns from both rounds' answers. Mutations caught: all K responses asked about, chance in the second round
    too, the propensity of a prompt for that of its pair."""
    ask = Ask(strategy="bald", uniform=0.25)
    config = changed(config, rounds=2, responses=3, weights="raters", ask=ask)
    last = iterate.run(config)
    assert last == config.out / "round-2" / "policy"
    fits = [(last.parent / name / "raters.json").read_bytes() for name in ("reward", "policy")]
    first = (config.out / "round-1" / "reward" / "raters.json").read_bytes()
    assert fits[0] == fits[1] != first and json.loads(fits[0])["weights"]
    assert "raters.json" in (last / "README.md").read_text()
    rows = [
        (config.out / f"round-{r}" / "comparisons.jsonl").read_text().splitlines() for r in (1, 2)
    ]
    both = (config.out / "round-2" / "all_comparisons.jsonl").read_text().splitlines()
    train = [
        x
        for x in rows[0] + rows[1]
        if content.split_of(prompt_from_json(json.loads(x)["prompt"])) == "train"
    ]
    assert both == train != rows[0] + rows[1]
    assert count(config, schema.checkpoint) == 3  # the model it began with, and one of each round
    store = open_store(config.workspace)
    with store.read() as connection:
        runs = {row.id: row for row in connection.execute(select(schema.run))}
        asked = connection.execute(select(schema.task).order_by(schema.task.c.round)).all()
        made = connection.execute(
            select(schema.checkpoint).where(schema.checkpoint.c.path == str(last))
        ).one()
    assert [len(task.completions) for task in asked] == [2] * 8
    assert {(task.strategy, task.propensity) for task in asked[:4]} == {("random", 0.333333)}
    assert sorted(task.strategy for task in asked[4:]) == ["bald"] * 3 + ["random"]
    for task in asked[4:]:  # one of four prompts by chance, and then each of its three pairs
        likely = task.strategy == "bald"
        assert task.score > 0 and (task.propensity == pytest.approx(0.75 + 0.25 / 3)) >= likely
    kinds = []
    key = made.run
    while key:  # back to the first reward model
        kinds.append(runs[key].kind)
        key = runs[key].parent
    assert kinds == ["dpo", "reward", "dpo", "reward"]
    assert (config.out / "round-2" / "after" / "evaluation.json").exists()
    judged = json.loads(rows[0][0])
    best = judged["responses"][judged["ranking"].index(1)]
    assert len(best) <= max(map(len, judged["responses"]))


@pytest.mark.long
@pytest.mark.parametrize("method", ["dpo", "rloo"])
def test_no_prompt_is_trained_on_and_held_out(config: iterate.Config, tmp_path: Path, method: str):
    """In every round and stage: prompts of the rounds, of kept files, of the evaluation.

    Mutation caught: a round's answers, a kept file or a policy's prompts that go past the split.
    """
    write_rows(config.prompts, ({"prompt": f"q{i}"} for i in range(24)))
    compared = [
        {"prompt": p, "chosen": "a", "rejected": "b"} for p in ("0!", "more", *"abcdefghij")
    ]
    write_rows(tmp_path / "kept.jsonl", compared)
    how = Optimise(method=method, **({"steps": 1, "batch_size": 8} if method in ONLINE else {}))
    config = changed(
        config, rounds=2, prompts_per_round=12, keep=(str(tmp_path / "kept.jsonl"),), optimise=how
    )
    assert iterate.run(config)
    trained, held = set(), set(read_prompts(config.held_out or ""))
    for r in (1, 2):
        folder = config.out / f"round-{r}"
        for stage in ("reward", "policy"):
            kept = yaml.safe_load((folder / stage / "config.yaml").read_text())
            trained |= set(read_prompts(kept["data"]))
            if "eval_data" in kept:
                held |= set(read_prompts(kept["eval_data"]))
        answers = read_comparisons(folder / "comparisons.jsonl")
        assert {content.split_of(c.prompt) for c in answers} == {"train", "held_out"}
    assert {"more", "q0"} <= trained and {"0!"} < held and not trained & held
    assert {content.split_of(p) for p in trained} == {"train"}


def test_a_round_of_held_out_prompts_is_refused_before_anybody_is_asked(config: iterate.Config):
    with pytest.raises(UserError, match="round 1: all of its 4 prompts are held out"):
        iterate.run(changed(config, held_out=config.prompts))
    assert not config.out.exists()


def test_prompts_and_evaluation_may_be_the_sides_of_a_project(config: iterate.Config):
    """Mutation caught: `db:` taken for a file, or one side for the other."""
    store = open_store(config.workspace)
    with store.write() as connection:
        project = projects.create(connection, "q")
        for i in range(24):
            content.add_prompt(connection, project, f"q{i}")
    store.close()
    source = f"db:{config.workspace}#q"
    config = changed(config, prompts=source, held_out=source, raters=("people",), wait=False)
    assert iterate.run(config) is None


def test_a_policy_that_was_begun_on_all_prompts_goes_on_with_them(
    config: iterate.Config, monkeypatch
):
    """Mutation caught: an unfinished stage of the last release, refused since its data are others now."""
    prompts = []

    def planned(how, **values):
        prompts.append(values["prompts"])
        raise KeyboardInterrupt

    monkeypatch.setattr(iterate, "planned", planned)
    config = changed(config, optimise=Optimise(method="rloo", steps=1))
    folder = config.out / "round-1"
    for begun in (False, True):
        if begun:
            (folder / "train_prompts.jsonl").unlink()
            (folder / "policy").mkdir()
        with pytest.raises(KeyboardInterrupt):
            iterate.run(config)
    assert prompts == [str(folder / "train_prompts.jsonl"), config.prompts]


WHOLE = [
    pytest.param(method, marks=pytest.mark.exhaustive)
    for method in ("ppo", "raft", "simpo", "plackett_luce_dpo")
]


@pytest.mark.parametrize("method", ["rloo", "grpo", "ipo", "kto", *WHOLE])
def test_any_method_moves_the_policy(config: iterate.Config, method):
    """Two of each recipe; -m exhaustive has more of them.

    Mutation caught: a preset that does not reach its recipe, or is outvoted by what nobody has said.
    """
    rounds = {"steps": 1} if method in ONLINE else {}
    how = Optimise(method=method, batch_size=8, learning_rate=1e-3, **rounds)
    config = changed(config, rounds=1, responses=3, optimise=how)
    last = iterate.run(config)
    kept = yaml.safe_load((last / "config.yaml").read_text())
    preset = {**ONLINE, **OFFLINE}[method].sets
    assert all(kept[k] == v for k, v in preset.items() if k not in ("learning_rate", "batch_size"))


def test_an_unknown_method_is_refused_before_anybody_is_asked(config: iterate.Config):
    with pytest.raises(UserError, match="did you mean 'rloo'"):
        iterate.run(changed(config, optimise=Optimise(method="rlo")))
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"method": "dapo", "beta": 0.3}, "optimise.beta"),
        ({"method": "orpo", "beta": 0.3}, "optimise.beta"),
        ({"method": "rloo", "epochs": 2.0}, "optimise.epochs"),
        ({"method": "dpo", "steps": 7}, "optimise.steps"),
        ({"method": "grpo", "critic_learning_rate": 1e-3}, "optimise.critic_learning_rate"),
    ],
)
def test_fields_that_the_method_does_not_read_are_refused(config: iterate.Config, how, field):
    """Mutation caught: a price of KL that nobody charges, without a word."""
    with pytest.raises(UserError, match=f"{field} would have no effect"):
        iterate.run(changed(config, optimise=Optimise(**how)))
    assert not config.out.exists()


@pytest.mark.long
def test_an_adapter_goes_round_on_its_first_base(config: iterate.Config):
    """Round 2 trains round 1's adapter on: one rank, one base, and a reference that is round 1's policy.

    Mutation caught: adapters not seen as finished models (every step would be done again), ranks that
    grow with the rounds, KL to the bare base.
    """
    lora = Lora(rank=2)
    config = changed(config, rounds=2, lora=lora, optimise=Optimise(learning_rate=1e-2))
    last = iterate.run(config)
    for r in (1, 2):
        written = (config.out / f"round-{r}" / "policy" / "adapter_config.json").read_text()
        adapter = json.loads(written)
        assert (adapter["r"], adapter["base_model_name_or_path"]) == (2, config.model)
        row = (config.out / f"round-{r}" / "policy" / "metrics.jsonl").read_text().splitlines()[0]
        assert json.loads(row)["loss"] == pytest.approx(0.693147, abs=1e-5)
    times = [p.stat().st_mtime_ns for p in sorted(last.iterdir())]
    assert iterate.run(config) == last
    assert [p.stat().st_mtime_ns for p in sorted(last.iterdir())] == times


def test_the_same_command_again_does_nothing_twice(config: iterate.Config, monkeypatch):
    """Stopped after the questions were asked: no second sampling, no second tasks, the same result."""
    monkeypatch.setattr(reward_model, "run", lambda c: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        iterate.run(config)
    asked = (config.out / "round-1" / "asked.json").read_bytes()
    before = count(config, schema.task), count(config, schema.judgment)
    monkeypatch.undo()
    assert iterate.run(config)
    assert (config.out / "round-1" / "asked.json").read_bytes() == asked
    assert (count(config, schema.task), count(config, schema.judgment)) == before
    stamp = (config.out / "round-1" / "policy" / "model.safetensors").stat().st_mtime_ns
    assert iterate.run(config)
    assert (config.out / "round-1" / "policy" / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.long
def test_an_interrupted_stage_goes_on_in_its_middle(
    config: iterate.Config, tmp_path: Path, monkeypatch, capsys
):
    """Asked to stop in the third step of the reward model: the same command ends in the same weights.

    Mutation caught: a stage that begins anew, or that `iterate` goes past as if it were finished.
    """
    config = changed(config, reward=iterate.Refit(epochs=4, batch_size=2, learning_rate=1e-3))
    init.run(init.Config(folder=tmp_path / "other"))
    whole = iterate.run(
        changed(config, workspace=tmp_path / "other", out=tmp_path / "other" / "runs" / "rounds")
    )
    step, calls = LocalLearner.step, 0

    def stopped(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(LocalLearner, "step", stopped)
    with pytest.raises(Stopped, match="stopped after step 3 of"):
        iterate.run(config)
    assert not (config.out / "round-1" / "policy").exists()
    capsys.readouterr()
    last = iterate.run(config)
    assert "round-1/reward after step 3 of" in capsys.readouterr().err
    assert whole and last
    for name in ("reward", "policy"):
        ours, theirs = (p.parent / name / "model.safetensors" for p in (last, whole))
        assert ours.read_bytes() == theirs.read_bytes()


def test_it_waits_for_people_and_says_for_how_many(config: iterate.Config, capsys):
    config = changed(config, raters=("people", "tiny:likes_short"), wait=False)
    assert iterate.run(config) is None
    assert "waits for people: 0 of 2 answers" in capsys.readouterr().err
    store = open_store(config.workspace)
    rater = make_rater(store)
    with store.read() as connection:
        found = projects.by_name(connection, "p")
    assert found
    given = claim(store, found.id, rater)
    assert given
    answer(store, given, rater)
    assert iterate.run(config) is None
    assert "1 of 2 answers" in capsys.readouterr().err
    given = claim(store, found.id, rater)
    assert given
    answer(store, given, rater)
    store.close()
    assert iterate.run(config) == config.out / "round-1" / "policy"


@pytest.mark.long
@pytest.mark.postgres
def test_a_loop_outlives_restarts_of_its_database(config: iterate.Config, monkeypatch, capsys):
    """PostgreSQL crashes while people are waited for, and once more while the round is written down.

    Mutations caught: a loop that ends with its connection; a pool that hands out dead ones; a run that is stored twice,
    or an answer lost."""
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.3)
    config = changed(config, raters=("people",), poll_seconds=0.1, held_out=None)
    with postgres.running(programs) as server:
        monkeypatch.setenv("HEEDFUL_DATABASE", server.url)
        asked, failed = config.out / "round-1" / "asked.json", []

        def people() -> None:
            try:
                while not asked.exists():
                    time.sleep(0.05)
                (share,) = json.loads(asked.read_text())
                by_people(config)
                server.stop()
                time.sleep(1.5)  # longer than the loop's pauses
                server.start()
                for _ in share["tasks"][1:]:
                    by_people(config)
            except BaseException as error:
                failed.append(error)
                raise

        add_run, calls = content.add_run, 0

        def crash_in_the_middle(*given, **more):
            nonlocal calls
            calls += 1
            key = add_run(*given, **more)
            if calls == 1:
                server.stop()
                threading.Timer(0.5, server.start).start()
            return key

        monkeypatch.setattr(content, "add_run", crash_in_the_middle)
        threading.Thread(target=people, daemon=True).start()
        assert iterate.run(config) == config.out / "round-1" / "policy"
        assert not failed and calls > 2
        told = capsys.readouterr().err
        assert told.count("the database is away (") == told.count("the database is back after") == 2
        tasks, runs = (count(config, table) for table in (schema.task, schema.run))
        assert (count(config, schema.judgment), runs) == (tasks, 2)


def test_answers_limits_the_wait(config: iterate.Config):
    config = changed(config, raters=("people",), wait=False, answers=1)
    assert iterate.run(config) is None
    store = open_store(config.workspace)
    rater = make_rater(store)
    with store.read() as connection:
        found = projects.by_name(connection, "p")
    assert found
    given = claim(store, found.id, rater)
    assert given
    answer(store, given, rater)
    store.close()
    assert iterate.run(config)


def test_completions_keep_where_they_come_from(config: iterate.Config):
    iterate.run(config)
    store = open_store(config.workspace)
    with store.read() as connection:
        rows = connection.execute(select(schema.completion)).all()
        known = set(connection.execute(select(schema.checkpoint.c.id)).scalars())
    for row in rows:
        assert row.checkpoint in known and row.engine == "torch"
        assert len(row.token_ids) == len(row.logprobs) > 0
        assert row.sampling["temperature"] == 1.0


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"rounds": 3}, "fewer than 3 rounds of 4"),
        ({"responses": 1}, "--responses 1: must be at least 2"),
        ({"raters": ()}, "raters is empty"),
        ({"ask": Ask(number=2)}, "--ask.number needs"),
        ({"ask": Ask(strategy="bald", number=5)}, "a round has 4 prompts"),
        ({"seed": 2**63 - 1}, "each round adds 1000"),
        ({"raters": ("capitols",)}, "no judge 'capitols'"),
    ],
)
def test_bad_settings_are_one_sentence(config: iterate.Config, values: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        iterate.run(changed(config, **values))
    assert not config.out.exists()


def test_the_command_reads_nested_yaml(config: iterate.Config, tmp_path: Path, capsys):
    """`reward: {epochs: 2}` in the file is --reward.epochs 2; flags go before the file."""
    path = tmp_path / "iterate.yaml"
    text = f"""
model: {config.model}
prompts: {config.prompts}
out: {config.out}
workspace: {config.workspace}
prompts_per_round: 4
rounds: 1
raters: [people, "tiny:likes_short"]
wait: false
max_tokens: 6
reward: {{epochs: 2, learning_rate: 1e-3}}
"""
    path.write_text(text)
    assert main(["iterate", str(path), "--prompts-per-round", "2", "--quiet"]) == 0
    assert "0 of 1 answers" in capsys.readouterr().err
    path.write_text(text + "optimise: {methd: dpo}\n")
    assert main(["iterate", str(path)]) == 2
    assert (
        "unknown key 'optimise.methd' (did you mean 'optimise.method'?)" in capsys.readouterr().err
    )


# ── going on ─────────────────────────────────────────────────────────────────────────────────────


FEW = ("_question", "write", "judge", "add_checkpoint")
JUDGE = """
asked = 0


def worth(prompt, response):
    global asked
    asked += 1
    return (asked * 7919 % 101) / 101
"""
# What a round does, in about this order; after each of them the process dies, once.
STEPS = [
    (iterate, "_question", 2),
    (iterate_asking, "write_json", 1),  # questions are asked
    (Journal, "write", 1),  # the first answer is on the disk
    (Journal, "write", 2),
    (Store, "in_write", 1),  # the project is there
    (rounds, "judge", 2),  # within a transaction
    (iterate_asking, "_written", 1),
    (iterate, "freeze", 1),
    (iterate, "merge", 1),
    (LocalLearner, "step", 1),
    (reward_model, "run", 1),
    (LocalLearner, "step", 1),
    (content, "add_run", 1),
    (
        content,
        "add_checkpoint",
        1,
    ),  # of the policy: nothing is left but to write down that it was recorded
]


@pytest.mark.long
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([s for s in STEPS if s[1] in FEW], id="some"),
        pytest.param(STEPS, id="all", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_dies_at_every_step_pays_once(
    config: iterate.Config, tmp_path, monkeypatch, steps
):
    """With a judge that says something else each time: as many questions as if nothing had happened, the same answers
    in the database, once each, the same weights.

    Mutation caught: judges asked again at each start, whose other answer then is a Conflict; runs recorded twice.
    """
    (tmp_path / "dice.py").write_text(JUDGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dice", raising=False)  # that of another parameter has counted
    dice = importlib.import_module("dice")
    monkeypatch.setattr(iterate_asking, "BATCH", 3)
    config = changed(config, raters=("dice:worth",), held_out=None, overlap=2, responses=3)

    def outcome(config: iterate.Config) -> tuple:
        store = open_store(config.workspace)
        with store.read() as connection:
            (row,) = connection.execute(select(schema.project.c.id)).all()
            tasks = iterate_asking.tasks_of(config.out / "round-1")
            said = rounds.comparisons(connection, row.id, tasks)
        store.close()
        tables = (schema.judgment, schema.assignment, schema.run, schema.checkpoint, schema.task)
        ranked = sorted((repr(r["responses"]), r["rater"], r["ranking"]) for r in said)
        return dice.asked, ranked, [count(config, table) for table in tables]

    whole = iterate.run(config)
    expected = outcome(config)
    dice.asked = 0
    init.run(init.Config(folder=tmp_path / "other"))
    config = changed(config, workspace=tmp_path / "other", out=tmp_path / "other" / "rounds")
    for owner, name, number in steps:
        killed_after(number, owner, name, iterate.run, config)
    again = iterate.run(config)
    assert outcome(config) == expected
    assert whole and again
    for name in ("reward", "policy"):
        ours, theirs = (p.parent / name / "model.safetensors" for p in (again, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    assert not list(config.out.rglob("answers.jsonl"))


def test_more_rounds_ask_nobody_about_older_ones(config: iterate.Config, monkeypatch):
    """Neither its judges, whoever they are now, nor people whose answers it did not wait for.

    Mutation caught: the first round asked anew when it is started with a second one.
    """
    config = changed(config, answers=1, raters=("people", "tiny:likes_short"), wait=False)
    assert iterate.run(config) is None
    by_people(config)
    assert iterate.run(config)
    before = count(config, schema.judgment)
    monkeypatch.setattr(iterate_asking, "judges", lambda *_: pytest.fail("a judge was loaded"))
    assert iterate.run(config)
    monkeypatch.undo()
    assert (
        iterate.run(changed(config, rounds=2, answers=0)) is None
    )  # for the second round's people
    assert (config.out / "round-2" / "asked.json").exists()
    assert count(config, schema.judgment) == before + 2  # the second round's judge


def by_people(config: iterate.Config) -> None:
    """One of the open questions is answered."""
    store = open_store(config.workspace)
    rater = make_rater(store)
    with store.read() as connection:
        found = projects.by_name(connection, config.project)
    assert found
    given = claim(store, found.id, rater)
    assert given
    answer(store, given, rater)
    store.close()


def test_other_settings_are_refused_until_one_insists(config: iterate.Config, tmp_path, capsys):
    """Model, prompts, method and judges are in what it was begun with; `--resume` goes on with others and tells what
    becomes of what is there.

    Mutation caught: a silent mixture; questions that are lost with those whom they were put to.
    """
    config = changed(config, raters=("people", "tiny:likes_short"), wait=False)
    assert iterate.run(config) is None
    by_people(config)
    for values, words in (
        ({"optimise": Optimise(method="ipo")}, "optimise.method was dpo, is ipo"),
        ({"seed": 3}, "seed was 0, is 3"),
        ({"raters": ("tiny:likes_short",)}, "raters was .*people.*, is .*likes_short"),
    ):
        with pytest.raises(UserError, match=f"was begun otherwise: {words}.*--resume"):
            iterate.run(changed(config, **values))
    weights = Path(config.model) / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + b"\x01")
    with pytest.raises(UserError, match="model was changed since"):
        iterate.run(config)
    weights.write_bytes(kept)
    prompts = Path(config.prompts)
    prompts.write_text(prompts.read_text() + '{"prompt": "one more"}\n')
    capsys.readouterr()
    assert iterate.run(changed(config, rounds=2)) is None  # rows may be added
    assert f"{config.prompts} was changed" in capsys.readouterr().err
    before = count(config, schema.judgment)
    other = changed(config, raters=("tiny:likes_short",), resume=True)
    assert iterate.run(other)
    told = capsys.readouterr().err
    assert (
        "round 1 was put to people and tiny:likes_short: the answers that are there count" in told
    )
    assert count(config, schema.judgment) == before + 1  # of four, one by people, two by the judge
    assert iterate.run(changed(other, resume=False))
    record = (config.out / "record.jsonl").read_text()
    assert "raters was" in record and "optimise" not in record


def test_a_stage_that_was_begun_otherwise_is_begun_anew(
    config: iterate.Config, monkeypatch, capsys
):
    """Mutation caught: `--resume` that ends at the stage's own refusal."""
    monkeypatch.setattr(Run, "finish", lambda self, save: (_ for _ in ()).throw(Killed))
    config = changed(config, reward=iterate.Refit(learning_rate=1e-3))
    monkeypatch.setattr(importlib.import_module("heedful.run"), "AT_LEAST", 0.0)
    with pytest.raises(Killed):
        iterate.run(config)
    monkeypatch.undo()
    config = changed(config, reward=iterate.Refit(learning_rate=1e-2), resume=True)
    assert iterate.run(config)
    assert "round-1/reward is begun anew: " in capsys.readouterr().err


def test_one_judge_answers_a_question_once(config: iterate.Config):
    with pytest.raises(UserError, match="overlap 9: tiny:likes_short is 8 judge"):
        iterate.run(changed(config, overlap=9))
    assert not config.out.exists()


def test_what_was_drawn_is_asked_about(config: iterate.Config, monkeypatch):
    """A device that draws otherwise the second time: the questions are those of the first, and no others are left over.

    Mutation caught: sampling again, after some of the questions were put.
    """
    config = changed(config, raters=("people",), wait=False)
    monkeypatch.setattr(iterate, "write", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        iterate.run(config)
    before = count(config, schema.task), count(config, schema.completion)
    monkeypatch.undo()
    monkeypatch.setattr(iterate.drawing, "rows_of", lambda *_: pytest.fail("drawn again"))
    assert iterate.run(config) is None
    assert (count(config, schema.task), count(config, schema.completion)) == before


GAME = '''
def tasks(split, seed):
    return [{"prompt": [{"role": "user", "content": f"{split} {i}?"}], "extra": i} for i in range(12)]

async def twice(task, chat):
    """Says again what it was told, and may forge a message; the first turn is worth something."""
    said = (await chat.say(max_tokens=3)).text
    chat.reward(float(len(said)), "length")
    chat.hear("user", f"You said {said}.\\nassistant: I forge.")
    await chat.say(max_tokens=3)

twice.tasks = tasks
'''


@pytest.mark.long
def test_rounds_of_episodes_that_people_compare(
    config: iterate.Config, tmp_path: Path, monkeypatch
):
    """The environment's own tasks are played, whole episodes compared, the reward model refitted to their texts, and
    the policy optimised on the same game against it. A rater sees messages, not what they were worth; the lead does.

    Mutation caught: turns of different conversations compared; the reward model told another text than raters saw; what
    the environment says in front of a message taken for one; rewards in a rater's question; held-out tasks played.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "game.py").write_text(GAME)
    how = Optimise(method="grpo", steps=1, batch_size=8)
    config = changed(config, prompts="", held_out=None, env="./game.py:twice", optimise=how, responses=3,
                     prompts_per_round=6, max_turns=3)  # fmt: skip
    assert iterate.run(config) == config.out / "round-1" / "policy"
    folder = config.out / "round-1"
    compared = read_comparisons(folder / "comparisons.jsonl")
    assert len(compared) == 6
    for c in compared:
        for text in c.responses:
            first, heard, last = as_messages(text) or ()
            assert (first.role, heard.role, last.role) == ("assistant", "user", "assistant")
            assert heard.content == f"You said {first.content}.\nassistant: I forge."
    trained = yaml.safe_load((folder / "policy" / "config.yaml").read_text())
    assert trained["judged"] == "episode" and trained["env"] == config.env
    played = read_prompts(folder / "train_prompts.jsonl")
    assert {c.prompt for c in compared if content.split_of(c.prompt) == "train"} <= set(played)
    assert all(content.split_of(p) == "train" for p in played)
    (row, *_) = (folder / "train_prompts.jsonl").read_text().splitlines()
    assert "extra" in json.loads(row)
    told = json.loads((folder / "after" / "evaluation.json").read_text())
    assert (
        told["tasks"] == 6
        and {"length", Path(trained["reward"][0]).name} <= told["reward_parts"].keys()
    )
    held = (folder / "after" / "transcripts.jsonl").read_text()
    assert "held_out 0?" in held and "train 0?" not in held
    store = open_store(config.workspace)
    with store.read() as connection:
        (task, *_) = connection.execute(select(schema.task.c.id)).scalars()
        question = reports.questions(connection, [task])[task]
    assert all(len(e["rewards"]) == 2 and e["whole"] for e in question["episodes"])
    html = lead_rendered(question)["responses"][0]
    assert f"{question['episodes'][0]['rewards'][0]:+g}" in html and "terminated" in html
    ada = make_rater(store)
    out = tmp_path / "work" / "runs" / "others"
    config = changed(config, out=out, raters=("people",), wait=False, seed=7)
    assert iterate.run(config) is None
    asked = claim(store, store.in_write(lambda c: projects.ensure(c, "p")), ada)
    assert asked
    with store.read() as connection:
        seen = payload(show.question(connection, asked, ada))
    html = seen["responses"][0]["html"]
    assert html.count('class="said') == 3 and "reward" not in json.dumps(seen)
    assert seen["responses"][0]["episode"] == {"whole": True}


@pytest.mark.parametrize(
    "values, words",
    [
        ({"optimise": Optimise(method="dpo")}, "would learn to write what tools and environments said"),
        ({"judged": "turn"}, "cannot be compared"),
        ({"scorer": "capitals"}, "--scorer is for single answers"),
        ({"env": None}, "--prompts is missing"),
    ],
)  # fmt: skip
def test_loops_of_episodes_that_cannot_be(config: iterate.Config, values: dict, words: str):
    """Mutation caught: a tool's words trained on by a loss on comparisons."""
    how = {"prompts": "", "env": "calculator", "optimise": Optimise(method="grpo"), **values}
    with pytest.raises(UserError, match=words):
        iterate.run(changed(config, **how))
