"""`heedful import`, `heedful export` and `db:` on a workspace: whole files, honest manifests, nothing half done."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from heedful.cli import main
from heedful.data import tables
from heedful.data.clips import Clip, as_text
from heedful.data.files import read_rows, write_rows
from heedful.data.sources import read_comparisons, read_prompts, read_samples
from heedful.errors import UserError
from heedful.recipes import export, ingest, tamer
from heedful.recipes import init as init_recipe
from heedful.store.project import projects
from heedful.store.tables import schema
from heedful.transfer.sources import materialise
from heedful.transfer.workspace import gold_shares, opened
from heedful.types import Message
from workspace import answer, claim, make_rater

ASKED = [{"role": "user", "content": "What is the capital of Peru?"}]
PAIRS = [
    {"prompt": ASKED, "responses": ["Lima.", "Cusco."], "ranking": [1, 2], "rater": "Ada"},
    {"prompt": "Once", "responses": [" upon", " more", " again"], "ranking": [2, 1, 1]},
]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return init_recipe.run(init_recipe.Config(folder=tmp_path / "ws"))


def bring(workspace: Path, what: str, source: object, **options) -> dict[str, int]:
    config = ingest.Config(
        what=what, source=str(source), workspace=workspace, quiet=True, **options
    )
    return ingest.run(config)


def take(workspace: Path, what: str, file: Path, **options) -> dict:
    return export.run(export.Config(what=what, file=file, workspace=workspace, **options))


def number(workspace: Path, table: str) -> int:
    with opened(workspace) as store, store.read() as connection:
        found = schema.metadata.tables[table]
        return connection.execute(select(func.count()).select_from(found)).scalar_one()


def test_in_and_out_again(workspace, tmp_path, capsys):
    """Rankings come back as they went in: texts, ranks, raters; and twice in is once in. Quietly, where asked so."""
    source = tmp_path / "comparisons.jsonl"
    write_rows(source, PAIRS)
    assert bring(workspace, "comparisons", source)["judgments"] == 2
    assert bring(workspace, "comparisons", source)["judgments"] == 0
    take(workspace, "rankings", tmp_path / "quiet.jsonl", quiet=True)
    assert capsys.readouterr().err == ""
    manifest = take(workspace, "rankings", tmp_path / "out" / "r.jsonl")
    assert "export rankings 2/2" in capsys.readouterr().err
    assert (manifest["exported"], manifest["project"]) == (2, "main")
    wanted = {(c.prompt, frozenset(zip(c.responses, c.ranking, strict=True)), c.rater or "imported")
              for c in read_comparisons(source)}  # fmt: skip
    found = {(c.prompt, frozenset(zip(c.responses, c.ranking, strict=True)), c.rater)
             for c in read_comparisons(tmp_path / "out" / "r.jsonl")}  # fmt: skip
    assert found == wanted


def test_the_demos_files_come_in(workspace, tmp_path):
    """What `heedful sample` and `heedful judge` write."""
    sample = {"prompt": ASKED, "index": 0, "logprob": -1.5, "stop_reason": "stop", "model": "sft",
              "seed": 3, "tokens": [5, 6], "reward": 0.25}  # fmt: skip
    rows = [sample | {"completion": c, "index": i} for i, c in enumerate(["Lima.", "Cusco.", ""])]
    write_rows(tmp_path / "samples.jsonl", rows)
    added = bring(workspace, "samples", tmp_path / "samples.jsonl", ask="pair", overlap=2)
    assert (added["responses"], added["tasks"]) == (3, 1)
    judged = {"prompt": ASKED, "responses": ["Lima.", "Cusco."], "ranking": [1, 2],
              "rater": "Ada the attentive", "order_shown": [1, 0], "seconds": 3.4}  # fmt: skip
    write_rows(tmp_path / "comparisons.jsonl", [judged])
    added = bring(workspace, "comparisons", tmp_path / "comparisons.jsonl")
    assert (added["responses"], added["judgments"]) == (0, 1)
    take(workspace, "samples", tmp_path / "again.jsonl")
    again = read_samples(tmp_path / "again.jsonl")
    assert {(r["completion"], r["seed"], r["stop_reason"]) for r in again} == {
        ("Lima.", 3, "stop"), ("Cusco.", 3, "stop"),
    }  # fmt: skip
    assert again[0]["tokens"] == [5, 6]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_tools_come_back(ending, workspace, tmp_path):
    """Tools, their calls and a template's variables, through the database and every format of file, and as `db:`.

    Mutation caught: a turn cut down to its role and content; a Parquet column of messages that drops calls."""
    call = {"type": "function", "function": {"name": "count", "arguments": {"of": "owls"}}}
    row = {
        "prompt": [{"role": "user", "content": "How many?"},
                   {"role": "assistant", "content": "", "tool_calls": [call]},
                   {"role": "tool", "content": "3", "name": "count"}],
        "tools": [{"type": "function", "function": {"name": "count", "parameters": {}}}],
        "chat_template_kwargs": {"enable_thinking": False},
        "chosen": "Three.", "rejected": "Four.",
    }  # fmt: skip
    write_rows(tmp_path / "t.jsonl", [row])
    assert bring(workspace, "comparisons", tmp_path / "t.jsonl")["judgments"] == 1
    (wanted,) = read_comparisons(tmp_path / "t.jsonl")
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    take(workspace, "comparisons", tmp_path / f"out.{ending}")
    (back,) = read_comparisons(tmp_path / f"out.{ending}")
    assert (back.prompt, back.responses) == (wanted.prompt, wanted.responses)
    assert back.prompt[0].tools and back.prompt[0].template_kwargs and back.prompt[1].tool_calls
    ((_, exported),) = tables.read_export(tmp_path / f"out.{ending}")
    assert exported["tools"] == row["tools"] and "tools" not in exported["prompt"][0]


def test_rows_twice_and_questions_without_answers(workspace, tmp_path):
    """Mutation caught: the same row judges again; a task that waits for people is lost; deleted people are one."""
    pair = {"prompt": "Owl?", "chosen": "Hoo.", "rejected": "Moo."}
    write_rows(tmp_path / "p.jsonl", [pair, pair, pair])
    added = bring(workspace, "comparisons", tmp_path / "p.jsonl")
    assert (added["judgments"], added["duplicates"]) == (1, 2)

    def record(said):
        fields = {"instruction": f"Owl {len(said)}?", "response_a": "Hoo.", "response_b": "Moo."}
        return {"id": "1", "fields": fields, "responses": {"preference": said} if said else {}}

    gone = [{"value": v, "user_id": None} for v in ("response_a", "response_b")]
    write_rows(tmp_path / "a.jsonl", [record([]), record(gone)])
    added = bring(workspace, "comparisons", tmp_path / "a.jsonl")
    assert (added["judgments"], added["tasks"]) == (2, 2)


def test_unpaired_rows_come_in_as_thumbs(workspace, tmp_path):
    write_rows(tmp_path / "u.jsonl", [{"prompt": "Once", "completion": " upon", "label": True}])
    assert bring(workspace, "comparisons", tmp_path / "u.jsonl")["judgments"] == 1
    take(workspace, "unpaired", tmp_path / "out.csv")
    (row,) = [row for _, row in tables.read_export(tmp_path / "out.csv")]
    assert (row["prompt"], row["completion"], row["label"]) == ("Once", " upon", True)


def test_a_spreadsheet_runs_nothing(workspace, tmp_path):
    """Formula cells have a ' before them in the CSV, and come back without it."""
    rows = [
        {"prompt": p, "completion": c} for p, c in [("=1+1", "@x"), ("'=q", "-1"), ("a,b", "\tt")]
    ]
    write_rows(tmp_path / "d.jsonl", rows)
    bring(workspace, "demonstrations", tmp_path / "d.jsonl")
    manifest = take(workspace, "demonstrations", tmp_path / "d.csv")
    assert "formula_cells" in manifest
    cells = [v for _, row in read_rows(tmp_path / "d.csv") for v in row.values()]
    assert cells and not any(c.startswith(tuple("=+-@\t\r")) for c in cells)
    back = [(r["prompt"], r["completion"]) for _, r in tables.read_export(tmp_path / "d.csv")]
    assert sorted(back) == sorted((r["prompt"], r["completion"]) for r in rows)


