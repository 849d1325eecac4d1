"""Which code of the user's a config asks (a reward, a judge, a loss, a part of an algorithm), and what stands in it.

It is found without being imported. What a module imports from beside it counts as well; what is installed elsewhere,
and what code reads while it runs, does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from heedful import registry

MOST_FILES = 200  # are read of one function
FUNCTION = re.compile(r"([\w.\-/]*\w):[A-Za-z_]\w*")  # package.module:function, ./file.py:function
# Read as text: a sentence that looks like one of these, of a file that is there, does no harm.
IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n#;]+)", re.MULTILINE)
FROM_IMPORT = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#;]+)", re.MULTILINE
)
NAME = re.compile(r"[\w.]+")
WORD = re.compile(r"[A-Za-z_][\w.-]*")
# A field → the kinds (see `registry`) whose names stand in it; the parts of an algorithm stand in fields of their kind.
KINDS = {
    "reward": "reward", "watch_reward": "reward", "judge": "judge", "raters": "judge", "env": "environment",
    "scorer": "world",
}  # fmt: skip
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))  # fmt: skip


def sources(config: Any) -> dict[str, str]:
    """Module or file, as it is named → sha256 of its source and of what it imports from beside it.

    Of heedful's own functions nothing: its version says what they are.
    """
    named = (module for field, text in _texts(config) for module in _modules(field, text))
    digests: dict[str, str] = {}
    for module in named:
        if module not in digests and (file := _file_of(module)) is not None:
            digests[module] = _digest(module, file)
    return digests


def _texts(values: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(field, text) of all that is said in a config."""
    if dataclasses.is_dataclass(values):
        values = vars(values)
    if isinstance(values, str):
        yield field, values
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield from _texts(value, name)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value, field)


def _modules(field: str, text: str) -> Iterator[str]:
    """What a text may name: the modules of functions, and of what installed packages or a notebook have registered."""
    yield from FUNCTION.findall(text)
    if field == "tools" and text.endswith(".py"):  # all that is written there
        yield text
    kind = KINDS.get(field, field)
    if kind in registry.KINDS:
        known = registry.entries(kind)
        for word in WORD.findall(text):
            if word in known:
                yield known[word].target.partition(":")[0]


def _file_of(module: str) -> Path | None:
    """The source of a module or a file, if it is somebody's own."""
    if module.endswith(".py") or "/" in module:
        return path if (path := Path(module)).is_file() else None
    top, *_ = module.split(".")
    if top == "heedful" or top in sys.stdlib_module_names:
        return None
    path, spec = [os.getcwd(), *sys.path], None
    try:
        for depth in range(1, module.count(".") + 2):
            name = ".".join(module.split(".")[:depth])
            spec = PathFinder.find_spec(name, path)
            if spec is None and depth == 1:  # installed for its developers, perhaps
                spec = importlib.util.find_spec(name)
            if spec is None:
                return None
            path = list(spec.submodule_search_locations or ())
    except (ImportError, ValueError, AttributeError, OSError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _digest(module: str, file: Path) -> str:
    """Of a module, and of those of its folder (of an installed one: of its package) that it comes to import."""
    depth = 1 if module.endswith(".py") or "/" in module else len(module.split("."))
    if file.name == "__init__.py":
        depth += 1
    root = file.resolve().parents[depth - 1]
    within = root / module.split(".")[0] if str(root).startswith(INSTALLED) else root
    total, seen, todo = hashlib.sha256(), set[Path](), [file.resolve()]
    while todo and len(seen) < MOST_FILES:
        path = todo.pop(0)
        if path in seen or not path.is_relative_to(within):
            continue
        seen.add(path)
        try:
            source = path.read_bytes()
        except OSError:
            continue
        total.update(f"{path.relative_to(root)}\0{hashlib.sha256(source).hexdigest()}\n".encode())
        todo += sorted(_imported(source.decode(errors="replace"), path, root))
    return total.hexdigest()


def _imported(source: str, path: Path, root: Path) -> set[Path]:
    """The files below `root` that a module imports."""
    files: set[Path] = set()
    for names in IMPORT.findall(source):
        for name in names.split(","):
            files |= _below(root, NAME.findall(name)[:1])
    for dots, module, names in FROM_IMPORT.findall(source):
        base = path.parents[len(dots) - 1] if dots else root
        for name in names.strip("()").split(","):
            files |= _below(base, [x for x in (module, *NAME.findall(name)[:1]) if x])
    return files


def _below(base: Path, names: list[str]) -> set[Path]:
    """The modules and packages on the way to a dotted name."""
    parts = [part for part in ".".join(names).split(".") if part]
    places = (base.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
    return {
        file
        for place in places
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")
        if file.is_file()
    }
