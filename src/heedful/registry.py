"""Names → functions: what heedful offers, what installed packages add to it, and what is somebody's own.

    @register("loss", "simpo", help="mean log-probs with a margin, no reference", source="Meng et al. 2024", beta=2.0)
    def simpo(x, p, beta, *, gamma=1.0): ...

A name is written once, beside its function. Lists and help read these lines from the source, so that they cost no
import of what stands below them (PyTorch, mostly); a function is imported when it is asked for by its name. An
installed package adds names by entry points of the group `heedful.losses`, `heedful.rewards`, … (see `KINDS`), a
notebook by calling `register`. `package.module:function` names a function that nobody has registered.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from heedful.errors import UserError, did_you_mean

PACKAGE = Path(__file__).parent
T = TypeVar("T")

# kind → (where in this package it is registered, the group of entry points that adds to it)
KINDS: dict[str, tuple[str, str]] = {
    "loss": ("losses", "heedful.losses"),
    "advantage": ("configs/tagged", "heedful.advantages"),
    "surrogate": ("configs/tagged", "heedful.surrogates"),
    "average": ("configs/tagged", "heedful.averages"),
    "kl": ("configs/tagged", "heedful.kl"),
    "kl_estimator": ("configs/tagged", "heedful.kl_estimators"),
    "reward": ("rewards", "heedful.rewards"),
    "judge": ("raters", "heedful.judges"),
    "engine": ("engine", "heedful.engines"),
    "learner": ("learner", "heedful.learners"),
    "environment": ("envs", "heedful.envs"),
    "adapter": ("envs", "heedful.adapters"),
    "world": ("worlds", "heedful.worlds"),
    "game": ("control", "heedful.games"),
}


@dataclass(frozen=True)
class Entry:
    """A name, where its function is, one line of help, its source (paper, equation), and what else was said of it."""

    kind: str
    name: str
    target: str  # module:attribute
    help: str = ""
    source: str = ""
    more: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def load(self) -> Any:
        """The function, or class; imports its module."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class _Given(Entry):
    """An entry whose function is here already."""

    value: Any = None

    def load(self) -> Any:
        return self.value


_registered: dict[tuple[str, str], Entry] = {}


def register(
    kind: str, name: str, *, help: str = "", source: str = "", **more: Any
) -> Callable[[T], T]:
    """Decorator: the function (or class) is what `name` means among the things of this kind from now on.

    `more` are facts about it that can be told without importing it, such as a loss's usual `beta`; all arguments
    are literals, since they are read from the source.
    """
    _known_kind(kind)

    def remember(value: T) -> T:
        target = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', name)}"
        _registered[kind, name] = _Given(
            kind, name, target, help, source, MappingProxyType(more), value
        )
        return value

    return remember


def entries(kind: str) -> dict[str, Entry]:
    """Everything of a kind by its name: what is shipped in the order of the source, then what was added."""
    home, group = _known_kind(kind)
    known = dict(_in_source(kind, home))
    if _adding_packages(tuple(sys.path)):
        from importlib.metadata import entry_points

        for point in entry_points(group=group):
            about = f"of {point.value}"
            known.setdefault(point.name, Entry(kind, point.name, point.value, help=about))
    for (of, name), entry in _registered.items():
        if of == kind and known.setdefault(name, entry).target != entry.target:
            raise ValueError(f"two of the kind {kind} are called '{name}': {entry.target} is one")
    return known


def load(kind: str, spec: str, flag: str | None = None) -> Any:
    """What a name or a `package.module:function` means; UserError for what is neither. `flag` is for its sentence."""
    if ":" in spec:
        return load_function(spec)
    return entry(kind, spec, flag).load()


def entry(kind: str, name: str, flag: str | None = None) -> Entry:
    """The entry of a name; UserError with the nearest one where there is none."""
    known = entries(kind)
    if name not in known:
        what = f"{flag} '{name}' is unknown" if flag else f"there is no {kind} '{name}'"
        raise UserError(f"{what}{did_you_mean(name, known)}: {', '.join(known)}")
    return known[name]


