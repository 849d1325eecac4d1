"""Rows from and to files: what is read is what was written, and what cannot be read is one sentence."""

import errno
import gzip
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.data import files
from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError

ODD = {
    "emoji": "👩‍👩‍👧 déjà vu",
    "bidi": "\u202eabc\u202c שלום",
    "separators": "a\u2028b\u2029c\x85d\x0b\x0c",
    "quotes": 'a "b", c\r\nd\\',
    "escape": "\x1b[31m\x00\x7f",
    "bom": "\ufeffx",
}
GOOD = b'{"text": "a"}\n'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_odd_unicode_comes_back(name, tmp_path):
    """Mutation caught: `str.splitlines`, which cuts a row at U+2028, U+0085 or a form feed."""
    assert write_rows(tmp_path / name, [ODD, {"n": 1}]) == 2
    assert [row for _, row in read_rows(tmp_path / name)] == [ODD, {"n": 1}]
    assert list(tmp_path.iterdir()) == [tmp_path / name]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(rows=st.lists(st.dictionaries(TEXT, TEXT | st.integers() | st.none()), min_size=1))
def test_any_rows_come_back(rows, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write_rows(path, rows)
    assert [row for _, row in read_rows(path)] == rows


def test_same_rows_same_bytes(tmp_path, monkeypatch):
    """Mutation caught: the time or the file's name in the gzip header."""
    write_rows(tmp_path / "a.jsonl.gz", [ODD])
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_rows(tmp_path / "b.jsonl.gz", [ODD])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


@pytest.mark.parametrize(
    ("name", "data", "places"),
    [
        ("a.jsonl", GOOD + b"\n" + GOOD, ["a.jsonl:1", "a.jsonl:3"]),
        ("a.JSONL", b"\xef\xbb\xbf" + GOOD, ["a.JSONL:1"]),
        ("a.json", b'[{"text": "a"},\n {"text": "a"}]', ["a.json item 1", "a.json item 2"]),
        ("a.json", b'{\n "text": "a"\n}', ["a.json:1"]),
        ("a.json", GOOD + GOOD, ["a.json:1", "a.json:2"]),
        ("a.json.gz", GOOD, ["a.json.gz:1"]),
        ("a.csv", b'text,n\r\na,1\r\n"a",2\r\n', ["a.csv:2", "a.csv:3"]),
        ("a.txt.gz", b"\n\na\n\n \r\na\n", ["a.txt.gz:3", "a.txt.gz:6"]),
    ],
)
def test_every_kind_says_where_its_rows_stand(name, data, places, tmp_path):
    rows = list(read_rows(put(tmp_path, name, data)))
    assert [where for where, _ in rows] == places
    assert {row["text"] for _, row in rows} == {"a"}


def test_a_paragraph_is_a_row_and_keeps_its_lines(tmp_path):
    path = put(tmp_path, "play.txt", b"A:\n  Wer da?\n\nB:\nNein.\n")
    assert [row["text"] for _, row in read_rows(path)] == ["A:\n  Wer da?", "B:\nNein."]


def test_csv_texts_may_be_long_and_hold_commas_quotes_and_lines(tmp_path):
    """Mutation caught: csv's own limit of 131,072 characters a field."""
    long = "x" * 200_000
    path = put(tmp_path, "a.csv", f'prompt,completion\n"a, ""b""\nc",{long}\n'.encode())
    assert [row for _, row in read_rows(path)] == [{"prompt": 'a, "b"\nc', "completion": long}]


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": [{"role": "user", "content": "a"}], "n": 1}, {"prompt": [], "n": 2}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    read = list(read_rows(tmp_path / "a.parquet"))
    assert [row for _, row in read] == rows
    assert [where for where, _ in read] == ["a.parquet row 1", "a.parquet row 2"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", b"", ["a.jsonl", "empty"]),
        ("a.jsonl", b"\n \n", ["a.jsonl", "empty"]),
        ("a.csv", b"text\n", ["a.csv", "empty"]),
        ("a.txt", b"\n\n", ["a.txt", "empty"]),
        ("a.json", b"[]", ["a.json", "empty"]),
        ("a.jsonl", GOOD + b"{not json}", ["a.jsonl:2", "not JSON", "column 2"]),
        ("a.jsonl", GOOD + b'["a"]', ["a.jsonl:2", "a list", "expected an object"]),
        ("a.jsonl", b"3", ["a.jsonl:1", "a number"]),
        ("a.jsonl", b"null", ["a.jsonl:1", "null"]),
        ("a.json", b'[{"text": "a"},\n oops]', ["a.json:2", "not JSON"]),
        ("a.json", b'[{"text": "a"}, "b"]', ["a.json item 2", "a string"]),
        ("a.jsonl", b"[" * 100_000, ["a.jsonl:1", "not JSON"]),
        ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}", ["a.jsonl:1", "not JSON"]),
        ("a.jsonl", GOOD * 2000 + b'{"text": "\xe9"}', ["a.jsonl:2001", "UTF-8"]),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16-le"), ["a.jsonl:1", "JSON"]),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16") + b"\0", ["a.jsonl", "UTF-16"]),
        ("a.txt", b"a\n\xff\n", ["a.txt:2", "UTF-8"]),
        ("a.jsonl", GOOD + rb'{"t": "\ud83d"}', ["a.jsonl:2", "`t`", r"\ud83d", "surrogate"]),
        ("a.csv", b"p,c\na,b,c\n", ["a.csv:2", "more fields", "quotes"]),
        ("a.csv", b"p,c\na,b\na\n", ["a.csv:3", "fewer fields"]),
        ("a.parquet", b"PAR1 no", ["a.parquet", "not Parquet"]),
        ("a.jsonl", LFS, ["a.jsonl", "git lfs pull"]),
        ("a.txt", LFS, ["a.txt", "git lfs pull"]),
        ("a.parquet", LFS, ["a.parquet", "git lfs pull"]),
        ("a.json", b'{"prompt": ["a", "b"], "chosen": ["c", "d"]}', ["object of columns", "2 values"]),
        ("a.jsonl", b'{"prompt": {"0": "a"}, "chosen": {"0": "b"}}', ["object of columns", "orient"]),
        ("hf:", None, ["names no data set"]),
        ("a.pickle", b"x", ["a.pickle", ".jsonl", ".parquet"]),
        ("a", b"x", ["a", "expected one of"]),
    ],
    ids=lambda v: None if isinstance(v, list) else str(v)[:24],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(name, data, words, tmp_path):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(UserError) as caught:
        list(read_rows(name if data is None else put(tmp_path, name, data)))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant"}]},
        {"tokens": [1, 2], "mask": [0, 1]},
        {"responses": ["a", "b"], "ranking": [1, 2]},
        {"prompt": {"text": "a"}, "chosen": {"text": "b"}},
        {},
    ],
)
def test_one_row_that_holds_lists_is_a_row(row, tmp_path):
    """Mutation caught: any object of lists, or of objects, taken for a table's columns."""
    assert [r for _, r in read_rows(put(tmp_path, "a.json", json.dumps(row).encode()))] == [row]


