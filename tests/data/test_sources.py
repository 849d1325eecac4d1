"""Files of every kind and column of every form, and one sentence for what is wrong with them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from heedful.configs.ingest import Config
from heedful.data.files import read_rows, write_rows
from heedful.data.reading import Reading
from heedful.data.sources import (
    prompt_from_json,
    prompt_to_json,
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_samples,
    read_texts,
    stream_comparisons,
    stream_demonstrations,
    stream_questions,
    stream_texts,
    stream_unpaired,
)
from heedful.doctor.material import read_material
from heedful.errors import UserError
from heedful.transfer.ingest import load
from heedful.types import Message

USER = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "Because."}
WHY = (Message("user", "Why?"),)


def jsonl(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


ODD = ["plain", "bidi \u202eabc\u202c", "emoji 🦉", "e\u0301 and é", "tab\t nul\x00", "日本語"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_rows_round_trip_byte_for_byte(tmp_path, name):
    rows = [{"text": t} for t in ODD]
    assert write_rows(tmp_path / name, rows) == len(rows)
    assert [r for _, r in read_rows(tmp_path / name)] == rows
    first = (tmp_path / name).read_bytes()
    write_rows(tmp_path / name, rows)
    assert (tmp_path / name).read_bytes() == first


def test_other_kinds_of_files(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,completion\nWhy?,"Because, of course."\n')
    assert read_samples(tmp_path / "a.csv")[0]["completion"] == "Because, of course."
    (tmp_path / "a.json").write_text(json.dumps([{"text": "x"}, {"text": "y"}]))
    assert read_texts(tmp_path / "a.json") == ["x", "y"]
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write("one\nstill one\n\n\ntwo\n")
    assert read_texts(tmp_path / "a.txt.gz") == ["one\nstill one", "two"]
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"prompt": [[USER]]}), tmp_path / "a.parquet")
    assert read_prompts(tmp_path / "a.parquet") == [WHY]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"text": "x"}\n{oops\n', "a.jsonl:2 is not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1 is a list, expected an object"),
        ("a.json", b'[{"text": "x"}, 3]', "item 2 is a number"),
        ("a.jsonl", b"\xff\xfe\x00", "not whole UTF-16"),
        ("a.jsonl.gz", b"not gzip", "not whole gzip"),
        ("a.docx", b"x", "cannot tell what it is"),
        ("a.jsonl", b'{"txt": "x"}\n', "expected a column `text` (did you mean 'txt'?)"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: `text` must be a string"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_texts(tmp_path / name)
    assert words in str(error.value)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"old": 1})

    def rows():
        yield {"new": 1}
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="cannot save"):
        write_rows(path, rows())
    assert path.read_text() == '{"old": 1}\n'
    assert len(list(tmp_path.iterdir())) == 1


def test_prompts(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"prompt": "x"}, {"prompt": [USER]}, {"question": "Why?"},
                 {"messages": [USER]})  # fmt: skip
    assert read_prompts(path) == ["x", WHY, WHY, WHY]
    for prompt in read_prompts(path):
        assert prompt_from_json(prompt_to_json(prompt)) == prompt
    with pytest.raises(UserError, match=r"a.jsonl:1: `prompt` must end with the user's turn"):
        read_prompts(jsonl(path, {"prompt": [USER, SAID]}))


def test_demonstrations(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"prompt": "x", "completion": " y"},
                 {"prompt": [USER], "completion": [SAID]}, {"messages": [USER, SAID, USER, SAID]})  # fmt: skip
    found = read_demonstrations(path)
    assert [(d.prompt if isinstance(d.prompt, str) else len(d.prompt), d.completion) for d in found] == [
        ("x", " y"), (1, "Because."), (1, "Because."), (3, "Because."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": "Because.", "rejected": "No."},
        {"prompt": [USER], "chosen": [SAID], "rejected": [{"role": "assistant", "content": "No."}]},
        {"chosen": [USER, SAID], "rejected": [USER, {"role": "assistant", "content": "No."}]},
        {"chosen": "\n\nHuman: Why?\n\nAssistant: Because.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
        {"prompt": [USER], "responses": ["Because.", "No."], "ranking": [1, 2]},
    ],
    ids=["explicit", "messages", "implicit messages", "hh", "ranking"],
)  # fmt: skip
def test_every_form_of_a_comparison_means_the_same(tmp_path, row):
    (c,) = read_comparisons(jsonl(tmp_path / "a.jsonl", row))
    assert (c.prompt, c.responses, c.ranking) == (WHY, ("Because.", "No."), (1, 2))


def test_plain_implicit_prompts_split_at_a_word(tmp_path):
    (c,) = read_comparisons(
        jsonl(tmp_path / "a.jsonl", {"chosen": "The sky is blue.", "rejected": "The sky is black."})
    )
    assert c.prompt == "The sky is"
    assert c.responses == (" blue.", " black.")


def test_rankings_keep_what_was_recorded(tmp_path):
    row = {"prompt": "x", "responses": ["a", "b", "c"], "ranking": [2, 1, 2], "strength": 0.5,
           "rater": "Ada", "order_shown": [2, 0, 1], "seconds": 3.5}  # fmt: skip
    (c,) = read_comparisons(jsonl(tmp_path / "a.jsonl", row))
    assert c.ranking == (2, 1, 2) and c.order_shown == (2, 0, 1)
    assert (c.strength, c.rater, c.seconds) == (0.5, "Ada", 3.5)


def test_a_ranking_may_leave_the_worse_in_no_order(tmp_path):
    """One of four was chosen. Mutation caught: null refused; the others tied; a single null that is not simply last."""
    row = {"prompt": "x", "responses": ["a", "b", "c", "d"], "ranking": [None, 1, None, None]}
    (c,) = read_comparisons(jsonl(tmp_path / "a.jsonl", row))
    assert c.ranking == (None, 1, None, None) and c.places == [2, 1, 2, 2]
    (c,) = read_comparisons(jsonl(tmp_path / "b.jsonl", row | {"ranking": [2, 1, 2, None]}))
    assert c.ranking == (2, 1, 2, 3)


def test_bad_comparisons_can_be_left_out_and_are_counted(tmp_path, caplog):
    good = {"prompt": "x", "chosen": "a", "rejected": "b"}
    path = jsonl(tmp_path / "a.jsonl", good, good | {"rejected": "a"}, good | {"chosen": ""})
    with pytest.raises(UserError, match=r"a.jsonl:2: `chosen` and `rejected` are the same"):
        read_comparisons(path)
    assert len(read_comparisons(path, skip_bad=True)) == 1
    assert "skipped 2 invalid rows" in caplog.text


def test_real_human_comparisons_load(shared_data):
    path = shared_data / "hh-harmless.jsonl.gz"
    found = read_comparisons(path, skip_bad=True)
    assert len(found) == 1796
    assert all(c.prompt[-1].role == "user" for c in found)
    assert sum("Human:" in r for c in found for r in c.responses) < 50


PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
LIKED = {"prompt": "Why?", "completion": "So.", "label": True}
STREAMS = [
    (stream_texts, {"text": "a"}),
    (stream_questions, {"prompt": "Why?"}),
    (stream_comparisons, PAIR),
    (stream_unpaired, LIKED),
    (stream_demonstrations, {"prompt": "Why?", "completion": "So."}),
]


@pytest.mark.parametrize("stream, row", STREAMS)
def test_a_line_that_is_no_row_is_a_bad_row(stream, row, tmp_path):
    """Dropped and counted as any other, also the first of a file and beside --columns; an error where all are, or where
    bad rows stop. Mutations caught: the reader's error ends the file; a broken line that is forgotten or read as {}."""
    good, path = json.dumps(row) + "\n", tmp_path / "a.jsonl"
    path.write_text(
        '{"prompt": \n' + good + "7\n" + '{"text": "\\ud83d"}\n' + good[:-3] + "\n" + good
    )
    reading = Reading()
    items = list(stream(path, skip_bad=True, reading=reading))
    assert len(items) == 2 and (reading.rows, reading.skipped) == (6, 4)
    assert reading.reason.startswith("a.jsonl:1 is not JSON")
    name = next(iter(row))
    assert len(list(stream(path, columns=[f"{name}={name}"], skip_bad=True))) == 2
    with pytest.raises(
        UserError, match=r"^a\.jsonl:1 is not JSON.*; --on-bad-row drop leaves such"
    ):
        list(stream(path, skip_bad=False))
    path.write_text("{\n[\n")
    with pytest.raises(
        UserError, match=r"all 2 rows are unusable; the first: a\.jsonl:1 is not JSON"
    ):
        list(stream(path, skip_bad=True))


