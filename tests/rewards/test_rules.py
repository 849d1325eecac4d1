"""Every rule and verifier that a name on the command line stands for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import time
from importlib.util import find_spec

import pytest

from heedful import registry
from heedful.errors import UserError
from heedful.rewards import Group, load_rewards
from heedful.types import Message

OPTIONS = {"regex": "('^ok')"}
PROMPTS = ("What is 2 + 2?", (Message("system", "<|eos|>"), Message("user", "2 + 2? #### 4")))
RESPONSES = ("", "4", "ok, it is 4.", "#### 4", "<think>2 + 2</think>4", "5", "\0" * 9, "a b " * 9,
             "C4 E4:2 G4 C5", "F#4 C#7 F#4 F#4", "CCO", "c1ccccc1O")  # fmt: skip

REWARDS = {name: entry.load() for name, entry in registry.entries("reward").items()}


def values(spec: str, responses, *, ended=None, facts=None, prompt=PROMPTS[0], prefilled=""):
    ended = ended or [True] * len(responses)
    group = Group(prompt, responses, ended, facts or {"answer": "4"}, prefilled=prefilled)
    return asyncio.run(load_rewards(spec).score([group])).total


NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec("rdkit"), reason="no rdkit"))
    if name.startswith("molecule")
    else name
    for name in REWARDS
]


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_keeps_the_contract(name):
    """One finite number a response, in order, whoever else is in the group; the prompt's text leaks nowhere.

    Mutation caught: scores of the first response repeated, a rule that reads the prompt (which may hold an
    end token, or the very answer), a scorer with a state.
    """
    spec = name + OPTIONS.get(name, "")
    ended = [i % 3 != 0 for i in range(len(RESPONSES))]
    together = values(spec, RESPONSES, ended=ended)
    assert len(together) == len(RESPONSES) and all(math.isfinite(v) for v in together)
    assert len(set(together)) > 1  # it tells responses apart
    for k, response in enumerate(RESPONSES):
        assert values(spec, [response], ended=[ended[k]]) == [together[k]]
    assert values(spec, RESPONSES, ended=ended, prompt=PROMPTS[1]) == together
    assert values(spec, RESPONSES[::-1], ended=ended[::-1]) == together[::-1]


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_is_quick_on_hostile_text(name):
    """Mutation caught: a pattern that backtracks over 100,000 characters."""
    texts = [
        c * (100_000 // len(c))
        for c in ("<think>", "</think>", "<think></think>", " ", "9", "####")
    ]
    start = time.process_time()
    values(name + OPTIONS.get(name, ""), texts)
    assert time.process_time() - start < 3.0


def test_no_eos_looks_at_how_sampling_stopped():
    """Mutation caught: searching prompt or text for an end token."""
    assert values("no_eos", ["x <|eos|>", "x"], ended=[False, True]) == [-1.0, 0.0]
    assert values("no_eos(penalty=2.5)", ["x", "x"], ended=[False, True]) == [-2.5, 0.0]


def test_length():
    assert values("length", ["", "one two three"]) == pytest.approx([0.0, -0.03])
    assert values("length(price=2, free=1)", ["", "one", "one two three"]) == [0.0, 0.0, -4.0]
    assert values("length(1, unit=characters)", ["abc"]) == [-3.0]


def test_regex_and_think_format():
    """Quotes keep commas, equals signs and brackets in a pattern; a backslash stays one."""
    assert values(r"regex('^\d{1,3}=x\)$')", ["12=x)", "1234=x)", " 12=x)"]) == [1.0, 0.0, 0.0]
    said = {
        "<think>a</think>b": 1.0,
        "<think>\n</think>": 1.0,
        "<think>a</think>b<think>": 0.0,
        "<think><think>a</think></think>": 0.0,
        "b <think>a</think>": 0.0,
        "a</think>b": 0.0,
    }
    assert values("think_format", list(said)) == list(said.values())
    opened = {"a</think>b": 1.0, "<think>a</think>b": 0.0, "b": 0.0}
    assert values("think_format", list(opened), prefilled="<think>\n") == list(opened.values())
    closed = {"b": 1.0, "a</think>b": 0.0}
    assert values("think_format", list(closed), prefilled="<think>\n\n</think>\n") == list(
        closed.values()
    )


def test_exact_match():
    facts = {"answer": "Lima"}
    said = {"Lima": 1, " lima. ": 1, "The capital is Lima": 0, "x\n#### Lima": 1, "Limas": 0, "": 0}
    assert values("exact_match", list(said), facts=facts) == list(said.values())
    strict = "exact_match(ignore_case=false)"
    assert values(strict, ["Lima", "lima"], facts=facts) == [1.0, 0.0]
    assert values("exact_match", ["b", "c"], facts={"target": ["a", "b"]}) == [1.0, 0.0]
    assert values("exact_match", [r"\boxed{\text{Lima}}", r"\boxed{}"], facts=facts) == [1.0, 0.0]
    assert values("exact_match", ["72", "72.0"], facts={"answer": 72.0}) == [1.0, 0.0]


@pytest.mark.parametrize("column", ["answer", "solution", "target"])
def test_numeric_finds_the_column(column):
    facts = {column: "9 * 8 = <<9*8=72>>72.\n#### 72", "level": 5}
    assert values("numeric", ["72", "#### 72.0", "$72", "7.2", ""], facts=facts) == [1, 1, 1, 0, 0]
    assert values(f"numeric(column={column})", ["72"], facts=facts) == [1.0]


def test_numeric_takes_numbers_and_tolerance():
    assert values("numeric", ["0.1", "1/10", "0.10001"], facts={"answer": 0.1}) == [1, 1, 0]
    assert values("numeric(tolerance=0.001)", ["0.1005", "0.2"], facts={"answer": 0.1}) == [1, 0]
    assert values("numeric", ["12"], facts={"answer": 12}) == [1.0]


@pytest.mark.parametrize(
    ("gold", "paid", "unpaid"),
    [
        (r"2\sqrt{3}", [r"so \boxed{2\sqrt{3}}", r"\boxed{\sqrt{12}}", "2√3", "2 sqrt(3)", r"so it is $2\sqrt{3}$"],
         [r"\boxed{3}", r"\boxed{2}", "It must be 3"]),
        ("2", ["2"], ["and so it is 2√3", r"the whole area is 2\pi"]),
        ("72", [r"\boxed{8\cdot 9}", "#### 72 clips"], ["#### 72 or 73", r"\boxed{72\sqrt{2}}", "72x", "2^72"]),
        (r"\{1, 2\}", [r"\boxed{\{2,1\}}"], [r"\boxed{\{1,3\}}", "2"]),
        ("(1,2)", [r"\boxed{(1, 2)}"], [r"\boxed{(2,1)}"]),
        (r"\boxed{x^2+1}", [r"\boxed{1+x^2}"], [r"\boxed{x^2}", "1"]),
        ("5 km/h", [r"\boxed{5}", r"\boxed{5 \text{ km/h}}"], [r"\boxed{50}"]),
        (["3", r"\sqrt{2}"], ["3", r"\boxed{\sqrt2}"], ["2"]),
        (72.0, ["72"], ["7.2"]),
    ],
)  # fmt: skip
def test_right_answers_and_responses_are_read_by_the_same_reader(gold, paid, unpaid):
    """Mutation caught: the last number of the one against the first of the other, which pays 3 for 2√3."""
    facts = {"answer": gold}
    assert values("numeric", [*paid, *unpaid], facts=facts) == [1.0] * len(paid) + [0.0] * len(
        unpaid
    )


def test_a_formula_that_never_ends_costs_its_answer_and_no_more():
    """In any thread. Mutation caught: math-verify's own time-out, a signal that big powers ignore."""
    asked = [r"\boxed{9^{9^{9^9}}}", r"\boxed{\frac{\sqrt{8}}{2}}"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        task = pool.submit(values, "numeric", asked, facts={"answer": r"\sqrt{2}"})
        assert task.result() == [0.0, 1.0]


def test_a_row_without_a_right_answer_is_an_error():
    """Mutation caught: 0.0 for whatever cannot be checked."""
    with pytest.raises(
        UserError, match=r"column `answer` or `solution` or `target`.*has beside.*level"
    ):
        values("numeric", ["4"], facts={"level": 1})
    with pytest.raises(UserError, match=r"'many' to .* has no number"):
        values("numeric", ["4"], facts={"answer": "many"})
    with pytest.raises(UserError, match="is empty"):
        values("exact_match", ["4"], facts={"answer": " "})
    with pytest.raises(UserError, match="needs the right answer"):
        values("numeric", ["4"], facts={"answer": math.nan})
    with pytest.raises(UserError, match="column `gold`"):
        values("exact_match(column=gold)", ["4"])