def test_an_escaped_pair_is_an_emoji(tmp_path):
    path = put(tmp_path, "a.jsonl", rb'{"text": "\ud83d\ude00"}')
    assert next(read_rows(path))[1] == {"text": "😀"}


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(os.urandom(4000).hex().encode())
    damaged = bytearray(whole)
    damaged[200:240] = bytes(40)
    for data in (whole[:-20], bytes(damaged), b"plain"):
        (tmp_path / "a.jsonl.gz").write_bytes(data)
        with pytest.raises(UserError, match=r"a\.jsonl\.gz"):
            list(read_rows(tmp_path / "a.jsonl.gz"))


def test_no_such_file_and_folders(tmp_path):
    for source, words in [
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "is a folder"),
        ("x" * 5000 + ".jsonl", "no such file"),
    ]:
        with pytest.raises(UserError, match=words):
            list(read_rows(source))


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [
        ("pyarrow", "a.parquet", "heedful[parquet]"),
        ("datasets", "hf:org/name:test", "heedful[hub]"),
    ],
)
def test_missing_packages_are_named(module, source, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a.parquet", b"x")
    with pytest.raises(UserError) as caught:
        list(read_rows(source))
    assert extra in str(caught.value) and source in str(caught.value)


def test_hub_rows(monkeypatch):
    """Mutation caught: the split is cut off the name wrongly; "train" is not the default; a configuration is taken for
    a split, or a slice for one; all of a large split is loaded for its first rows."""
    asked = []

    class Datasets:
        @staticmethod
        def load_dataset(name, config, split, streaming=False):
            asked.append((name, config, split, streaming))
            if name == "org/none":
                raise FileNotFoundError("no\nsuch set")
            if config is None and name == "org/two":
                raise ValueError("Config name is missing.")
            return iter([{"text": "a"}] * 3)

        @staticmethod
        def get_dataset_config_names(name):
            return ["easy", "hard"] if name == "org/two" else ["default"]

    monkeypatch.setitem(sys.modules, "datasets", Datasets())
    first, *_ = read_rows("hf:org/name:test")
    assert first == ("hf:org/name:test row 1", {"text": "a"})
    list(read_rows("hf:org/name"))
    assert asked == [("org/name", None, "test", False), ("org/name", None, "train", False)]
    for source, wanted in {
        "hf:org/two:hard": ("org/two", "hard", "train", False),
        "hf:org/two:easy:test": ("org/two", "easy", "test", False),
        "hf:org/two:easy:train[:10%]": ("org/two", "easy", "train[:10%]", False),
        "hf:org/name:train[:2]": ("org/name", None, "train", True),
    }.items():
        assert len(list(read_rows(source))) == (2 if wanted[-1] else 3)
        assert asked[-1] == wanted
    with pytest.raises(UserError, match=r"one of its configurations, easy, hard.*hf:org/two:easy:"):
        list(read_rows("hf:org/two"))
    with pytest.raises(UserError, match="hf:org/none cannot be loaded: no such set"):
        list(read_rows("hf:org/none"))


def broken(rows, error):
    yield from rows
    raise error


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("before", [None, b"old\n"])
def test_writing_is_all_or_nothing(name, before, tmp_path, monkeypatch):
    """Mutation caught: writing straight into the file; a temp file left behind."""
    path = tmp_path / name
    if before:
        path.write_bytes(before)
    with pytest.raises(RuntimeError):
        write_rows(path, broken([{"a": 1}] * 1000, RuntimeError("the sampler died")))
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match=f"cannot save .*{name}: no space left on device"):
        write_rows(path, broken([{"a": 1}], full))
    with pytest.raises(UserError, match=r"row 2 for .*`t` holds half of a surrogate pair"):
        write_rows(path, [{"t": "a"}, {"t": "\udc00"}])

    def no_fsync(_):
        raise full

    monkeypatch.setattr(files.os, "fsync", no_fsync)
    with pytest.raises(UserError, match="no space left"):
        write_rows(path, [{"a": 1}])
    assert [p.name for p in tmp_path.iterdir()] == ([name] if before else [])
    assert not before or path.read_bytes() == before


def test_where_nothing_can_be_written(tmp_path):
    file = put(tmp_path, "file", b"x")
    for path in (file / "a.jsonl", tmp_path):
        with pytest.raises(UserError, match="cannot save"):
            write_rows(path, [{"a": 1}])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_rows_are_written_as_readable_text(tmp_path):
    write_rows(tmp_path / "deep" / "a.jsonl", [{"text": "schön"}])
    assert (tmp_path / "deep" / "a.jsonl").read_text(encoding="utf-8") == '{"text": "schön"}\n'
    assert json.loads((tmp_path / "deep" / "a.jsonl").read_bytes()) == {"text": "schön"}