def test_a_manifest_of_another_file_is_an_error(workspace, tmp_path):
    """Mutation caught: a stale manifest believed, so that texts are changed on the way in."""
    write_rows(tmp_path / "c.jsonl", PAIRS)
    bring(workspace, "comparisons", tmp_path / "c.jsonl")
    path = tmp_path / "r.jsonl"
    take(workspace, "rankings", path)
    path.write_text(path.read_text().replace("Lima", "Rome"))
    with pytest.raises(UserError, match="sha256"):
        bring(workspace, "comparisons", path, project="other")
    tables.manifest_path(path).write_text("{}")
    with pytest.raises(UserError, match="no manifest"):
        bring(workspace, "comparisons", path, project="other")
    assert number(workspace, "project") == 1


def test_a_file_that_does_not_fit_leaves_nothing(workspace, tmp_path):
    """The last row is wrong: file, line, field, and no project, prompt or judgment."""
    write_rows(tmp_path / "c.jsonl", [*PAIRS, {"prompt": "p", "chosen": "a", "rejected": "a"}])
    with pytest.raises(UserError, match=r"c\.jsonl:3.*`chosen`"):
        bring(workspace, "comparisons", tmp_path / "c.jsonl")
    assert [number(workspace, t) for t in ("project", "prompt", "judgment")] == [0, 0, 0]
    assert (
        bring(workspace, "comparisons", tmp_path / "c.jsonl", on_bad_row="drop")["judgments"] == 2
    )


