"""Rows → prompts, demonstrations, comparisons: every form that users have, every mistake by file, line and field."""

import json
import logging
import re

import pytest

from heedful.data.sources import (
    prompt_from_json,
    prompt_text,
    prompt_to_json,
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_rows,
    read_samples,
    read_texts,
    read_unpaired,
)
from heedful.errors import UserError
from heedful.types import Comparison, Demonstration, Message

READERS = {
    "texts": read_texts,
    "prompts": read_prompts,
    "demonstrations": read_demonstrations,
    "comparisons": read_comparisons,
    "samples": read_samples,
}
PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
RANKED = {"prompt": "p", "responses": ["a", "b", "c"], "ranking": [1, 2, 2]}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def said(*messages):
    return tuple(Message(m["role"], m["content"]) for m in messages)


@pytest.fixture
def read(tmp_path):
    def read(kind, *rows, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return READERS[kind](path, **options)

    return read


def test_texts_leave_out_the_empty_ones(read):
    assert read("texts", {"text": "a"}, {"text": " "}, {"text": "b", "label": 1}) == ["a", "b"]
    with pytest.raises(UserError, match=r"rows\.jsonl: every `text` is empty"):
        read("texts", {"text": ""})


def test_prompts(read):
    chat = [system("be brief"), user("hi")]
    found = read(
        "prompts",
        {"prompt": "The", "extra": 1},
        {"prompt": chat},
        {"messages": chat},
        {"question": "2 + 2?", "answer": "#### 4"},
    )
    assert found == ["The", said(*chat), said(*chat), said(user("2 + 2?"))]


def test_prompts_come_back_from_json():
    for prompt in ("text", said(system("s"), user("ü"))):
        assert prompt_from_json(json.loads(json.dumps(prompt_to_json(prompt)))) == prompt
    assert prompt_text(said(system("s"), user("u"))) == "system: s\nuser: u"
    assert prompt_text("text") == "text"


def test_demonstrations(read):
    chat = [system("s"), user("a"), assistant("b"), user("c"), assistant("d"), user("e")]
    found = read(
        "demonstrations",
        {"prompt": "The", "completion": " end"},
        {"prompt": [user("a")], "completion": "b"},
        {"prompt": [user("a")], "completion": [assistant("b")]},
        {"prompt": "a", "completion": [assistant("b")]},
        {"messages": chat},
    )
    asked = said(user("a"))
    assert found[0] == Demonstration("The", " end")
    assert found[1] == found[2] == found[3] == Demonstration(asked, "b")
    assert found[4:] == [
        Demonstration(said(*chat[:2]), "b"),
        Demonstration(said(*chat[:4]), "d"),
    ]


QA, QB = [user("q"), assistant("a")], [user("q"), assistant("b")]


@pytest.mark.parametrize(
    ("row", "prompt", "responses"),
    [
        (PAIR, "p", ("a", "b")),
        ({"prompt": [user("q")], "chosen": "a", "rejected": "b"}, said(user("q")), ("a", "b")),
        ({"prompt": [user("q")], "chosen": QA[1:], "rejected": QB[1:]}, said(user("q")), ("a", "b")),
        ({"chosen": QA, "rejected": QB}, said(user("q")), ("a", "b")),
        ({"prompt": "q", "chosen": QA, "rejected": QB}, said(user("q")), ("a", "b")),
        ({"prompt": [user("q")], "chosen": QA, "rejected": QB}, said(user("q")), ("a", "b")),
        ({"prompt": "q", "chosen": QA[1:], "rejected": QB[1:]}, said(user("q")), ("a", "b")),
        (
            {"chosen": "The capital is Paris.", "rejected": "The capital is Peru."},
            "The capital is", (" Paris.", " Peru."),
        ),
        ({"chosen": "a b", "rejected": "a b c"}, "a", (" b", " b c")),
    ],
)  # fmt: skip
def test_every_form_of_a_pair(row, prompt, responses, read):
    """Mutation caught: a chat prompt kept as plain text, which trains without the chat template."""
    assert read("comparisons", row) == [Comparison(prompt, responses, (1, 2))]


def test_rankings_with_all_they_may_carry(read):
    more = {
        "strength": 0.5, "rater": "ann", "order_shown": [2, 0, 1], "seconds": 3.5,
        "policy_version": "step-10", "created_at": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    plain, full = read("comparisons", RANKED | {"strength": None}, RANKED | more)
    assert plain == Comparison("p", ("a", "b", "c"), (1, 2, 2))
    order = {"order_shown": (2, 0, 1)}
    assert full == Comparison("p", ("a", "b", "c"), (1, 2, 2), **(more | order))


def hh(*turns):
    return "".join(f"\n\n{'Human' if t[0] == 'H' else 'Assistant'}: {t[1:]}" for t in turns)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "responses"),
    [
        (hh("Hq", "Aa"), hh("Hq", "Ab"), [user("q")], ("a", "b")),
        ("Human: q\n\nAssistant: a \n", hh("Hq", "Ab"), [user("q")], ("a", "b")),
        (
            hh("Hq", "Ax", "Hr", "Aa"), hh("Hq", "Ax", "Hr", "Ab"),
            [user("q"), assistant("x"), user("r")], ("a", "b"),
        ),
        # One goes on longer: what follows the last shared turn of the human is the response.
        (hh("Hq", "Aa"), hh("Hq", "Ab", "Hr", "Ac"), [user("q")], ("a", "b\n\nHuman: r\n\nAssistant: c")),
        (hh("Hq", "Aa"), hh("Hq", "Aa", "Hr", "Ac"), [user("q")], ("a", "a\n\nHuman: r\n\nAssistant: c")),
        # Turns in succession by one speaker are one turn.
        (hh("Hq", "Hr", "Aa"), hh("Hq", "Hr", "Ab"), [user("q\n\nr")], ("a", "b")),
        (hh("Hq", "Aa", "Ac"), hh("Hq", "Ab"), [user("q")], ("a\n\nc", "b")),
        # A name in the middle of a text opens no turn.
        (hh("Hq Human: no", "Aa"), hh("Hq Human: no", "Ab"), [user("q Human: no")], ("a", "b")),
    ],
)  # fmt: skip
def test_hh_transcripts(chosen, rejected, prompt, responses, read):
    found = read("comparisons", {"chosen": chosen, "rejected": rejected})
    assert found == [Comparison(said(*prompt), responses, (1, 2))]


