"""Critique and revision by principles: who is asked what, what is kept, and that nobody is asked twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import tiny
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.data.sources import read_demonstrations
from heedful.models.save import save_model
from heedful.raters.revising import CRITIQUE, REVISE, chosen, revised
from heedful.recipes import revise
from heedful.remote.endpoint import fill

PRINCIPLES = ["Be kind.", "Say nothing false.", "Keep it short."]


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    write_rows(
        tmp_path / "s.jsonl",
        [{"prompt": f"{k}?", "completion": f"Go away, {k}!"} for k in range(4)],
    )
    (tmp_path / "p.txt").write_text("# ours\n" + "\n".join(PRINCIPLES) + "\n")
    words = ["revise", "--data", tmp_path / "s.jsonl", "--principles", tmp_path / "p.txt"]
    return [str(word) for word in (*words, "--out", tmp_path / "o.jsonl", "--quiet")]


def test_each_round_is_about_what_the_last_has_left():
    """Questions in full. Mutations caught: the original revised again, a critique that is not shown to who revises, a
    round by the same principle, nothing written taken for a response."""
    heard: list[str] = []

    async def write(text: str) -> str:
        heard.append(text)
        return ["It is rude.", " Lima. ", "It is fine.", ""][len(heard) - 1]

    one = asyncio.run(revised(write, "Where?", "Lima, you {prompt}.", PRINCIPLES[:2]))
    first = {"prompt": "Where?", "response": "Lima, you {prompt}.", "principle": "Be kind."}
    second = {"prompt": "Where?", "response": "Lima.", "principle": "Say nothing false."}
    assert heard == [
        fill(CRITIQUE, first),
        fill(REVISE, first | {"critique": "It is rude."}),
        fill(CRITIQUE, second),
        fill(REVISE, second | {"critique": "It is fine."}),
    ]
    assert one.completion == "Lima." and [r.critique for r in one.revisions] == [
        "It is rude.",
        "It is fine.",
    ]


def test_principles_are_all_different_and_always_the_same():
    """Mutations caught: the first one for everybody, one drawn twice while others wait, a draw by position."""
    drawn = [chosen(PRINCIPLES, f"{k}?", 3, 0) for k in range(20)]
    assert (
        all(sorted(of) == sorted(PRINCIPLES) for of in drawn) and len({of[0] for of in drawn}) == 3
    )
    assert chosen(PRINCIPLES, "7?", 2, 0) == drawn[7][:2]
    assert len(chosen(PRINCIPLES, "7?", 7, 0)) == 7


def test_a_command_that_was_stopped_asks_nothing_twice(asked, tmp_path: Path, monkeypatch):
    """A model of this machine; the first start dies within. Its rows are demonstrations. Mutations caught: answers that
    are kept under another question's name, a file of answers that is left behind, the original as completion."""
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, tmp_path / "m")
    words = [*asked, "--by", f"llm:{tmp_path / 'm'}", "--max-tokens", "4"]
    monkeypatch.setattr(revise, "no_room", lambda *of: None)
    calls: list[int] = []
    load = revise.load_engine

    def counting(model):
        engine = load(model)
        generate, before = engine.generate, len(calls)

        async def counted(tokens, **how):
            if before == 0 and len(calls) == 5:
                raise RuntimeError("out of memory")
            calls.append(len(tokens))
            return await generate(tokens[-16:], **how)

        monkeypatch.setattr(engine, "generate", counted)
        return engine

    monkeypatch.setattr(revise, "load_engine", counting)
    with pytest.raises(RuntimeError, match="out of memory"):
        main(words)
    known = (tmp_path / "o.jsonl.answers.jsonl").read_text().count('"answer"')
    assert not (tmp_path / "o.jsonl").exists() and 0 < known <= 5
    calls.append(0)
    before = len(calls)
    assert main(words) == 0
    assert len(calls) - before == 8 - known
    rows = [row for _, row in read_rows(tmp_path / "o.jsonl")]
    assert [row["original"] for row in rows] == [f"Go away, {k}!" for k in range(4)]
    assert all(row["completion"] == row["revisions"][0]["completion"] for row in rows)
    assert [d.completion for d in read_demonstrations(str(tmp_path / "o.jsonl"))] == [
        r["completion"] for r in rows
    ]
    assert not (tmp_path / "o.jsonl.answers.jsonl").exists()


def test_a_server_writes(asked, tmp_path: Path, monkeypatch):
    """Two calls a response and round, at temperature 0, with room for an answer. Mutations caught: a judge's 16
    tokens; log-probs asked of who writes."""
    heard: list[dict] = []

    async def answer(self, body, words):
        heard.append(dict(body))
        return {"text": f"said {len(heard)}", "probabilities": {}}

    monkeypatch.setattr("heedful.remote.endpoint._served", lambda *of: "m")
    monkeypatch.setattr("heedful.remote.endpoint.Endpoint._asked", answer)
    assert (
        main([*asked, "--by", "http://127.0.0.1:1/v1#m", "--rounds", "2", "--max-tokens", "99"])
        == 0
    )
    assert len(heard) == 4 * 2 * 2
    assert all(
        b["max_tokens"] == 99 and b["temperature"] == 0 and "logprobs" not in b for b in heard
    )
    row = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert len(row["revisions"]) == 2 and row["completion"] == row["revisions"][1]["completion"]


def test_what_makes_no_sense_is_one_sentence(asked, tmp_path: Path, capsys):
    """Mutations caught: a folder without llm: that is taken for a server; principles of comments alone."""
    assert main([*asked, "--by", "runs/sft"]) == 2
    assert "expected llm:MODEL or http://" in capsys.readouterr().err
    (tmp_path / "p.txt").write_text("# none\n")
    assert main([*asked, "--by", "llm:runs/sft"]) == 2
    assert "has no principle" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()