def test_more_responses_than_a_question_shows_leave_nothing(workspace, tmp_path):
    """Mutation caught: refused only when the project is there already."""
    many = [{"prompt": "Why?", "completion": str(i)} for i in range(13)]
    write_rows(tmp_path / "s.jsonl", many)
    with pytest.raises(UserError, match="13 different responses"):
        bring(workspace, "samples", tmp_path / "s.jsonl", ask="rank")
    assert [number(workspace, t) for t in ("project", "prompt")] == [0, 0]


@pytest.mark.parametrize(
    ("ask", "words"),
    [("pair", "no prompt has more than 1 different response;"), ("presses", "expected a clip")],
)
def test_samples_of_which_nothing_can_be_asked_leave_nothing(workspace, tmp_path, ask, words):
    """One response to a prompt, and a text where a clip is played. Mutation caught: an import that says nothing and
    makes no question, or one that no rater can answer."""
    write_rows(tmp_path / "s.jsonl", [{"prompt": q, "completion": "Because."} for q in "ab"])
    with pytest.raises(UserError, match=words):
        bring(workspace, "samples", tmp_path / "s.jsonl", ask=ask)
    assert [number(workspace, t) for t in ("project", "prompt")] == [0, 0]


def test_keys_are_pressed_at_one_clip(workspace, tmp_path):
    """Two that were made to be compared. Mutation caught: "which of the two plays better?" above one alone."""
    moves = [Clip("tetris", seed, 0, (1,), 700, ("..1",)) for seed in (0, 1)]
    pair = [{"prompt": "Which of the two?", "completion": as_text(clip)} for clip in moves]
    write_rows(tmp_path / "s.jsonl", pair)
    with pytest.raises(
        UserError, match=r"s\.jsonl: a prompt has 2 clips, and keys are pressed at one"
    ):
        bring(workspace, "samples", tmp_path / "s.jsonl", ask="presses")
    assert number(workspace, "project") == 0
    assert bring(workspace, "samples", tmp_path / "s.jsonl", ask="pair")["tasks"] == 1
    with pytest.raises(UserError, match="has no presses to export: 0 stored"):
        tamer.run(tamer.Config(data=f"db:{workspace}", out=tmp_path / "player"))
    with pytest.raises(UserError, match="has no comparisons of clips to export: 0 stored"):
        materialise(f"db:{workspace}", "rankings", noun="comparisons of clips")