def test_real_transcripts(shared_data, caplog):
    """1,800 human comparisons: all load or are named; prompts alternate, as chat templates demand."""
    source = shared_data / "hh-harmless.jsonl.gz"
    with pytest.raises(UserError, match=r"hh-harmless\.jsonl\.gz:273: `chosen` is an empty"):
        read_comparisons(source)
    with caplog.at_level(logging.WARNING, "heedful"):
        found = read_comparisons(source, skip_bad=True)
    assert len(found) == 1796
    (record,) = caplog.records
    assert "skipped 4 " in record.getMessage() and ":273" in record.getMessage()
    empty = {273, 658, 1018, 1478}
    rows = [row for where, row in read_rows(source) if int(where.split(":")[1]) not in empty]
    for comparison, row in zip(found, rows, strict=True):
        roles = [m.role for m in comparison.prompt if isinstance(m, Message)]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        sides = ("chosen", "rejected")
        for side, response in zip(sides, comparison.responses, strict=True):
            # The last words of the transcript are those of the response; nothing of it is lost.
            assert row[side].rstrip().endswith(response.split("\n\n")[-1])
            size = sum(len(m.content) for m in comparison.prompt if isinstance(m, Message))
            assert len(row[side]) - size - len(response) < 16 * (len(roles) + 3)


def test_skipping(read, caplog):
    rows = [PAIR, PAIR | {"chosen": ""}, PAIR | {"chosen": "b"}]
    with pytest.raises(UserError, match=r"rows\.jsonl:2.*--on-bad-row drop"):
        read("comparisons", *rows, skip_bad=False)
    with pytest.raises(UserError) as error:  # a command that has no such flag
        read("comparisons", *rows)
    assert "--on-bad-row" not in str(error.value)
    with caplog.at_level(logging.WARNING, "heedful"):
        assert len(read("comparisons", *rows, skip_bad=True)) == 1
    assert "skipped 2" in caplog.text and "rows.jsonl:2" in caplog.text
    with pytest.raises(UserError, match=r"all 2 rows are unusable; the first: .*:1"):
        read("comparisons", *rows[1:], skip_bad=True)


