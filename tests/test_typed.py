"""What is quoted of command lines beside the blocks that tests/test_docs.py parses whole: in running text, in shell
scripts and jobs for clusters, in what programs of examples start, and in the sentences that heedful itself says.

A sentence that sends somebody to a command which is not there is worse than none.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from heedful.cli import TWO_WORDS
from heedful.configs import command_line, commands
from heedful.errors import UserError

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(p for p in (ROOT / "docs").rglob("*.md") if "results" not in p.parts),
    *(ROOT / "examples").glob("*.ipynb"),
]
SOURCES = sorted((ROOT / "src" / "heedful").rglob("*.py"))
SCRIPTS = sorted((ROOT / "src" / "heedful").rglob("*.js"))
WHERE = r"(?:^|`|\"|'|(?<=-m )|(?<=\$ )|(?<=srun )|(?<=entrypoint: ))\s*heedful "
QUOTED = re.compile(WHERE + r"([a-z][^`\"\n]*)", re.MULTILINE)
SAID = re.compile(r"\bheedful ([a-z_]+(?: (?!heedful\b)[^\s;,)`\"]+)*)")
FLAG = re.compile(r"--[a-z][\w.-]*\w")
HOLES = re.compile(r"[A-Z…{<\[]")  # what stands for something: COMMAND, NAME, …, {name}


def alternatives(line: str) -> Iterator[list[str]]:
    """`train sft|dpo --n 4` as two lines; what stands for something else ends the name of a command."""
    line = re.sub(r"\\\n\s*|\s#\s.*", " ", line)
    words = [word.strip("[]").rstrip(".:") for word in line.split()]
    yield from map(list, itertools.product(*(word.split("|") for word in words)))


def wrong(line: str) -> str | None:
    """What is wrong with the beginning of a command line, as far as it goes; None where nothing is."""
    for words in alternatives(line):
        count = 2 if words[0] == "train" or words[:2] in TWO_WORDS else 1
        name = words[:count]
        if len(name) < count or any(HOLES.match(word) or word[0] == "-" for word in name):
            continue  # `heedful train`, `heedful train NAME`
        try:
            command = commands.command(" ".join(name))
        except UserError as error:
            return str(error)
        for flag in (word for word in words[count:] if FLAG.fullmatch(word)):
            if flag == "--help":
                continue
            try:
                command_line.parse(command.flags.Config, [flag], prog=line, preset=command.sets)
            except UserError as error:
                if "has no option" in str(error) or "would have no effect" in str(error):
                    return str(error)
            except SystemExit:
                return f"{line}: {flag} ends the program"
    return None


def quoted(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    for found in QUOTED.finditer(re.sub(r"\\\n\s*", " ", text)):
        if found[1].split()[0].split("|")[0] in FIRST:
            yield found[1]


def said(source: Path) -> Iterator[str]:
    """The command lines in the texts of a module, docstrings among them; what is filled in stands as {…}."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(v.value) if isinstance(v, ast.Constant) else "{…}" for v in node.values
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            text = node.value
        else:
            continue
        yield from lines_in(text)


def lines_in(text: str) -> Iterator[str]:
    for found in SAID.finditer(" ".join(text.split())):
        if found[1].split()[0] in FIRST:
            yield found[1]


FIRST = {name.split()[0] for name in commands.COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_pages_quote_is_there(page: Path):
    assert [told for line in quoted(page) if (told := wrong(line))] == []


@pytest.mark.long
def test_what_messages_say_is_there():
    """Mutation caught: a hint that names a flag which has moved to another command."""
    found = {str(s.relative_to(ROOT)): [*said(s)] for s in SOURCES}
    found |= {str(s.relative_to(ROOT)): [*lines_in(s.read_text("utf-8"))] for s in SCRIPTS}
    assert sum(map(len, found.values())) > 100
    assert [
        f"{s}: {told}" for s, lines in found.items() for line in lines if (told := wrong(line))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_shell_and_yaml_of_pages_can_be_read(page: Path):
    """Mutations caught: a quote that nobody closes, an anchor of a job that nothing defines, a `#SBATCH` line behind
    the first command, which sbatch does not read."""
    text = page.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(sh|bash|yaml)\n(.*?)^```$", text, re.M | re.S):
        if language == "yaml":
            assert isinstance(yaml.safe_load(block), dict)
            continue
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wanted = [bool(re.match(r"#", line)) for line in block.splitlines() if line.strip()]
        asked = [i for i, line in enumerate(block.splitlines()) if line.startswith("#SBATCH")]
        assert all(all(wanted[: i + 1]) for i in asked)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train sft|dpo --shard", None),
        ("train sft|dpoo --shard", "no command 'train dpoo'"),
        ("raters FILE --oot X", "no option --oot"),
        ("train [NAME] --oot", None),
    ],
)
def test_a_wrong_word_is_seen(line: str, told: str | None):
    assert (told or "None") in str(wrong(line))