def load_function(spec: str) -> Callable[..., Any]:
    """Import a user's `package.module:function`, `:Class.method` or `./file.py:function`; the current folder is
    searched too, as `python -m` would. A file that is no Python is a UserError; what else it raises goes on."""
    module_name, _, name = spec.rpartition(":")
    if not module_name or not name:
        raise UserError(f"'{spec}' is not of the form package.module:function")
    is_file = module_name.endswith(".py") or "/" in module_name
    try:
        module = load_file(module_name, spec) if is_file else _importable(os.getcwd(), module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise UserError(f"'{spec}': there is no module {module_name}") from error
    except SyntaxError as error:
        raise _no_python(spec, error) from error
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value)]
        raise UserError(
            f"'{spec}': module {module_name} has no function {name}{did_you_mean(name, known)}"
        )
    return function


def load_file(name: str, spec: str = "") -> ModuleType:
    """The module of a Python file; what lies beside it can be imported there. `spec` is for messages."""
    file = Path(name)
    if not file.is_file():
        raise UserError(f"'{spec or name}': there is no file {name}")
    _findable(str(file.resolve().parent))
    try:
        return _module_of(file)
    except SyntaxError as error:
        raise _no_python(spec or name, error) from error


def _no_python(spec: str, error: SyntaxError) -> UserError:
    return UserError(f"'{spec}': {error.filename}:{error.lineno} is not Python: {error.msg}")


def _importable(folder: str, name: str) -> ModuleType:
    _findable(folder)
    return importlib.import_module(name)


def _findable(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _module_of(file: Path) -> ModuleType:
    """The module of a file, run once; under a name of its own, whatever else is called so."""
    name = (
        f"_heedful_file_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}_{file.stem}"
    )
    if name not in sys.modules:
        of_file = importlib.util.spec_from_file_location(name, file)
        if of_file is None or of_file.loader is None:
            raise UserError(f"{file} is no Python file")
        module = sys.modules[name] = importlib.util.module_from_spec(of_file)
        try:
            of_file.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _known_kind(kind: str) -> tuple[str, str]:
    if kind not in KINDS:
        raise ValueError(f"there is no kind '{kind}': {', '.join(KINDS)}")
    return KINDS[kind]


@functools.cache
def _adding_packages(path: tuple[str, ...]) -> bool:
    """Whether an installed package may add names. Asked before `importlib.metadata`, whose import costs a third of
    --help: its files are looked through for a section of ours."""
    for place in path:
        if os.path.isfile(place):
            return True  # an archive
        for name in os.listdir(place) if os.path.isdir(place) else ():
            if name.endswith((".dist-info", ".egg-info")):
                with (
                    contextlib.suppress(OSError),
                    open(
                        f"{place}/{name}/entry_points.txt", encoding="utf-8", errors="replace"
                    ) as file,
                ):
                    if "[heedful." in file.read():
                        return True
    return False


@functools.cache
def _in_source(kind: str, home: str) -> dict[str, Entry]:
    """What the files of a room register, read without importing them."""
    place = PACKAGE / home
    files = [place] if place.suffix else sorted(place.rglob("*.py"))
    return {e.name: e for file in files for e in _decorated(file) if e.kind == kind}


@functools.cache
def _decorated(file: Path) -> tuple[Entry, ...]:
    """The entries of one file, in its order."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if "\n@register(" not in text:
        return ()
    names = file.relative_to(PACKAGE.parent).with_suffix("").parts
    module = ".".join(names[:-1] if names[-1] == "__init__" else names)
    return tuple(
        _entry_of(call, f"{module}:{node.name}")
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "register"
    )


def _entry_of(call: ast.Call, target: str) -> Entry:
    kind, name = (ast.literal_eval(argument) for argument in call.args)
    facts = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    about = {key: facts.pop(key, "") for key in ("help", "source")}
    return Entry(kind, name, target, **about, more=MappingProxyType(facts))
