"""The tutorial's commands, chapter after chapter in one folder as a beginner types them, at tiny size."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from heedful.cli import main

CHAPTERS = Path(__file__).parents[1] / "docs" / "tutorial"
TINY = {
    "--documents": "400",
    "--demonstrations": "60",
    "--hidden-size": "32",
    "--steps": "2",
    "--limit": "32",
    "--n": "2",
    "--best-of": "2",
    "--group-size": "2",
    "--rounds": "1",
}
MORE = {
    "train pretrain": "--layers 2 --heads 2 --vocab-size 400",
    "train rloo": "--batch-size 16",
    "train grpo": "--batch-size 16 --max-tokens 8",
    "train ppo": "--batch-size 16 --minibatch-size 16",
    "train dpo": "--on-bad-row drop",
    "iterate --model": "--raters capitals --prompts-per-round 12 --responses 4 --max-tokens 8",
}
ANSWERED = "import comparisons comparisons.jsonl --workspace work --project helpful"


def lines(page: Path) -> list[str]:
    """What the page types, in order."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for language, block in blocks if not language for line in block.splitlines()]


@pytest.mark.long
@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch, capsys):
    """Mutation caught: a step that needs what no step before it has made; a flag that has moved."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("Where is Lima?\n\n"))
    (tmp_path / "guide.md").write_text("A right answer beats a polite one.", encoding="utf-8")
    reward = re.search(
        r"```python\n(.*?)```", (CHAPTERS / "your_reward.md").read_text("utf-8"), re.DOTALL
    )
    assert reward
    (tmp_path / "rewards.py").write_text(reward[1], encoding="utf-8")
    typed = [
        line
        for n in ("loop", "your_model", "your_raters", "your_reward")
        for line in lines(CHAPTERS / f"{n}.md")
    ]
    assert len(typed) > 35
    for line in typed:
        name, *words = shlex.split(line)
        assert name == "heedful"
        if words[0] == "serve":  # people answer now
            words = ANSWERED.split()
        for i, word in enumerate(words[:-1]):
            words[i + 1] = TINY.get(word, words[i + 1])
        words += shlex.split(MORE.get(" ".join(words[:2]), ""))
        assert main(words) in ((0, 1) if words[0] == "doctor" else (0,)), (
            f"{line}: {capsys.readouterr().err}"
        )
    assert (tmp_path / "runs" / "report.html").exists()
    assert (tmp_path / "runs" / "kind" / "report.html").exists()
