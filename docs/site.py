"""`make docs`: lays the pages of the site into build/docs, from docs/ and from what is generated; zensical.toml has the
rest.

README, CONTRIBUTING and CHANGELOG are written to be read beside the source, so links from and to them are rewritten;
the reference of commands is what `--help` prints, and that of Python what `import heedful` offers.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from pathlib import Path

from heedful.api import NAMES
from heedful.cli import main
from heedful.configs.commands import COMMANDS, GROUPS, methods

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "docs"
# Files of the root → pages of the site.
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE",
}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def lay() -> None:
    """Writes build/docs anew."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "docs", BUILD, ignore=_left_out)
    shutil.copytree(ROOT / "examples", BUILD / "examples", ignore=_left_out)
    pages = [page.relative_to(BUILD) for page in BUILD.rglob("*.md")]
    for source in [*BESIDE, *(f"docs/{page.as_posix()}" for page in pages)]:
        text = (ROOT / source).read_text(encoding="utf-8")
        (BUILD / place(source)).write_text(relinked(text, source), encoding="utf-8")
    (BUILD / "reference").mkdir()
    (BUILD / "reference" / "commands.md").write_text(_commands(), encoding="utf-8")
    (BUILD / "reference" / "python.md").write_text(_python(), encoding="utf-8")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """This file, caches, and what reproductions leave beside their results."""
    inside = Path(folder)
    runs = {n for n in names if inside.name == "reproductions" and (inside / n).is_dir()}
    return runs | {n for n in names if n in (Path(__file__).name, "__pycache__")}


def place(path: str) -> str:
    """Where a file of the repository is in the site, both from their roots."""
    return BESIDE.get(path, path.removeprefix("docs/"))


def relinked(text: str, source: str) -> str:
    """The text of a file with its relative links as they are from its place in the site."""
    here = os.path.dirname(place(source))

    def link(match: re.Match[str]) -> str:
        before, path, anchor, after = match.groups(default="")
        target = place(os.path.normpath(os.path.join(os.path.dirname(source), path)))
        return f"{before}{os.path.relpath(target, here or '.')}{anchor}{after}"

    return LINK.sub(link, text)


def _commands() -> str:
    """What each command says of itself."""
    os.environ.update(COLUMNS="84", NO_COLOR="1")
    parts = ["# Commands\n\nWhat `heedful COMMAND --help` prints.\n", *map(_help, COMMANDS)]
    for words, modules in GROUPS.items():
        parts += [
            f"## heedful train: {words}\n",
            *(_help(f"train {m}", "###") for m in methods(*modules)),
        ]
    return "\n".join(parts)


def _help(name: str, level: str = "##") -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*name.split(), "--help"])
    return f"{level} heedful {name}\n\n```text\n{printed.getvalue().strip()}\n```\n"


def _python() -> str:
    """A directive for each name that `import heedful` offers."""
    head = "# Python\n\nWhat `import heedful as hd` offers, each as `hd.NAME`. [How they go together](../library.md).\n"
    return "\n".join([head, *(f"::: {place.replace(':', '.')}\n" for place in NAMES.values())])


if __name__ == "__main__":
    lay()
