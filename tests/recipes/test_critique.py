"""Critics: what they learn from, what their critiques are worth, and what these do to a judge."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import tiny
from heedful.cli import main
from heedful.data.critiques import question
from heedful.data.files import read_rows, write_rows
from heedful.data.sources import read_demonstrations, read_questions
from heedful.errors import UserError
from heedful.models.new import new_model
from heedful.raters import critics
from heedful.rewards import Group, load_rewards
from heedful.types import Comparison, Message

JUDGE = """
def reads(prompt, response):
    return -100.0 if "says of this response: wrong" in response else 0.0
"""


class Reader:
    """Who thinks worse of what a critic calls wrong, and knows nothing else."""

    def judge(self, prompt, responses):
        bad = ["says of this response: wrong" in text for text in responses]
        return Comparison(prompt, tuple(responses), tuple(1 + b for b in bad))


def test_critiques_teach_to_criticise(tmp_path: Path):
    """What is criticised is never imitated; a span is quoted; text goes on behind a space, a chat has a user's turn.
    Mutations caught: the response as the completion, braces in it filled in, a span out of the prompt."""
    chat = [{"role": "user", "content": "Hi?"}]
    rows = [
        {"prompt": "2 + 2?", "completion": "It is {prompt} 5.", "critique": "wrong ", "rater": "ada"},
        {"prompt": chat, "completion": "Go away.", "critique": "rude", "start": 0, "end": 2},
    ]  # fmt: skip
    write_rows(tmp_path / "c.jsonl", rows)
    text, turn = read_demonstrations(str(tmp_path / "c.jsonl"))
    assert text.completion == " wrong" and text.prompt == question("2 + 2?", "It is {prompt} 5.")
    assert "Prompt:\n2 + 2?\n\nResponse:\nIt is {prompt} 5.\n\nCritique:" in str(text.prompt)
    assert turn.completion == "“Go”: rude" and isinstance(turn.prompt, tuple)
    assert turn.prompt == question((Message("user", "Hi?"),), "Go away.")
    for bad in ({"critique": " "}, {"start": 0, "end": 99}, {"start": True, "end": 2}):
        write_rows(tmp_path / "bad.jsonl", [{**rows[1], **bad}])
        with pytest.raises(UserError, match=r"`critique` is empty|`start` and `end`"):
            read_demonstrations(str(tmp_path / "bad.jsonl"))


def test_a_critique_is_worth_what_a_judge_decides(monkeypatch):
    """Three answers, the second the worst: calling it wrong orders both of its pairs, calling the best wrong neither,
    and silence leaves ties. Mutations caught: pairs without the criticised answer, the critique beside another one,
    ties that are wrong."""
    monkeypatch.setattr(critics, "_judges", lambda spec, seed: (Reader(),))
    facts = {"about": "Which?", "answers": ["a", "b", "c"], "places": [1, 3, 2], "criticised": 1}
    reward = load_rewards("heedful.raters.critics:helps(judge=anybody)")

    def worth(*said: str, **changed) -> list[float | None]:
        group = Group("q", said, [True] * len(said), {**facts, **changed})
        return asyncio.run(reward.score([group])).total

    assert worth("wrong", "fine", "") == [1.0, 0.5, 0.5]
    assert worth("wrong", criticised=0) == [0.0] and worth("wrong", criticised=2) == [0.5]
    for bad, said in (
        ({"criticised": 3}, "criticised"),
        ({"places": [1, 1, 1]}, "ties with all"),
        ({"places": [1, 2]}, "a whole number for each"),
    ):
        with pytest.raises(UserError, match=said):
            reward.check("q", {**facts, **bad})
    alone = critics.decided(Reader(), "Which?", ["a", "b"], [1, 2])
    assert asyncio.run(alone) == 0.5


def test_from_comparisons_to_critiques_and_what_they_do(tmp_path: Path, capsys, monkeypatch):
    """Questions of what is in an order only; critiques as people's are exported, which train sft reads; a judge
    alone and with them. Mutations caught: questions for ties, critiques of another row, a judge who reads none."""
    monkeypatch.chdir(tmp_path)
    tok = tiny.tokenizer()
    big = {"hidden_size": 32, "layers": 2, "heads": 2, "context": 256, "seed": 0}
    new_model("llama", tok, **big).save_pretrained("model")
    tok.save_pretrained("model")
    Path("judge.py").write_text(JUDGE)
    rows = [
        {"prompt": "p", "chosen": "good", "rejected": "bad", "question": "q1"},
        {"prompt": "r", "responses": ["x", "y"], "ranking": [1, 1]},
    ]
    write_rows("pairs.jsonl", rows)
    assert main(["critique", "--data", "pairs.jsonl", "--out", "questions.jsonl"]) == 0
    asked = read_questions("questions.jsonl")
    assert [facts["criticised"] for _, facts in asked] == [0, 1]
    assert asked[1][0] == question("p", "bad") and asked[1][1]["places"] == [1, 2]
    assert asked[0][1]["about"] == "p" and asked[0][1]["question"] == "q1"
    capsys.readouterr()
    words = [
        "critique",
        "--model",
        "model",
        "--data",
        "pairs.jsonl",
        "--max-tokens",
        "4",
        "--quiet",
    ]
    from heedful.recipes import critique

    def said(config, of):
        return {(0, 0): ["fine"], (0, 1): ["wrong"], (1, 0): [""], (1, 1): ["wrong"]}

    real = critique.criticise
    monkeypatch.setattr(critique, "criticise", said)
    assert main([*words, "--out", "c.jsonl", "--judge", "./judge.py:reads"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["comparisons"] == 1 and told["with_critiques"] >= 7 / 8 > told["alone"]
    assert told["more"] == pytest.approx(told["with_critiques"] - told["alone"])
    found = [row for _, row in read_rows("c.jsonl")]
    assert found[1] == {
        "prompt": "p",
        "completion": "bad",
        "critique": "wrong",
        "author": "model",
        "question": "q1",
    }
    assert len(found) == 3 and len(read_demonstrations("c.jsonl")) == 3
    monkeypatch.setattr(critique, "criticise", real)
    assert main([*words, "--out", "two.jsonl", "--n", "2", "--temperature", "1"]) == 0
    by = [(row["completion"], row["index"]) for _, row in read_rows("two.jsonl")]
    assert set(by) <= {(text, n) for text in ("good", "bad", "x", "y") for n in (0, 1)} and by
    for flags, why in (
        (["--out", "o.jsonl", "--data", "two.jsonl"], "learns from comparisons"),
        (["--out", "o.jsonl", "--data", "pairs.jsonl", "--n", "2"], "nobody is asked"),
        (["--out", "o.jsonl", "--data", "pairs.jsonl", "--model", "model", "--n", "2"], "above 0"),
    ):
        assert main(["critique", *flags]) == 2
        assert why in capsys.readouterr().err
