"""The world of sums: every answer right by another route, nothing held out is ever told, gold as documented."""

from __future__ import annotations

import ast
import json
import operator
import re

import pytest

from heedful.data.sources import read_demonstrations, read_questions, read_texts
from heedful.errors import UserError
from heedful.rewards.answers import final_answer
from heedful.types import Message
from heedful.worlds import arithmetic as world
from heedful.worlds import get, scorer

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def value(text: str) -> int:
    """By Python's own grammar, with its precedence."""

    def of(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](of(node.left), of(node.right))
        if isinstance(node, ast.UnaryOp):
            return -of(node.operand)
        assert isinstance(node, ast.Constant) and isinstance(node.value, int)
        return node.value

    return of(ast.parse(text, mode="eval").body)


def test_every_problem_and_every_step_is_right():
    """All of them. Mutation caught: a wrong precedence, a sign lost in a step, steps that do not lead on."""
    found = [*world.problems("train"), *world.problems("held_out")]
    assert len({p.text for p in found}) == len(found) > 20_000
    assert {p.level for p in found} == set(range(1, 7))
    assert any(p.answer < 0 for p in found)
    for p in found:
        assert p.answer == value(p.text)
        for text, result in p.steps:
            assert result == value(text)


def expressions(text: str) -> set[str]:
    """What a text works out: whatever stands before an equals sign, and what it asks for."""
    asked = re.findall(r"(?:What is|How much is|Work out|Calculate) (.*?)[?.]", text)
    return {*asked, *re.findall(r"(?:^|\n)(.*?) = ", text)}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return world.write(
        tmp_path_factory.mktemp("world"), seed=3, documents=4000, demonstrations=1000
    )


def test_nothing_held_out_is_ever_told(paths):
    """Neither asked, nor a step of something else. Mutation caught: a split by wording, steps not looked at."""
    held = {p.text for p in world.problems("held_out")}
    told = set().union(*(expressions(t) for t in read_texts(paths["text"])))
    for d in read_demonstrations(paths["demonstrations"]):
        told |= expressions(d.prompt[-1].content) | expressions(d.completion)
    for prompt, _ in read_questions(paths["prompts"]):
        told |= {s for s, _ in world.problem_of(prompt).steps} | expressions(prompt[-1].content)
    assert len(told) > 2000 and not told & held
    asked = [world.problem_of(p).text for p, _ in read_questions(paths["held_out"])]
    assert set(asked) <= held and len(set(asked)) == len(asked)


def test_demonstrations_are_right_and_in_form(paths):
    """Mutation caught: a careless speaker among the demonstrators, answers of another row."""
    rows = [json.loads(line) for line in paths["demonstrations"].read_text().splitlines()]
    assert {row["level"] for row in rows} == set(range(1, 7))
    for row in rows:
        prompt = (Message(**row["prompt"][0]),)
        assert world.gold(prompt, row["completion"]) == 1.0
        assert final_answer(row["completion"]) == row["answer"]


def test_prompts_carry_answer_and_level(paths):
    for name, most in world.MAX_PROMPTS.items():
        found = read_questions(paths["prompts" if name == "train" else name])
        assert all(set(facts) == {"answer", "level"} for _, facts in found)
        for prompt, facts in found:
            problem = world.problem_of(prompt)
            assert (str(problem.answer), problem.level) == (facts["answer"], facts["level"])
        assert max(sum(f["level"] == k for _, f in found) for k in range(1, 7)) == most


def test_the_raw_text_is_often_wrong(paths):
    """So that there is something to learn from rewards; a quarter of the speakers is careless."""
    said = [t.partition("\n") for t in read_texts(paths["text"])]
    voices = [world.voice(question, answer) for question, _, answer in said]
    shares = {name: voices.count(name) / len(voices) for name in world.VOICES}
    assert shares == pytest.approx(
        {"right": 0.55, "right, out of form": 0.15, "wrong": 0.25, "no answer": 0.05}, abs=0.03
    )


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("3 - 5 = -2\n-2 * 4 = -8\n#### -8", 1.0),
        ("#### -8\n", 1.0),
        ("-8", 0.5),
        ("#### -8 or so", 0.5),
        ("#### 8", 0.0),
        ("#### 18", 0.0),
        ("-8\n#### 9", 0.0),
        ("#### -8\nno, 9", 0.0),
        ("No idea.", 0.0),
        ("#### " + "9" * 100_000, 0.0),
    ],
)
def test_gold(response, score):
    assert world.gold("What is (3 - 5) * 4?\n", response) == score
    assert scorer("arithmetic")((Message("user", "Work out (3 - 5) * 4."),), response) == score


def test_the_same_seed_gives_the_same_bytes_and_levels_are_kept(tmp_path, paths):
    again = world.write(tmp_path / "a", seed=3, documents=4000, demonstrations=1000)
    assert all(again[n].read_bytes() == paths[n].read_bytes() for n in paths)
    easy = world.write(tmp_path / "b", seed=4, documents=50, demonstrations=50, levels=2)
    assert easy["text"].read_bytes() != again["text"].read_bytes()
    for name in ("prompts", "held_out"):
        assert {facts["level"] for _, facts in read_questions(easy[name])} == {1, 2}
    with pytest.raises(UserError, match="--levels must be 1 to 6, not 7"):
        world.write(tmp_path / "c", seed=0, documents=1, demonstrations=1, levels=7)


def test_a_problem_it_does_not_know():
    assert get("arithmetic") is world
    for text in ("What is 2 / 2?", "Why?", "What is 100 + 100?"):
        with pytest.raises(UserError, match="does not know"):
            world.gold(text, "4")