def test_a_torn_row_of_csv_and_of_an_array_is_a_bad_row(tmp_path):
    """Mutation caught: JSONL alone."""
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected\nWhy?,a,b,c\nWhy?,a,b\nWhy?\n")
    (tmp_path / "a.json").write_text(json.dumps([PAIR, "x"]))
    for name in ("a.csv", "a.json"):
        assert len(read_comparisons(tmp_path / name, skip_bad=True)) == 1
        with pytest.raises(UserError, match=r"more fields|a string"):
            read_comparisons(tmp_path / name)


def test_votes_with_a_broken_line(tmp_path):
    """Mutations caught: a first line that is broken hides what the others are; `skip_bad` for comparisons alone."""
    (tmp_path / "a.jsonl").write_text("{\n" + json.dumps(LIKED) + "\n")
    config = Config(what="comparisons", source=str(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match=r"a\.jsonl:1 is not JSON"):
        load(config)
    assert load(replace(config, on_bad_row="drop")).counts == {"thumbs": 1, "prompts": 1}


def test_the_doctor_counts_broken_lines(tmp_path):
    """Mutation caught: the doctor gives up where training goes on."""
    (tmp_path / "a.jsonl").write_text("{\n" + json.dumps(PAIR) + "\n")
    material = read_material(str(tmp_path / "a.jsonl"), 10)
    assert (material.form, len(material.items), len(material.refused)) == ("comparisons", 1, 1)
