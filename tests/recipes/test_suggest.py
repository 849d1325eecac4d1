"""`heedful suggest`: a reward or a judge beside people's questions, shown when a lead says so, and its effect."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.configs.suggest import Config
from heedful.data.critiques import question
from heedful.data.sources import read_comparisons
from heedful.recipes import revise, suggest_critiques
from heedful.recipes.suggest import ranked
from heedful.store.database.db import open_store
from heedful.store.rating import judging, show, work
from heedful.transfer.workspace import project_of
from heedful.types import Message, Prompt
from workspace import answer, make_rater


@pytest.fixture
def work_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A workspace with three pairs, one of equal length, and a function that likes what is longer."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taste.py").write_text(
        "def longer(prompt, response):\n    return float(len(response))\n"
    )
    rows = [
        ("Why?", "Because."),
        ("Why?", "No."),
        ("Who?", "I."),
        ("Who?", "Ada."),
        ("Hm?", "aa"),
        ("Hm?", "bb"),
    ]
    lines = (json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows)
    (tmp_path / "s.jsonl").write_text("".join(lines))
    assert main(["init", "work"]) == 0
    assert main(["import", "samples", "s.jsonl", "--workspace", "work", "--ask", "pair"]) == 0
    return ["--workspace", "work", "--quiet"]


@pytest.mark.long
def test_a_reward_suggests_and_its_effect_is_told(
    work_in: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Mutations caught: ranks by the lowest score, everything asked again at the second start, a new version of the
    function taken for the old one, `--show` without effect, suggestions among comparisons."""
    suggest = ["suggest", *work_in, "--reward", "./taste.py:longer", "--name", "longer"]
    assert main(suggest) == 0
    out = capsys.readouterr().out
    assert "suggests something about 3 questions" in out and "raters see none" in out
    assert main(suggest) == 0 and "about 0 questions" in capsys.readouterr().out
    with (tmp_path / "taste.py").open("a") as file:
        file.write("# edited\n")
    assert main([*suggest, "--show", "yes", "--hidden", "0"]) == 0
    out = capsys.readouterr().out
    assert "about 3 questions" in out and "0% of the questions stay without" in out
    store = open_store(tmp_path / "work")
    rater = make_rater(store)
    with store.read() as connection:
        project = project_of(connection, None)
    for _ in range(3):
        with store.write() as connection:
            given = work.claim(connection, project, rater).assignment
            assert given
            shown = show.question(connection, given, rater)
        sizes = [len(r["text"]) for r in shown["responses"]]
        assert shown["suggestion"] == [1 + (size < max(sizes)) for size in sizes]
        answer(store, given, rater, {"better": sizes.index(max(sizes))})
    store.close()
    assert main(["suggest", *work_in, "--show", "no"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "say what it suggests 67% of 3 – –" in out  # about the tie they did not
    assert "raters see none" in out
    assert main(["export", "comparisons", "c.jsonl", "--workspace", "work"]) == 0
    assert len(read_comparisons("c.jsonl")) == 3


def test_a_judge_suggests_and_mistakes_are_sentences(
    work_in: list[str], capsys: pytest.CaptureFixture[str]
):
    """Simulated people here; any other judge goes the same way. Mutations caught: a refusal as a traceback, or after
    something has been kept."""
    for words, told in (
        ([], "nobody has suggested anything here"),
        (["--judge", "x", "--reward", "length"], "not both"),
        (["--judge", "x", "--critiques", "y"], "not both"),
        (["--critiques", "nobody"], "--critiques nobody: expected llm:MODEL"),
        (["--critiques", "s.jsonl"], "s.jsonl: row 1 has no text `critique`"),
        (["--show", "yes"], "whose suggestions?"),
        (["--hidden", "2"], "from 0 to 1"),
        (["--name", "nobody", "--show", "yes"], "'nobody' has suggested nothing here"),
        (["--judge", "./taste.py:none"], "none"),
        (["--judge", "./taste.py:longer", "--project", "other"], "no project 'other'"),
    ):
        assert main(["suggest", *work_in, *words]) == 2
        assert told in capsys.readouterr().err
    assert main(["suggest", *work_in, "--judge", "./taste.py:longer"]) == 0
    assert "about 3 questions" in capsys.readouterr().out


def test_critiques_out_of_a_file(
    work_in: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    """Two remarks on one response, one on what nobody asks about. Mutations caught: matched by response alone, the
    second remark lost, kept again at the second start, `--show no` that leaves raters able to ask."""
    rows = [("Why?", "No.", "One word."), ("Why?", "No.", "Rude."), ("Who?", "No.", "Elsewhere.")]
    lines = (json.dumps({"prompt": p, "completion": c, "critique": t}) + "\n" for p, c, t in rows)
    (tmp_path / "c.jsonl").write_text("".join(lines))
    told = ["suggest", *work_in, "--critiques", "c.jsonl", "--name", "critic"]
    assert main([*told, "--show", "yes", "--hidden", "0"]) == 0
    out = capsys.readouterr().out
    assert "criticises 1 questions" in out and "raters can ask what critic says; on 0%" in out
    assert "1 of 2 criticised responses stand in no question" in caplog.text
    assert main(told) == 0 and "criticises 0 questions" in capsys.readouterr().out
    store = open_store(tmp_path / "work")
    rater = make_rater(store)
    with store.write() as connection:
        project = project_of(connection, None)
        texts = {}
        for _ in range(3):
            lease = work.claim(connection, project, rater, holding=list(texts)).assignment
            assert lease
            shown = show.question(connection, lease, rater)
            texts[lease] = [
                judging.ask_critique(connection, lease, rater, place)
                for place, c in enumerate(shown["critiques"] or ())
                if c["there"]
            ]
    store.close()
    assert sorted(texts.values()) == [[], [], ["One word.\n\nRude."]]
    assert main(["suggest", *work_in, "--name", "critic", "--show", "no"]) == 0
    assert "raters can ask for none" in capsys.readouterr().out


def test_scores_become_ranks():
    """Mutations caught: equal scores ordered by place, what has no score last instead of without a rank."""
    assert ranked([0.5, None, 2.0, 0.5]) == [2, None, 1, 2]
    assert ranked([None, None]) == [None, None] and ranked([-1.0, -1.0]) == [1, 1]


def test_a_model_is_asked_as_it_was_taught(monkeypatch: pytest.MonkeyPatch):
    """By the question of `train sft` and `critique`: of a plain prompt as text, of a conversation as a user's turn.
    Mutation caught: a plain question through the chat template of a model that has one."""
    heard: list[Prompt] = []

    async def write(asked: Prompt) -> str:
        heard.append(asked)
        return " Wrong. "

    monkeypatch.setattr(suggest_critiques, "asked_as_is", lambda *_: (write, True))
    talk = [{"role": "user", "content": "Hi."}]
    questions = {
        "a": {"prompt": "Why?", "responses": ["No."]},
        "b": {"prompt": talk, "responses": ["Yo."]},
    }
    said = suggest_critiques.critiques_of(Config(critiques="llm:x", quiet=True), questions)
    assert said == {"a": ["Wrong."], "b": ["Wrong."]}
    assert heard == [question("Why?", "No."), question((Message("user", "Hi."),), "Yo.")]
    assert isinstance(heard[0], str)
    monkeypatch.setattr(revise, "asked_as_is", lambda *_: (write, True))
    asyncio.run(revise.writer(Config(), "llm:x", "--by")("Why?"))  # type: ignore[arg-type]
    assert heard[2] == (Message("user", "Why?"),)