def test_samples_keep_their_columns(read):
    row = {"prompt": [user("q")], "completion": "", "index": 3, "logprob": -1.5, "gold": 1.0}
    assert read("samples", row) == [row]


TURNS = {"messages": [user("q"), assistant("a"), assistant("b")]}
MISTAKES = [
    ("texts", {"txet": "a"}, ["`text`", "did you mean 'txet'", "found txet"]),
    ("texts", {"text": 5}, ["`text` must be a string"]),
    ("prompts", {"text": "a"}, ["`prompt` or `messages` or `question`", "found text"]),
    ("prompts", {"prompt": 5}, ["`prompt` must be text or a list of messages"]),
    ("prompts", {"prompt": []}, ["`prompt` must be text or a list of messages"]),
    ("prompts", {"prompt": ["hi"]}, ["`prompt`", "`role`", "`content`"]),
    ("prompts", {"prompt": [{"role": "user"}]}, ["`prompt`", "`content`"]),
    ("prompts", {"prompt": [user([{"type": "text"}])]}, ["text `content`"]),
    ("prompts", {"prompt": [{"role": "usr", "content": ""}]}, ["'usr'", "did you mean 'user'"]),
    (
        "prompts",
        {"prompt": [user("a"), assistant("b")]},
        ["`prompt`", "user's turn", "assistant's"],
    ),
    ("prompts", {"messages": [system("a")]}, ["`messages`", "user's turn", "system's"]),
    ("demonstrations", {"prompt": "a"}, ["`completion`", "found prompt"]),
    ("demonstrations", {"prompt": "a", "completion": " \n"}, ["`completion` is an empty response"]),
    ("demonstrations", {"prompt": "a", "completion": [user("b")]}, ["`completion`", "assistant"]),
    ("demonstrations", {"messages": [user("a")]}, ["`messages`", "no assistant turn"]),
    ("demonstrations", {"messages": "a"}, ["`messages` must be a list of messages"]),
    ("demonstrations", {"messages": [user("a"), assistant("")]}, ["`messages` is an empty"]),
    ("demonstrations", TURNS, ["`messages`", "two assistant turns"]),
    ("comparisons", {"prompt": "p", "chosen": "a"}, ["`rejected`", "found prompt, chosen"]),
    ("comparisons", PAIR | {"chosen": "b"}, ["`chosen` and `rejected` are the same"]),
    ("comparisons", PAIR | {"rejected": ""}, ["`rejected` is an empty response"]),
    ("comparisons", PAIR | {"chosen": None}, ["`chosen` must be text or a list"]),
    ("comparisons", {"chosen": "one", "rejected": "two"}, ["`prompt`", "share no beginning"]),
    ("comparisons", {"chosen": QA, "rejected": "b"}, ["`rejected` must be text or a list"]),
    ("comparisons", {"chosen": QA, "rejected": [user("q"), user("b")]}, ["last assistant message"]),
    ("comparisons", {"chosen": QA, "rejected": [user("r"), assistant("b")]}, ["same conversation"]),
    ("comparisons", {"prompt": [user("r")], "chosen": QA, "rejected": QB}, ["turns of `prompt`"]),
    ("comparisons", {"chosen": hh("Hq", "Aa"), "rejected": hh("Hr", "Ab")}, ["no opening turn"]),
    ("comparisons", {"chosen": hh("Hq", "Hr", "Aa"), "rejected": hh("Hq", "Ab")}, ["human"]),
    (
        "comparisons",
        {"chosen": hh("Hq", "A"), "rejected": hh("Hq", "Ab")},
        ["`chosen` is an empty"],
    ),
    ("comparisons", {"chosen": hh("Hq", "Aa"), "rejected": hh("Hq", "Aa ")}, ["the same"]),
    ("comparisons", RANKED | {"ranking": [1, 2]}, ["`ranking`", "3 responses"]),
    ("comparisons", RANKED | {"ranking": [1, 2, 2.0]}, ["`ranking`", "whole number"]),
    ("comparisons", RANKED | {"ranking": [True, 2, 3]}, ["`ranking`", "whole number"]),
    ("comparisons", RANKED | {"ranking": [0, 1, 2]}, ["`ranking`", "from 1"]),
    ("comparisons", RANKED | {"ranking": "123"}, ["`ranking`"]),
    ("comparisons", RANKED | {"ranking": [None, None, None]}, ["`ranking`", "from 1"]),
    (
        "comparisons",
        {"prompt": "p", "responses": ["a", "b"]},
        ["`ranking`", "found", "import samples"],
    ),
    (
        "comparisons",
        {"prompt": "p", "response_a": "a", "response_b": "b"},
        ["`response_a`, `response_b`", "found prompt, response_a, response_b", "import samples"],
    ),
    (
        "comparisons",
        {"prompt": "p", "response_a": "a", "response_b": "b", "winner": "c"},
        ["`winner` is 'c'", "none of `response_a`, `response_b`"],
    ),
    ("comparisons", RANKED | {"responses": ["a"]}, ["`responses`", "at least two"]),
    ("comparisons", RANKED | {"responses": "ab"}, ["`responses`", "list"]),
    ("comparisons", RANKED | {"responses": ["a", "b", " "]}, ["`responses` is an empty"]),
    ("comparisons", RANKED | {"responses": ["a", "b", "a"]}, ["`responses`", "twice"]),
    ("comparisons", RANKED | {"strength": "much"}, ["`strength`", "0 to 1", "'much'"]),
    ("comparisons", RANKED | {"strength": 3}, ["`strength`", "0 to 1"]),
    ("comparisons", RANKED | {"seconds": -1}, ["`seconds`", "from 0 to 1e+09"]),
    ("comparisons", RANKED | {"order_shown": [0, 1]}, ["`order_shown`", "0 to 2"]),
    ("comparisons", RANKED | {"order_shown": 5}, ["`order_shown`"]),
    ("samples", {"prompt": "a"}, ["`completion`"]),
    ("samples", {"completion": "a"}, ["`prompt`"]),
    ("samples", {"prompt": "a", "completion": ["b"]}, ["`completion` must be a string"]),
    ("samples", {"prompt": "a", "completion": "b", "index": "1"}, ["`index`", "whole number"]),
]
FINE = {
    "texts": {"text": "a"},
    "prompts": {"prompt": "a"},
    "demonstrations": {"prompt": "a", "completion": "b"},
    "comparisons": PAIR,
    "samples": {"prompt": "a", "completion": "b"},
}


