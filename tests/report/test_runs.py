"""`heedful report RUN…`: curves over each other, sampled texts, alarms, what the runs differ in; nothing is trusted."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from heedful.cli import main
from heedful.data.melody import read
from heedful.errors import UserError
from heedful.report import melodies, page, runs
from heedful.training.on_policy import ROUNDS, kept

HOSTILE = "<script>alert(1)</script>"


def made(folder: Path, *, lr: float, reward: float, texts: bool = True) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {"step": s, "seconds": float(s), "reward": reward * s, "kl/seq": 0.1 * s, "loss": 1 / s, "mine": 1.0}
        for s in range(1, 21)
    ]  # fmt: skip
    rows[-1]["eval/loss"] = 0.5
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    config = {"command": "train ppo", "out": str(folder), "learning_rate": lr, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if texts:
        lines = [
            json.dumps({"step": s, "prompt": HOSTILE, "completion": f"text {s}", "reward": 0.5})
            for s in range(1, 21)
        ]
        (folder / "samples.jsonl").write_text("\n".join(lines) + '\n{"step": 21, "pro')
        (folder / "alarms.jsonl").write_text('{"step": 7, "alarm": "the KL leaps"}\n')
        (folder / "config.json").write_text("{}")
    return folder


def test_runs_side_by_side(tmp_path, capsys):
    """Mutation caught: a run's curve under another's colour; a torn last line that stops the page; text as HTML."""
    a = made(tmp_path / "runs" / "a", lr=1e-5, reward=0.1)
    b = made(tmp_path / "runs" / "b", lr=2e-5, reward=0.2, texts=False)
    assert main(["report", str(a), str(b)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / "report.html")
    html = (tmp_path / "runs" / "report.html").read_text()
    assert HOSTILE not in html and "&lt;script&gt;alert" in html
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", html)  # nothing is loaded
    for said in (
        "a finished at step 20; b is at step 20. a raised alarms.",
        "the KL leaps",
        "text 1<",
        "text 20<",
    ):
        assert said in html, said
    assert runs.differences([runs._read(f, f.name) for f in (a, b)]) == [
        ("learning_rate", ["1e-05", "2e-05"])
    ]
    reward = re.search(r"Reward \(reward\)</title><desc[^>]*>(.*?)</desc>", html)
    assert reward is not None and reward[1] == "a: 0.1 to 2; b: 0.2 to 4."
    assert "b held out: 0.5 to 0.5" in html and html.count("<b>mine</b>") == 1


def test_where_the_page_goes(tmp_path):
    a = made(tmp_path / "x" / "a", lr=1e-5, reward=0.1)
    assert runs.build([a]) == a / "report.html"
    made(tmp_path / "y" / "a", lr=1e-5, reward=0.1)
    elsewhere = tmp_path / "all.html"
    assert runs.build([tmp_path], elsewhere) == elsewhere
    assert "x/a finished" in elsewhere.read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run is there"):
        runs.build([tmp_path / "empty"])


@pytest.mark.parametrize("results", ["3", "null", "[]", "no JSON"])
def test_results_of_something_else(results, tmp_path, capsys):
    """Mutation caught: `"methods" in 3`, a traceback."""
    (tmp_path / "results.json").write_text(results)
    assert main(["report", str(tmp_path)]) == 2
    assert "results.json" in capsys.readouterr().err


def test_curves_have_their_own_colour():
    """A figure stands in a container of the class `grid`. Mutation caught: `.grid path`, which drew all lines grey."""
    for name in ("report.css", "compare.css"):
        rules = re.findall(r"([^{}]+)\{[^}]*stroke: var\(--line\)", page.static(name))
        assert all(s.strip() == "path.grid" for rule in rules for s in rule.split(",")), rules


def test_a_bounded_number_of_rounds_is_kept():
    for steps in (1, 7, 100, 12345):
        found = [s for s in range(1, steps + 1) if kept(s, steps)]
        assert found[0] == 1 and found[-1] == steps
        assert min(steps, ROUNDS // 2) <= len(found) <= ROUNDS + 2


def test_melodies_are_seen_and_heard():
    """Sixteenths as they are in the notes, an A4 at 440 Hz, silence in a rest; other texts stay texts. Mutation caught:
    a roll upside down, an octave too high, words of a model in the page's HTML."""
    notes = read("A4:4 z:2 C5:2")
    sound = melodies.wav(notes)
    with wave.open(io.BytesIO(sound)) as file:
        samples = file.readframes(file.getnframes())
        assert file.getframerate() == melodies.RATE
    sixteenth = melodies.RATE * melodies.SIXTEENTH
    assert len(samples) == round(8 * sixteenth)
    tone = [s - 128 for s in samples[: round(4 * sixteenth)]]
    rises = sum(a < 0 <= b for a, b in pairwise(tone))
    assert abs(rises / (4 * melodies.SIXTEENTH) - 440) < 5
    assert set(samples[round(4 * sixteenth) + 1 : round(6 * sixteenth) - 1]) == {128}
    y = [int(v) for v in re.findall(r'<rect x="\d+" y="(\d+)"', melodies.shown("A4:4 z:2 C5:2"))]
    assert len(y) == 2 and y[1] < y[0] and "data:audio/wav" in melodies.shown("A4")
    assert melodies.shown("<b>A4</b>") == "" == melodies.shown("A4 <script>")


def test_molecules_are_drawn_where_they_were_rewarded():
    """As images, of molecules alone, and of no run that is about something else: C is a letter, too. Mutation caught: a
    picture of what cannot be read, words of a model as HTML."""
    assert runs.picture_of({"reward": ["music_key"]}) is melodies.shown
    assert runs.picture_of({}) is melodies.shown
    picture = runs.picture_of({"reward": ["molecule_sa"]})
    pytest.importorskip("rdkit")
    assert picture("C1CC") == "" == picture("<b>") and picture(" CCO").startswith("<img")
    svg = base64.b64decode(str(picture("CCO")).partition("base64,")[2].partition('"')[0])
    assert b"<svg" in svg and b"bond-0" in svg
