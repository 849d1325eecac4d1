"""What was paid for is kept as it comes and never asked for again: judges and rewards, in every command, however it
dies.

The judge here says something else each time: its answer is a function of how often it was asked before. So whoever
asks once too often, once too seldom or in another order ends in another model.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import interruptions as jobs
from changed import changed
from heedful.cli import main
from heedful.data.files import write_rows
from heedful.errors import UserError
from heedful.raters.panel import judge_all
from heedful.remote.journal import MISSING, Journal, digest, recorded
from heedful.types import Comparison
from killed import killed_after

JUDGE = """
from pathlib import Path

BILL = Path({bill!r})


def say() -> float:
    asked = len(BILL.read_bytes()) if BILL.exists() else 0
    BILL.write_bytes(b"." * (asked + 1))
    return (asked * 7919 % 101) / 101


async def far(prompt, response):
    return say()


def near(prompt, response):
    return say()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return jobs.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def bill(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """The judge's file and what it writes: a byte for each time that it was asked."""
    (tmp_path / "paid_judge.py").write_text(JUDGE.format(bill=str(tmp_path / "bill")))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "bill"
    sys.modules.pop("paid_judge", None)


def asked(bill: Path) -> int:
    return len(bill.read_bytes()) if bill.exists() else 0


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def test_a_journal_survives_what_happens_to_files(tmp_path: Path, caplog):
    """A torn line costs its own answer and not the next one; a flipped bit is seen; files of before are read.

    Mutation caught: an answer appended to a torn line; a line that is believed because it is JSON.
    """
    file = tmp_path / "a" / "kept.jsonl"
    journal = Journal(file, {"step": 1})
    journal.write("one", {"text": "ä", "p": 0.1})
    with file.open("ab") as torn:
        torn.write(b'{"key": "two", "ans')
    journal = Journal(file)
    assert journal.find("one") == {"text": "ä", "p": 0.1} and journal.about == {"step": 1}
    assert journal.find("two") is MISSING and not caplog.text
    journal.write("three", None)
    again = Journal(file)
    assert again.read() == {"one": {"text": "ä", "p": 0.1}, "three": None}
    assert "1 damaged lines are left out" in caplog.text
    file.write_bytes(file.read_bytes().replace(b"0.1", b"0.3"))
    assert Journal(file).find("one") is MISSING and Journal(file).find("three") is None
    with file.open("a") as old:
        old.write(json.dumps({"key": "old", "answer": 3}) + "\n")
    assert again.find("old") == 3


def test_several_write_at_once_and_read_each_other(tmp_path: Path):
    """Mutation caught: lines of two writers in one another; a file that is read once only."""
    journals = [Journal(tmp_path / "kept.jsonl") for _ in range(4)]

    def work(n: int) -> None:
        for i in range(50):
            journals[n].write(f"{n}-{i}", "x" * 500, sync=False)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(journals[0].find(f"{n}-{i}") == "x" * 500 for n in range(4) for i in range(50))
    assert len(Journal(tmp_path / "kept.jsonl").read()) == 200


def test_what_is_asked_twice_is_answered_twice(tmp_path: Path):
    """In one recording the same question may come again. Mutation caught: a cache in its place."""
    said = iter("abcd")

    def ask(question: str) -> str:
        key = past.key(question)
        if (answer := past.find(key)) is MISSING:
            past.write(key, answer := next(said))
        return answer

    for expected in (["a", "b", "c"], ["a", "b", "c"]):
        with recorded(tmp_path / "r.jsonl") as past:
            assert [ask("x"), ask("y"), ask("x")] == expected
    with recorded(tmp_path / "r.jsonl", part="another") as past:
        assert ask("x") == "d"
    assert digest(["x"]) != digest("x")


def test_a_judgment_that_fails_loses_no_other(tmp_path: Path):
    """Of several on their way one fails: the others are waited for, and kept.

    Mutation caught: cancelled calls, which were paid for.
    """
    begun: list[str] = []

    class Judge:
        async def judge(self, prompt, responses) -> Comparison:
            begun.append(prompt)
            await asyncio.sleep(0.01 * int(prompt))
            if prompt == "1":
                raise UserError("no")
            return Comparison(prompt, tuple(responses), (1, 2))

    items = [(str(i), ("a", "b")) for i in range(4)]
    with pytest.raises(UserError), recorded(tmp_path / "r.jsonl"):
        asyncio.run(judge_all([Judge()], items))
    assert begun == list("0123") and len(Journal(tmp_path / "r.jsonl").read()) == 3
    begun.clear()
    with pytest.raises(UserError), recorded(tmp_path / "r.jsonl"):
        asyncio.run(judge_all([Judge()], items))
    assert begun == ["1"]


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


def judge(w: Path) -> list:
    return [
        "judge",
        "--data",
        w / "samples.jsonl",
        "--judge",
        "paid_judge:near",
        "--out",
        w / "o.jsonl",
    ]


def score(w: Path) -> list:
    reward = "paid_judge:far(concurrency=1)"
    return ["score", "--data", w / "samples.jsonl", "--reward", reward, "--out", w / "o.jsonl"]


@pytest.mark.parametrize("command", [judge, score])
def test_a_command_that_dies_again_and_again(command: Callable, bill: Path, tmp_path: Path, capsys):
    """After every second answer: asked as often as if nothing had happened, the same file, nothing left beside it."""
    rows = ({"prompt": f"{i // 2}?", "completion": f"{i % 2}!{i}"} for i in range(12))
    write_rows(tmp_path / "samples.jsonl", rows)
    words = [str(x) for x in command(tmp_path)]
    assert main(words) == 0
    whole, count = (tmp_path / "o.jsonl").read_bytes(), asked(bill)
    assert count == 12
    for path in (bill, tmp_path / "o.jsonl"):
        path.unlink()
    for _ in range(2):
        killed_after(2, Journal, "write", main, words)
    assert asked(bill) < count and not (tmp_path / "o.jsonl").exists()
    source = tmp_path / "paid_judge.py"
    code = source.read_text()
    source.write_text(code + "# another judge\n")
    assert main(words) == 2  # what it said before is not what it would say now
    assert "before paid_judge was changed; remove that file to ask" in capsys.readouterr().err
    source.write_text(code)
    assert main(words) == 0
    assert asked(bill) == count and (tmp_path / "o.jsonl").read_bytes() == whole
    assert not list(tmp_path.glob("o.jsonl.*"))


def test_an_evaluation_that_dies(world: Path, bill: Path, tmp_path: Path):
    """Best of n by a paid reward, a paid scorer and a paid judge; `compare` makes it again in the same folder.

    Mutation caught: the answers thrown away with the rest of an unfinished evaluation.
    """
    from heedful.configs.evaluate import Config
    from heedful.recipes import compare, evaluate

    prompts = [json.loads(x) for x in (world / "prompts.jsonl").read_text().splitlines()[:3]]
    write_rows(tmp_path / "theirs.jsonl", (row | {"completion": "Five."} for row in prompts))
    config = Config(
        model=str(world / "model"),
        data=str(tmp_path / "theirs.jsonl"),
        out=tmp_path / "whole",
        reward=("paid_judge:far(concurrency=1)",),
        best_of=2,
        scorer="paid_judge:far",
        judge="paid_judge:near",
        baseline=str(tmp_path / "theirs.jsonl"),
        max_tokens=3,
        quiet=True,
    )
    evaluate.run(config)
    count = asked(bill)
    bill.unlink()
    config = replace(config, out=tmp_path / "again")
    for number in (2, 3, 3):
        killed_after(number, Journal, "write", compare.measured, config)
    compare.measured(config)
    assert asked(bill) == count
    for name in ("evaluation.json", "samples.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "again" / "answers.jsonl").exists()


JOBS = {
    "rloo": ["--reward", "paid_judge:far(concurrency=1)", "--watch-reward", "length"],
    "ppo": ["--reward", "length", "--watch-reward", "paid_judge:far(concurrency=1)"],
    "online_dpo": ["--judge", "paid_judge:near"],
}


@pytest.mark.parametrize(
    "job",
    [
        "rloo",
        pytest.param("online_dpo", marks=pytest.mark.long),
        pytest.param("ppo", marks=pytest.mark.exhaustive),
    ],
)
def test_a_step_that_dies_in_its_middle(job: str, world: Path, bill: Path, tmp_path: Path, capsys):
    """While the rewards of a step are asked for, and those of held-out prompts; with and without a state before.

    And code that was edited meanwhile is refused, before there is any state, until one insists.

    Mutation caught: a step that is paid for from its beginning; an answer taken for that of another step; answers
    about held-out prompts, which no stash has.
    """
    words = ["train", job, "--model", world / "model", "--data", world / "prompts.jsonl"]
    words += ["--steps", 3, "--batch-size", 4, "--max-tokens", 3, "--lr", "1e-3", "--quiet"]
    words += ["--report-to", "none", *JOBS[job]]
    if job == "rloo":
        words += ["--eval-data", world / "prompts.jsonl", "--group-size", 2]
    if job == "online_dpo":
        words += ["--minibatch-size", 4]

    def run(out: str, *more: object) -> int:
        return main(changed((*words, "--out", tmp_path / out), *more))

    assert run("whole") == 0
    count, source = asked(bill), tmp_path / "paid_judge.py"
    code = source.read_text()
    bill.unlink()
    for number, state_every in ((1, 0), (4, 1), (6, 0)):
        if asked(bill) + number >= count:
            break
        killed_after(number, Journal, "write", run, "again", "--state-every", state_every)
        source = tmp_path / "paid_judge.py"
        code = source.read_text()
        source.write_text(code + "# another judge\n")
        capsys.readouterr()
        assert run("again") == 2
        said = capsys.readouterr().err
        assert (
            "paid_judge was edited" in said and "as it is now with --resume, or begin anew" in said
        )
        source.write_text(code)
    source.write_text(code + "# the same judge\n")
    assert run("again", "--resume") == 0
    assert "paid_judge was edited" in (tmp_path / "again" / "record.jsonl").read_text()
    assert asked(bill) == count
    assert jobs.alike(tmp_path / "again", tmp_path / "whole") == ""


DEATHS = [  # on the way into this call of each
    ("heedful.recipes.iterate:_question", 2),
    ("heedful.recipes.iterate_asking:write", 1),
    ("heedful.raters.panel:_asked", 2),
    ("heedful.raters.panel:_asked", 3),
    ("heedful.store.lead.rounds:judge", 2),
    ("heedful.recipes.iterate:freeze", 1),
    ("heedful.recipes.iterate:merge", 1),
    ("heedful.learner.local:LocalLearner.step", 1),
    ("heedful.run:Run.finish", 1),
    ("heedful.store.project.content:add_checkpoint", 1),
    ("heedful.recipes.iterate:write_json", 1),
    ("heedful.raters.panel:_asked", 4),
    ("heedful.recipes.iterate:merge", 1),
]


@pytest.mark.exhaustive
def test_rounds_that_are_killed(world: Path, bill: Path, tmp_path: Path):
    """Two rounds of `heedful iterate`, whose process ends as by SIGKILL again and again, in another place each time."""
    write_rows(tmp_path / "prompts.jsonl", ({"prompt": f"What is {i}?"} for i in range(8)))

    def words(out: str) -> list[str]:
        assert main(["init", str(tmp_path / out)]) == 0
        flags = [
            "--model",
            world / "model",
            "--prompts",
            tmp_path / "prompts.jsonl",
            "--project",
            "p",
        ]
        flags += ["--workspace", tmp_path / out, "--out", tmp_path / out / "rounds", "--quiet"]
        flags += ["--raters", "paid_judge:near", "--rounds", 2, "--prompts-per-round", 4]
        return ["iterate", *map(str, [*flags, "--max-tokens", 4, "--responses", 3])]

    assert jobs.call(words("whole")) == 0
    count = asked(bill)
    bill.unlink()
    again = words("again")
    for where, call in DEATHS:
        assert jobs.call(again, die=(where, call)) == 9, where
    assert jobs.call(again) == 0
    assert asked(bill) == count
    for r in ("round-1", "round-2"):
        for stage in ("reward", "policy"):
            whole, ours = (tmp_path / x / "rounds" / r / stage for x in ("whole", "again"))
            assert jobs.alike(ours, whole) == ""
