"""What the documents show runs, and what they type is understood.

Python blocks of a page run one after the other, as the cells of a notebook do, in a folder with a tiny model and a
little data under the names that the pages use. A block that cannot run has `<!-- not run: why -->` above it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import heedful as hd
import tiny
from cells import code_cells, execute
from heedful import registry
from heedful.cli import TWO_WORDS
from heedful.configs import command_line, commands
from heedful.configs.compare_plan import read_file
from heedful.data.templates import render
from heedful.data.tokens import encode_demonstration
from heedful.models.load import new_reward_model
from heedful.models.save import save_model
from heedful.types import Demonstration, Message

ROOT = Path(__file__).parents[1]
RUNS = (
    ROOT / "docs" / "results" / "reproductions"
)  # below it is what `heedful reproduce` has left, cards and all
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if RUNS not in p.parents),
]
BLOCK = re.compile(
    r"^(?:<!-- not run: (.+?) -->\n+)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def script(path: str) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(
        Path(path).stem + "_of_docs", ROOT / "docs" / path
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a language that are to be run."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for why, of, text in found if of == language and not why]


def pages(language: str) -> list[Any]:
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES if blocks(p, language)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's worth of small things, under the names that the pages use."""
    folder = tmp_path_factory.mktemp("docs")
    hd.run("world", name="capitals", out=folder / "data", documents=30, demonstrations=12)
    rows = [json.loads(line) for line in (folder / "data" / "prompts.jsonl").open()][:8]
    tok = tiny.tokenizer()
    hd.load_learner(tiny.policy(tok), lr=0.1).save(folder / "runs" / "sft", tok)
    reward = new_reward_model(str(folder / "runs" / "sft"), seed=0)
    save_model(reward, tok, folder / "runs" / "reward")
    pairs = [{"prompt": r["prompt"], "chosen": "Paris.", "rejected": "No idea."} for r in rows]
    samples = [{"prompt": r["prompt"], "completion": c} for r in rows for c in ("Lima.", "Well.")]
    for name, of in (("prompts", rows), ("held_out", rows), ("pairs", pairs), ("samples", samples)):
        lines = (json.dumps({**row, "answer": "7"} if "chosen" not in row else row) for row in of)
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize("page", pages("python"))
def test_python_blocks_run(page: Path, material: Path, tmp_path: Path, monkeypatch):
    folder = shutil.copytree(material, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    execute(blocks(page, "python"), page.name)


@pytest.mark.parametrize("page", pages("yaml"))
def test_yaml_blocks_are_configs(page: Path, tmp_path: Path):
    """With all their fields. So far all are plans of `heedful compare`."""
    for text in blocks(page, "yaml"):
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        read_file(tmp_path / "config.yaml")


def commands_of(page: Path) -> Iterator[str]:
    """What a page types after `heedful`, its comments and optional words taken off."""
    for text in blocks(page, ""):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            if found := re.match(r"(?:\$ |torchrun .*-m )?heedful (?!train …)(.+)", line):
                yield re.sub(r"\s#\s.*| \[\w+\]", "", found[1])


def test_lines_are_found():
    """The pattern sees lines with a prompt, with torchrun, and over several lines."""
    resume, several = ROOT / "docs" / "resume.md", ROOT / "docs" / "ranks.md"
    assert any(line.startswith("train sft") for line in commands_of(resume))
    assert any("--device cuda" in line for line in commands_of(several))
    assert sum(len([*commands_of(page)]) for page in PAGES) > 90


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in PAGES if any(commands_of(p))])
def test_command_lines_are_understood(page: Path, monkeypatch):
    """Each command exists, each flag too, and none of them would change nothing. Data need not be there."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(commands, "refuse_missing", lambda config: None)
    for line in commands_of(page):
        words = shlex.split(line)
        if words[-1] == "--help":
            continue
        count = 2 if words[0] == "train" or words[:2] in TWO_WORDS else 1
        command = commands.command(" ".join(words[:count]))
        if words[-1].endswith(("iterate.yaml", "CONFIG.yaml")):
            continue
        prog = f"heedful {command.name}"
        parsed = command_line.parse(
            command.flags.Config, words[count:], prog=prog, preset=command.sets
        )
        commands.refuse(command, parsed.config)


def test_a_wrong_flag_is_seen(tmp_path: Path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("```\nheedful train dpo --model M --data D --out O --bettta 1\n```\n")
    with pytest.raises(hd.UserError, match="bettta"):
        test_command_lines_are_understood(page, monkeypatch)


def test_the_template_for_base_models_is_what_training_writes():
    """Token for token, and it ends answers. Mutation caught: a header whose last space melts into the answer."""
    (template,) = blocks(ROOT / "docs" / "models.md", "jinja")
    tok = tiny.tokenizer()
    tok.chat_template = template.strip()
    talk = [("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", "And?")]
    asked = tuple(Message(role, text) for role, text in talk)
    ours = encode_demonstration(tok, Demonstration(asked, "No."))
    whole = render(tok, (*asked, Message("assistant", "No.")))
    assert whole[: len(ours.tokens)] == list(ours.tokens)
    assert ours.tokens[-1] == tok.eos_token_id and tok.decode(ours.tokens).count(tok.eos_token) == 2


@pytest.mark.long
@pytest.mark.parametrize(
    "name, claim, changes",
    [
        (
            "loop_on_capitals",
            "0 <= results['rloo']['win_rate'] <= 1",
            "documents=6000:documents=600 steps=600:steps=30 limit=400:limit=40 steps=12:steps=2 limit=200:limit=20",
        ),
        pytest.param(
            "loop_on_capitals", "results['rloo']['win_rate_ci'][0] > 0.5", "",
            marks=pytest.mark.exhaustive, id="loop_on_capitals, whole",
        ),
        (
            "own_reward_and_loss",
            "max(lengths[n] for n in ('rloo', 'mine', 'hinge')) < 0.7 * lengths['sft']",
            "",
        ),
    ],
)  # fmt: skip
def test_notebooks_run(name: str, claim: str, changes: str, tmp_path: Path):
    """From the first cell to the last in a fresh process, without Jupyter; and what they say of their results holds.

    The loop is shorter, and what becomes of it the demo of .ci/run shows; -m exhaustive has it whole.
    """
    notebook = ROOT / "examples" / f"{name}.ipynb"
    program = [sys.executable, Path(__file__).with_name("cells.py"), notebook, claim]
    program += changes.split()
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_notebooks_are_kept_without_outputs():
    """Outputs are of one machine, and make every change unreadable."""
    for notebook in (ROOT / "examples").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
        assert code_cells(notebook)


def test_every_page_is_in_the_navigation():
    """Of the site, once; and every page there is a file or generated. The builder itself says nothing of either."""

    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inside in (
            entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        ):
            yield from leaves(inside)

    site = script("site.py")
    listed = sorted(leaves(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    files = [site.place(str(page.relative_to(ROOT))) for page in PAGES]
    generated = ["contributing.md", "changelog.md", "reference/commands.md", "reference/python.md"]
    assert listed == sorted([*files, *generated])


@pytest.mark.parametrize(
    "source, link, there",
    [
        ("README.md", "[a](docs/people.md#alerts)", "[a](people.md#alerts)"),
        ("README.md", "![a](docs/images/rate.png)", "![a](images/rate.png)"),
        ("docs/library.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/tutorial/loop.md", "[a](../methods/dpo.md)", "[a](../methods/dpo.md)"),
        ("docs/tutorial/loop.md", "[a](../../README.md)", "[a](../index.md)"),
        ("docs/library.md", "[a](../examples/b.ipynb)", "[a](examples/b.ipynb)"),
        ("docs/library.md", "[a](https://b.org/c) [d](#e)", "[a](https://b.org/c) [d](#e)"),
    ],
)
def test_links_lead_to_the_same_place_in_the_site(source: str, link: str, there: str):
    assert script("site.py").relinked(link, source) == there


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=lambda p: p.stem
)
def test_pages_of_methods_say_when_and_what_was_seen(page: Path):
    """Mutation caught: a method nobody is told when to use, or of which nobody says what it did here."""
    text = page.read_text(encoding="utf-8")
    overview = page.stem in ("index", "policy_gradients", "diagnostics")
    assert overview or re.search(r"\*\*When|## When", text)
    assert overview or re.search(r"^Measured: |Seen|Measured\b|What was seen", text, re.MULTILINE)


def test_pages_of_methods_have_what_was_measured():
    """After `python docs/results/measured.py` nothing changes. Mutation caught: a result without its page."""
    measured = script("results/measured.py")
    for name, lines in measured.measured().items():
        page = measured.METHODS / f"{name}.md"
        assert measured.written(page, lines) == page.read_text(encoding="utf-8")