@pytest.mark.parametrize(
    ("kind", "row", "words"), MISTAKES, ids=[f"{k}-{i}" for i, (k, _, _) in enumerate(MISTAKES)]
)
def test_every_mistake_names_file_line_and_field(kind, row, words, read, tmp_path):
    with pytest.raises(UserError) as caught:
        read(kind, FINE[kind], row)
    sentence = str(caught.value)
    assert sentence.startswith("rows.jsonl:2"), sentence
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


ASKED = {"from": "human", "value": "Why?"}
TOLD = {"from": "gpt", "value": "So."}
ALPACA = {"instruction": "Why?", "input": "", "output": "So."}


@pytest.mark.parametrize(
    "read, row, said",
    [
        (read_samples, {"conversations": [ASKED]}, "`conversations` has no assistant turn"),
        (read_unpaired, {"conversations": [ASKED, TOLD]}, "learns from it; found conversations;"),
        (read_prompts, {"conversations": [{"from": "man", "value": ""}]}, "`conversations` has the unknown"),
        (read_demonstrations, ALPACA | {"output": " "}, "`output` is an empty response"),
        (read_demonstrations, ALPACA | {"instruction": 5}, "`instruction` must be text"),
        (read_comparisons, ALPACA, "learns from it; found instruction, input, output;"),
        (read_samples, {"question": "Why?"}, "column `completion`, found question;"),
        (read_samples, {"prompt": "Why?", "more": 1}, "found prompt, more;"),
        (read_comparisons, {"Prompt": "x", "Chosen": "", "Rejected": "y"}, "`Chosen` is an empty"),
    ],
)  # fmt: skip
def test_errors_name_the_columns_that_the_file_has(read, row, said, tmp_path):
    """Mutation caught: heedful's names for columns that nobody can find in the file."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=re.escape(said)):
        read(path)