def test_a_full_disk_leaves_no_half_file(workspace, tmp_path, monkeypatch):
    write_rows(tmp_path / "c.jsonl", PAIRS)
    bring(workspace, "comparisons", tmp_path / "c.jsonl")
    from heedful import disk

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    (tmp_path / "out").mkdir()
    for ending in ("jsonl", "csv", "parquet"):
        with pytest.raises(UserError, match="no space left"):
            take(workspace, "rankings", tmp_path / "out" / f"r.{ending}")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("comparisons", {"ask": "pair"}, "--ask means nothing for comparisons"),
        ("prompts", {"form": "argilla"}, "--form means nothing"),
        ("demonstrations", {"overlap": 3}, "--overlap means nothing"),
        ("prompts", {"overlap": 3}, "--ask"),
        ("prompts", {"ask": "pair"}, "chat, play, probe, write, not pair"),
        ("prompts", {"ask": "write", "options": "{"}, "not JSON"),
        ("prompts", {"ask": "write", "options": "[]"}, "JSON object"),
        ("prompts", {"ask": "write", "options": '{"axes": []}'}, "no option 'axes'"),
        ("samples", {"gold": True}, "--gold"),
        ("gold", {}, "gold needs --ask"),
        ("gold", {"ask": "note"}, "thumbs.*, not note"),
        ("gold", {"ask": "thumbs"}, "`answer` must be an object"),
    ],
)
def test_options_that_make_no_sense(workspace, tmp_path, what, options, words):
    write_rows(tmp_path / "p.jsonl", [{"prompt": "Once", "completion": " upon"}])
    with pytest.raises(UserError, match=words):
        bring(workspace, what, tmp_path / "p.jsonl", **options)
    assert number(workspace, "prompt") == 0


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_gold_of_any_kind(ending, workspace, tmp_path):
    """One response or several, an answer as an object or as a cell's JSON. Mutations caught: `completion` not read, an
    answer that fits no question kept, a wrong `within`, an explanation lost."""
    answer = {"scores": {"helpful": [5]}}
    path = tmp_path / f"g.{ending}"
    if ending == "csv":
        path.write_text(
            "prompt,completion,answer,within,explanation\n"
            'Why?,So.,"{""scores"": {""helpful"": [5]}}",1,Ok.\n'
            'Who?,I.,"{""scores"": {""helpful"": [5]}}",,\n'
        )
    else:
        first = {"prompt": "Why?", "completion": "So.", "answer": answer}
        second = {"prompt": "Who?", "responses": ["I."], "answer": answer, "explanation": None}
        write_rows(path, [first | {"within": 1, "explanation": "Ok."}, second])
    how = {"ask": "rate", "options": '{"axes": [{"name": "helpful"}]}'}
    assert bring(workspace, "gold", path, **how)["prompts"] == 2
    with opened(workspace) as store, store.read() as connection:
        rows = connection.execute(select(schema.gold_key.c.answer)).scalars().all()
        known = [row["questions"][""] for row in rows]
        assert sorted(k["within"] for k in known) == [0.0, 1.0]
        assert {tuple(k["scores"][0][1:]) for k in known} == {("helpful", 5.0)}
        assert connection.execute(select(schema.gold_explanation.c.body)).scalars().all() == ["Ok."]
    for bad, words in (
        ({"answer": {"scores": {"helpful": [9]}}}, "helpful must be a number from 1 to 5"),
        ({"answer": answer, "within": -1}, "`within` must be a number from 0"),
        ({"answer": answer, "responses": "So."}, "`responses` must be a list of texts"),
    ):
        write_rows(tmp_path / "bad.jsonl", [{"prompt": "Bad?", "completion": "So."} | bad])
        with pytest.raises(UserError, match=f"bad.jsonl:1.*{words}"):
            bring(workspace, "gold", tmp_path / "bad.jsonl", **how)
    assert number(workspace, "prompt") == 2


