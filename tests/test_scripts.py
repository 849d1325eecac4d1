"""The scripts behind the published results, and the lines that start them: what they import and type is there.

None is run at its size; an import or a flag that has moved is what breaks a script that nobody runs for months.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from heedful import cli
from heedful.configs import command_line, commands

ROOT = Path(__file__).parents[1]
SHELL = sorted((ROOT / "docs" / "results").glob("*.sh"))
PYTHON = [
    *sorted((ROOT / "docs" / "results").glob("*.py")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "Makefile",
    *(ROOT / "docs").rglob("*.md"),
    *PYTHON,
]
HEREDOC = re.compile(r"<<'PY'\n(.*?)\nPY$", re.MULTILINE | re.DOTALL)


def programs(script: Path) -> list[str]:
    """The Python of a file: itself, or what a shell script gives to `python -`."""
    text = script.read_text(encoding="utf-8")
    return [text] if script.suffix == ".py" else HEREDOC.findall(text)


def missing(text: str) -> Iterator[str]:
    """What a program imports of heedful, or reads of a module that it imported, and is not there."""
    modules: dict[str, ModuleType] = {}
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in (n for n in node.names if n.name.split(".")[0] == "heedful"):
                importlib.import_module(name.name)
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "heedful":
            continue
        for name in node.names:
            try:
                value = importlib.import_module(f"{node.module}.{name.name}")
                modules[name.asname or name.name] = value
            except ModuleNotFoundError:
                if not hasattr(importlib.import_module(str(node.module)), name.name):
                    yield f"{node.module}.{name.name}"
    bound = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id) if node.value.id not in bound else None
            if module is not None and not hasattr(module, node.attr):
                yield f"{module.__name__}.{node.attr}"


@pytest.mark.parametrize("script", [*SHELL, *PYTHON], ids=lambda p: p.name)
def test_what_a_script_imports_is_there(script: Path):
    """Mutation caught: `split_by_prompt` moved to another room."""
    assert [name for text in programs(script) for name in missing(text)] == []


def lines_of(script: Path) -> Iterator[str]:
    """The commands of heedful in a shell script, its variables as words."""
    text = HEREDOC.sub("", script.read_text(encoding="utf-8"))
    common = re.search(r'^common="(.*)"$', text, re.MULTILINE)
    text = text.replace("$common", common[1] if common else "")
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if found := re.match(r"\s*heedful (.+?)(?: > .*)?$", line):
            yield re.sub(r"\$(\w+)", lambda v: {"seed": "0"}.get(v[1], v[1]), found[1])


@pytest.mark.parametrize("script", SHELL, ids=lambda p: p.name)
def test_what_a_shell_script_types_is_understood(script: Path, monkeypatch):
    monkeypatch.setattr(commands, "refuse_missing", lambda config: None)
    found = list(lines_of(script))
    assert len(found) > 1
    for line in found:
        words = shlex.split(line)
        count = 2 if words[0] == "train" or words[:2] in cli.TWO_WORDS else 1
        command = commands.command(" ".join(words[:count]))
        parsed = command_line.parse(
            command.flags.Config, words[count:], prog=f"heedful {command.name}", preset=command.sets
        )
        commands.refuse(command, parsed.config)


def test_the_program_within_a_shell_script_runs(tmp_path: Path, monkeypatch):
    """harmless.sh: the texts of the training prompts, on a few comparisons."""
    asked = [f"\n\nHuman: Question {i}?\n\nAssistant: " for i in range(12)]
    rows = [{"chosen": f"{prompt}Yes.", "rejected": f"{prompt}No."} for prompt in asked]
    data, out = tmp_path / "pairs.jsonl", tmp_path / "text.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["-", str(data), str(out)])
    for program in programs(ROOT / "docs" / "results" / "harmless.sh"):
        exec(compile(program, "harmless.sh", "exec"), {})
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert 8 <= len(texts) < 24 and all("Question" in t for t in texts)


def started() -> list[tuple[str, str]]:
    """(file, what follows `python`) for every line of the pages that starts a script or a module of this repository."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(
            r"python ((?:-m (?:benchmarks|heedful)[\w.]*|docs/[\w/]+\.py)[^\n`#)\"]*)", text
        ):
            found.append((page.name, re.split(r"\s{2,}", line)[0].strip()))
    return found


def test_what_pages_start_is_there():
    """The module or script exists, and knows the options that a page gives it."""
    lines = started()
    assert len(lines) > 20
    for page, line in lines:
        words = line.split()
        module = words[1] if words[0] == "-m" else None
        if module:
            sys.path.insert(0, os.fspath(ROOT))
            spec = importlib.util.find_spec(module)
            sys.path.remove(os.fspath(ROOT))
            assert spec is not None and spec.origin is not None, f"{page}: {line}"
            source = Path(spec.origin)
            if module == "heedful":
                continue
        else:
            source = ROOT / words[0]
        assert source.exists(), f"{page}: {line}"
        text = source.read_text(encoding="utf-8")
        for flag in re.findall(r"--[a-z-]+", line):
            assert flag in text, f"{page}: {line}"


def test_the_diagnostics_have_every_metric():
    """Of what the policy gradients compute. Mutation caught: a new metric that no page explains."""
    rooms = ("estimates", "policy_losses", "actors", "on_policy")
    source = "".join((ROOT / f"src/heedful/training/{room}.py").read_text() for room in rooms)
    names = set(
        re.findall(r'"((?:policy|kl|value|reward|groups|completions)/[a-z_]+|eos_rate)"', source)
    )
    page = (ROOT / "docs" / "methods" / "diagnostics.md").read_text(encoding="utf-8")
    assert len(names) > 15 and not {n for n in names if f"`{n}`" not in page}
