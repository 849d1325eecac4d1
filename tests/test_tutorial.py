"""The tutorial's commands, one after the other as a beginner types them, at tiny size."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from heedful.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
TINY = {
    "--documents": "400",
    "--demonstrations": "60",
    "--hidden-size": "32",
    "--steps": "2",
    "--limit": "16",
    "--n": "2",
}
MORE = {"train pretrain": "--layers 2 --heads 2 --vocab-size 400", "train rloo": "--batch-size 16"}


@pytest.mark.long
@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch, capsys):
    """Mutation caught: a step that needs what no step before it has made; a flag that has moved."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("Where is Lima?\n\n"))
    text = PAGE.read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) > 10
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "heedful"
        for i, word in enumerate(words[:-1]):
            words[i + 1] = TINY.get(word, words[i + 1])
        words += shlex.split(MORE.get(" ".join(words[:2]), ""))
        assert main(words) == 0, f"{line}: {capsys.readouterr().err}"
    assert (tmp_path / "runs" / "report.html").exists()