def test_raters_are_told_with_the_gold_of_their_workspace(workspace, tmp_path, capsys):
    """Of a workspace's source, whichever kind the gold is. Mutation caught: the last thumb for everybody's."""
    one = {"prompt": "Why?", "completion": "So.", "answer": {"thumbs": [1]}}
    write_rows(tmp_path / "g.jsonl", [one])
    write_rows(tmp_path / "s.jsonl", [{"prompt": f"{i}?", "completion": "I."} for i in range(3)])
    for name, rows in (("gold", "g.jsonl"), ("samples", "s.jsonl")):
        how = {"ask": "thumbs", **({"overlap": 2} if name == "samples" else {})}
        bring(workspace, name, tmp_path / rows, **how)
    with opened(workspace) as store:
        with store.write() as connection:
            (project,) = connection.execute(select(schema.project.c.id)).scalars()
            projects.change(connection, project, {"gold_rate": 1.0}, actor=None)
        for thumb in (1, -1):
            rater = make_rater(store)
            while lease := claim(store, project, rater):
                answer(store, lease, rater, {"thumbs": [thumb]})
    source = f"db:{workspace}"
    assert sorted(gold_shares(source).values()) == [(0, 1), (1, 1)]
    assert main(["raters", source, "--labels", "dawid_skene"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "gold questions right: rater-" in out and " 1 of 1, " in out and " 0 of 1" in out


def test_which_project(workspace, tmp_path):
    """The only one there is; none or several have to be named."""
    write_rows(tmp_path / "c.jsonl", PAIRS)
    with pytest.raises(UserError, match="none yet"):
        take(workspace, "rankings", tmp_path / "r.jsonl")
    bring(workspace, "comparisons", tmp_path / "c.jsonl", project="peru")
    assert take(workspace, "rankings", tmp_path / "r.jsonl")["project"] == "peru"
    bring(workspace, "comparisons", tmp_path / "c.jsonl", project="chile")
    with pytest.raises(UserError, match="chile, peru"):
        take(workspace, "rankings", tmp_path / "r.jsonl")
    with pytest.raises(UserError, match="did you mean 'peru'"):
        take(workspace, "rankings", tmp_path / "r.jsonl", project="preu")
    with pytest.raises(UserError, match="name the file"):
        take(workspace, "rankings", tmp_path / "r.xlsx", project="peru")
    # Mutation caught: the name of a shell's variable that is not set, which imported into a new project `main`.
    with pytest.raises(UserError, match="a project needs a name"):
        bring(workspace, "comparisons", tmp_path / "c.jsonl", project="")


def test_what_models_wrote_is_a_source(workspace, tmp_path, monkeypatch, capsys):
    """Mutation caught: commands whose help says db: and that look for a file of this name, or for one on the hub."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "Capital of Peru?", "completion": c} for c in ("Lima.", "I do not know.")]
    write_rows(tmp_path / "s.jsonl", rows)
    bring(workspace, "samples", tmp_path / "s.jsonl")
    how = {"score": ["--reward", "length(1)"], "judge": ["--judge", "tiny:likes_short"]}
    for name, flags in how.items():
        out = tmp_path / f"{name}.jsonl"
        assert main([name, "--data", f"db:{workspace}", *flags, "--out", str(out)]) == 0
        (row, *_) = (row for _, row in read_rows(out))
        assert row["prompt"] == "Capital of Peru?"
    assert main(["train", "pretrain", "--data", f"db:{workspace}", "--out", "o"]) == 2
    assert "data sets of the hub are read here, no workspace" in capsys.readouterr().err


def test_a_database_is_a_source(workspace, tmp_path, monkeypatch):
    """`db:` is the newest state as a file that stays: the same state is the same file, a new one another."""
    assert materialise("some.jsonl", "comparisons") == "some.jsonl"
    write_rows(tmp_path / "c.jsonl", PAIRS)
    bring(workspace, "comparisons", tmp_path / "c.jsonl", project="peru")
    source = f"db:{workspace}#peru"
    path = materialise(source, "rankings", split="all")
    assert Path(path).parent == workspace / "exports"
    assert len(read_comparisons(path)) == 2
    before = Path(path).read_bytes()
    assert materialise(source, "rankings", split="all") == path
    monkeypatch.chdir(workspace)
    assert Path(materialise("db:", "rankings", split="all")).name == Path(path).name
    assert len(read_prompts(materialise("db:", "prompts", split="all"))) == 2
    write_rows(tmp_path / "d.jsonl", [PAIRS[0] | {"rater": "Bao"}])
    bring(workspace, "comparisons", tmp_path / "d.jsonl", project="peru")
    assert materialise(source, "rankings", split="all") != path
    assert Path(path).read_bytes() == before
    Path(path).write_text("garbage")  # a file that somebody has spoilt is made again
    other = materialise(source, "rankings", split="all")
    Path(other).write_text("garbage")
    assert len(read_comparisons(materialise(source, "rankings", split="all"))) == 3
    with pytest.raises(UserError, match=r"no scores to export: 3 stored, 3 another kind"):
        materialise("db:", "scores", split="all")
    with pytest.raises(UserError, match="is no workspace"):
        materialise(f"db:{tmp_path}", "rankings")


def test_training_files_leave_out_the_held_out_prompts(workspace, tmp_path):
    write_rows(tmp_path / "p.jsonl", [{"prompt": f"p{i}"} for i in range(60)])
    bring(workspace, "prompts", tmp_path / "p.jsonl")
    train = set(read_prompts(materialise(f"db:{workspace}", "prompts")))
    held = set(read_prompts(materialise(f"db:{workspace}", "prompts", split="held_out")))
    assert train and held and not train & held and len(train | held) == 60


def test_a_prompt_keeps_its_source_and_licence(workspace, tmp_path):
    """The row's own; the file's name and the flags where it has none. Out and in again they are the same."""
    rows = [{"prompt": "a", "source": "web", "licence": "CC0", "language": "es"}, {"prompt": "b"}]
    write_rows(tmp_path / "p.jsonl", rows)
    bring(workspace, "prompts", tmp_path / "p.jsonl", licence="MIT", language="en")
    take(workspace, "prompts", tmp_path / "out.csv")
    bring(workspace, "prompts", tmp_path / "out.csv", project="again")
    take(workspace, "prompts", tmp_path / "last.jsonl", project="again")
    last = {r["prompt"]: (r["source"], r["licence"], r["language"])
            for _, r in read_rows(tmp_path / "last.jsonl")}  # fmt: skip
    assert last == {"a": ("web", "CC0", "es"), "b": ("p.jsonl", "MIT", "en")}


def test_trainers_read_our_csv(workspace, tmp_path):
    """Mutation caught: a conversation in a CSV cell taken for a text of brackets."""
    write_rows(tmp_path / "c.jsonl", PAIRS[:1])
    bring(workspace, "comparisons", tmp_path / "c.jsonl")
    for what in ("comparisons", "rankings"):
        take(workspace, what, tmp_path / f"{what}.csv")
        (found,) = read_comparisons(tmp_path / f"{what}.csv")
        assert found.prompt == (Message("user", ASKED[0]["content"]),)
        assert found.responses[found.ranking.index(1)] == "Lima."


def test_argilla_and_label_studio_files(workspace, tmp_path):
    record = {"id": "1", "fields": {"prompt": "Once", "response-1": "a", "response-2": "b"},
              "responses": {"preference": [{"value": ["response-2", "response-1"], "user_id": "u"}]}}  # fmt: skip
    (tmp_path / "argilla.json").write_text(json.dumps([record]))
    assert bring(workspace, "comparisons", tmp_path / "argilla.json")["judgments"] == 1
    with pytest.raises(UserError, match="expected a column"):
        bring(workspace, "comparisons", tmp_path / "argilla.json", form="plain")


def test_these_commands_do_without_torch():
    """Mutation caught: an import at the top that makes `heedful import` wait for torch."""
    program = (
        "import sys; from heedful.recipes import export, ingest; import heedful.transfer.workspace;"
        "print([m for m in ('torch', 'transformers', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_project_of_a_server_can_be_named(workspace):
    with opened(workspace) as store, store.write() as connection:
        projects.create(connection, "böse #1")
    with pytest.raises(
        UserError, match=r"no rankings to export: 0 stored; `heedful serve .*` asks people"
    ):
        materialise(f"db:{workspace}#böse #1", "rankings")


def test_an_export_says_what_each_rater_counts(workspace, tmp_path):
    """A troll 0, by a fit or by a file; with the version, and training reads the column. Mutation caught: weights that
    are fitted to another split, a rater who is not in the file and counts nothing, a column that nothing reads."""
    people = {"ada": (1, 2), "bob": (1, 2), "cy": (1, 2), "dan": (1, 2), "troll": (2, 1)}
    write_rows(
        tmp_path / "c.jsonl",
        (
            {"prompt": f"p{i}", "responses": [f"good {i % 3}", f"bad {i % 4}"], "ranking": said, "rater": who}
            for i in range(40)
            for who, said in people.items()
        ),
    )  # fmt: skip
    bring(workspace, "comparisons", tmp_path / "c.jsonl")
    file = tmp_path / "out.jsonl"
    manifest = take(workspace, "comparisons", file, weights="raters")
    by, version = (manifest["weights"][key] for key in ("by_rater", "version"))
    assert len(by) == 5 and sorted(by.values())[:2] == [0.0, pytest.approx(0.9, abs=0.1)]
    found = read_comparisons(file)
    assert [c.weight for c in found] == [by[c.rater or ""] for c in found]
    assert [c.weight for c in found].count(0.0) == 40
    names = {c.rater for c in found if c.weight == 0}
    told = tmp_path / "w.json"
    told.write_text(json.dumps({"version": version, "weights": dict.fromkeys(names, 0.25)}))
    manifest = take(workspace, "rankings", tmp_path / "r.jsonl", weights=str(told))
    assert manifest["weights"]["version"] == version
    assert sorted({c.weight for c in read_comparisons(tmp_path / "r.jsonl")}) == [0.25, 1.0]
    for what, weights, why in (
        ("judgments", "raters", "--weights is for comparisons"),
        ("comparisons", "column", "is for training"),
        ("comparisons", "rater", "did you mean 'raters'"),
    ):
        with pytest.raises(UserError, match=why):
            take(workspace, what, tmp_path / "no.jsonl", weights=weights)
    assert not (tmp_path / "no.jsonl").exists()
