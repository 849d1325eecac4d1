"""Final answers and numbers as people, models and enemies write them."""

from __future__ import annotations

import gzip
import json
import time
from fractions import Fraction

import pytest

from heedful.rewards.answers import Number, final_answer, read_answer


def final_number(text: str) -> Number | None:
    return read_answer(text).number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16 - 3 - 4 = 9, and 9 * 2 = 18.\n#### 18", "18"),
        ("#### 70,000", "70000"),
        ("#### $1,234.50 dollars", "1234.5"),
        ("#### 5\nwait, no\n#### 6", "6"),
        ("#### -3", "-3"),
        ("#### −3.", "-3"),
        ("#### -$3", "-3"),
        ("#### $-3", "-3"),
        ("#### +7", "7"),
        (r"so $x = \boxed{42}$.", "42"),
        (r"\boxed{1} and then \boxed{\frac{3}{4}}", "3/4"),
        (r"\boxed{-\frac{1}{2}}", "-1/2"),
        (r"\boxed{1\dfrac{1}{2}}", "3/2"),
        (r"\boxed{12{,}345}", "12345"),
        (r"\boxed{12\,345}", "12345"),
        (r"\boxed{70\%}", "70"),
        (r"#### 3 no, \boxed{4}", "4"),
        (r"\boxed{4} no, #### 3", "3"),
        ("The answer is 72.", "72"),
        ("So the answer is **72**", "72"),
        ("He earns at most 72 a day!", "72"),
        ("it goes from 10-20", "20"),
        ("x = 72", "72"),
        ("9*8 = 72", "72"),
        ("#### 72 km/h", "72"),
        (r"\boxed{72\text{ cm}^2}", "72"),
        (r"\fbox{72^\circ}", "72"),
        ("It is 1 of 3, so 1/3", "1/3"),
        ("2 1/2", "5/2"),
        ("2½", "5/2"),
        ("about .5", "1/2"),
        ("2e3", "2000"),
        ("1.5E-2", "3/200"),
        ("5 - 8 = -3", "-3"),
        ("12\u202f345 people", "12345"),
        ("\uff14\uff12", "42"),
        ("50%", "50"),
        ("3 percent", "3"),
    ],
)
def test_the_final_number(text, value):
    """Each form by hand. Mutation caught: the first number in place of the last, a sign lost, 1,234 read as 234."""
    found = final_number(text)
    assert found is not None and found.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "I do not know.", "It was 5.\n####", "####\n7", r"5 and \boxed{6", r"\boxed{}", "4/0"],
)
def test_no_final_number(text):
    """A marked answer that is empty is no answer: the numbers before it do not count."""
    assert final_number(text) is None


@pytest.mark.parametrize(
    "text",
    [r"2\sqrt{3}", r"so \boxed{2\sqrt{3}}", "2√3", "#### 18 or 19", "1,2,3", "#### -1,2", "(1,2)", r"\boxed{3\pi}",
     "x-5", "2x", "9*8", r"\boxed{2^{10}}", "x = 2, y = 3", "#### 5 - 3", "y = 2x + 1", "so it must be 9 * 8",
     r"then the whole area is 3\pi", "and this power is 2^72", "it can only be the list 1,2,3", r"\boxed{\{1, 2\}}",
     r"hence the root is \frac{\sqrt{3}}{2}"],
)  # fmt: skip
def test_a_piece_of_a_formula_is_no_number(text):
    """Mutation caught: 3 for 2√3, which pays a wrong answer and refuses the right one."""
    answer = read_answer(text)
    assert answer.number is None and answer.formula


def test_final_answers_as_text():
    assert final_answer("Lima") is None
    assert final_answer("so\n#### Lima \nbye") == "Lima"
    assert final_answer(r"\boxed{\text{Lima}}") == r"\text{Lima}"


def test_percent_and_tolerance():
    """50 % is 50 (the sign left out) and 0.5 (what it means), but 50 % is not 5000 %."""
    half, fifty, sign = Number(Fraction(1, 2)), Number(Fraction(50)), Number(Fraction(50), True)
    assert sign.equals(fifty) and fifty.equals(sign) and sign.equals(half) and half.equals(sign)
    assert not half.equals(fifty)
    assert not sign.equals(Number(Fraction(5000), True))
    for text in ("50 %", "50%", r"50\%", r"$50\%$", r"\boxed{50\%}", r"\boxed{50 \%}"):
        assert read_answer(text).number == sign, (
            text
        )  # mutation caught: the sign taken for a word beside the number
    third = Number(Fraction(1, 3))
    assert not third.equals(Number(Fraction("0.3333")))
    assert third.equals(Number(Fraction("0.3333")), 1e-3)


LONG = 100_000
HOSTILE = {
    "digits": "9" * LONG,
    "commas": "9," * (LONG // 2),
    "groups": "1" + ",000" * (LONG // 4),
    "points": "1." * (LONG // 2),
    "signs": "-" * LONG,
    "dollars": "$" * LONG,
    "slashes": "1/" * (LONG // 2),
    "spaces": "1" + " " * LONG + "/",
    "mixed": "1 1/" * (LONG // 4),
    "exponents": "1e" * (LONG // 2),
    "huge": "1e999999999",
    "tiny": "1e-999999999",
    "hashes": "#" * LONG,
    "boxes": r"\boxed{" * (LONG // 7),
    "braces": r"\boxed{" + "{" * LONG,
    "fractions": r"\frac{" * (LONG // 6),
    "nested fractions": r"\frac{1}{" * (LONG // 9),
    "open fractions": r"1\frac{" + "1" * LONG,
    "nulls": "\0" * LONG,
    "narrow": "1\u202f" * (LONG // 2),
    "percents": "5" + " %" * (LONG // 2),
    "arabic digits": "٣" * LONG,
    "surrogates": "\ud800" * LONG,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_no_time(name):
    """100,000 characters of each kind in under a second, without an exception.

    Mutation caught: `\\s*` before the slash or nested quantifiers (minutes), int() of a long run of digits
    (ValueError), Fraction('1e999999999') (all memory).
    """
    start = time.process_time()
    for text in (HOSTILE[name], f"#### {HOSTILE[name]}", HOSTILE[name] + " so 7"):
        final_number(text)
    assert time.process_time() - start < 1.0
    last = final_number(HOSTILE[name] + " so 7")
    assert last is None or last.value == 7 or "boxed" in HOSTILE[name] or name == "hashes"


def test_gsm8k(shared_data):
    """Every worked solution ends in the number that a plain reading of its last line gives; none is missed."""
    path = shared_data / "gsm8k-test.jsonl.gz"
    if not path.exists():
        pytest.skip("GSM8K is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 1319
    for row in rows:
        plain = Fraction(row["answer"].rpartition("#### ")[2].replace(",", ""))
        found = final_number(row["answer"])
        assert found is not None and found.value == plain and not found.percent
