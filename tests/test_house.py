"""The house stands: imports point downwards only, files are short, the documents tell the truth.

A room is a file or a folder directly under src/heedful. Every import counts, also one inside a
function or under TYPE_CHECKING: a lazy import is still a dependency.
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "heedful"

FLOORS = {
    "types": 0,
    "errors": 0,
    "caches": 0,
    "waiting": 0,
    "disk": 1,
    "yaml_file": 1,
    "registry": 1,
    "calls": 1,
    "exact": 1,
    "fields": 1,
    "progress": 1,
    "launch": 1,
    "ranks": 1,
    "trial": 1,
    "client": 1,
    "data": 2,
    "evals": 2,
    "fast": 2,
    "losses": 2,
    "tagged": 2,
    "remote": 2,
    "report": 2,
    "store": 2,
    "configs": 3,
    "control": 3,
    "learner": 3,
    "models": 3,
    "run": 3,
    "worlds": 3,
    "endpoint": 3,
    "envs": 3,
    "engine": 4,
    "raters": 4,
    "rewards": 4,
    "transfer": 4,
    "rollout": 5,
    "serving": 6,
    "planning": 5,
    "training": 5,
    "doctor": 6,
    "web": 6,
    "recipes": 7,
    "reproductions": 8,
    "api": 8,
    "cli": 8,
}
PLANNED: set[str] = set()  # on the floor plan, not built yet
SAME_FLOOR = {  # (importer, imported): why
    ("learner", "models"): "a learner saves its model",
    ("envs", "worlds"): "questions about a generated world are played over several turns",
    ("reproductions", "api"): "claims are made again by the commands that people use",
    ("report", "data"): "words that are melodies or molecules are drawn",
    ("worlds", "models"): "a world of notes brings a tokenizer with a token for each",
    ("envs", "endpoint"): "programs drive the policy by asking over the OpenAI API",
}
TORCHLESS = {"web", "store"}  # answer people while a GPU is busy elsewhere
MOST_LINES = 400
MOST_FAST_LINES = 2500  # of all that only makes things faster, C included


def parts(file: Path, package: Path) -> tuple[str, ...]:
    """`report/page.py` is ("report", "page"), `report/__init__.py` is ("report",)."""
    names = file.relative_to(package).with_suffix("").parts
    return names[:-1] if names[-1] == "__init__" else names


def spoken(file: Path, package: Path) -> list[tuple[str, bool]]:
    """Dotted names that a file imports, and whether only type checkers see the import."""
    here = ("heedful", *parts(file, package))
    folder = here if file.name == "__init__.py" else here[:-1]
    return imports_of(file.read_text(encoding="utf-8"), folder)


@functools.cache
def imports_of(text: str, folder: tuple[str, ...]) -> list[tuple[str, bool]]:
    """`spoken` of a file in a folder."""
    tree, found = ast.parse(text), []
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            names = [str(node.args[0].value)]
        found += [(name, id(node) in for_types) for name in names]
    return found


def graph(package: Path, *, types_too: bool = True) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Which file of the package imports which others, as `parts`."""
    files = {parts(file, package): file for file in sorted(package.rglob("*.py"))}
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for me, file in files.items():
        found[me] = set()
        for name, only_types in spoken(file, package):
            if name.split(".")[0] != "heedful" or (only_types and not types_too):
                continue
            target = tuple(name.split(".")[1:])
            while target and target not in files:  # what is imported may be a function of a module
                target = target[:-1]
            if target != me:
                found[me].add(target)
    return found


def wrong_imports(package: Path) -> list[str]:
    """One sentence for each import that does not point downwards."""
    found = []
    for me, targets in graph(package).items():
        for target in targets - {()}:
            if not me:
                found.append(f"heedful/__init__.py imports {'.'.join(target)}")
                continue
            mine, theirs = me[0], target[0]
            if (mine, theirs) == ("__main__", "cli"):  # the door, which is above all floors
                continue
            if mine == theirs or (mine, theirs) in SAME_FLOOR:
                continue
            if FLOORS.get(mine, -1) <= FLOORS.get(theirs, 99):
                found.append(f"{'.'.join(me)} imports {'.'.join(target)}")
    return sorted(found)


def test_imports_point_downwards():
    assert wrong_imports(PACKAGE) == []


def test_allowed_edges_are_used_and_level():
    """An exception nobody needs any more is taken back."""
    used = {
        (me[0], target[0])
        for me, all_ in graph(PACKAGE).items()
        for target in all_
        if me and target
    }
    assert set(SAME_FLOOR) - used == set()
    assert all(FLOORS[a] == FLOORS[b] for a, b in SAME_FLOOR)


@pytest.mark.parametrize("types_too", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 9], ids=["rooms", "rooms within rooms", "files"])
def test_no_circles(types_too: bool, depth: int):
    """Neither among rooms, nor among those within a room, nor among files."""
    edges: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for me, targets in graph(PACKAGE, types_too=types_too).items():
        if me:
            mine = me[:depth]
            edges.setdefault(mine, set()).update({t[:depth] for t in targets if t} - {mine})
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {error.args[1]}")


def test_files_are_short():
    written = [p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".html", ".css", ".js", ".j2"}]
    lengths = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8").count("\n") for p in written}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_what_only_makes_things_faster_stays_small():
    """Whoever adds a fast path takes another out, or shows that both are needed."""
    written = [p for p in (PACKAGE / "fast").rglob("*") if p.suffix in {".py", ".c", ".h"}]
    assert sum(p.read_text(encoding="utf-8").count("\n") for p in written) < MOST_FAST_LINES


def reaches_torch(package: Path, room: str) -> bool:
    """Whether importing a file of the room, or what that imports in turn, imports torch."""
    edges = graph(package, types_too=False)
    todo, seen = [me for me in edges if me[:1] == (room,)], set()
    while todo:
        me = todo.pop()
        if me in seen:
            continue
        seen.add(me)
        todo += edges[me]
        folder = package.joinpath(*me)
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        tops = {name.split(".")[0] for name, only_types in spoken(file, package) if not only_types}
        if tops & {"torch", "transformers"}:
            return True
    return False


def test_web_and_store_do_without_torch():
    assert [room for room in sorted(TORCHLESS) if reaches_torch(PACKAGE, room)] == []


def floor_plan() -> dict[str, int]:
    """The rooms in the table of docs/architecture.md: `| 5 | `recipes/` | … |`."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = {}
    for floor, cell in re.findall(r"^\| (\d) \| (.+?) \|", text, re.MULTILINE):
        found |= {room: int(floor) for room in re.findall(r"`(\w+)(?:\.py|/)`", cell)}
    return found


def test_the_floor_plan_is_true():
    """docs/architecture.md, FLOORS and the folders tell the same."""
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    there -= {"__init__", "__main__"}
    plan = floor_plan()
    assert set(plan) == there
    assert {room: FLOORS.get(room) for room in plan} == plan
    assert set(FLOORS) - there == PLANNED


def test_every_dependency_has_its_reason():
    """The table of CONTRIBUTING.md and pyproject.toml name the same libraries."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[^\w-]", entry)[0].lower() for group in wanted for entry in group}
    names.discard("heedful")  # an extra may name other extras
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert {name.lower() for name in table} == names


@pytest.mark.parametrize(
    "file, line",
    [
        ("losses/dpo.py", "from heedful.models import load"),  # upwards
        ("losses/dpo.py", "def f():\n    import heedful.recipes.sft"),  # upwards, lazily
        ("losses/dpo.py", "from ..data import tokens"),  # across
        ("losses/dpo.py", "from .. import data"),  # across, by name
        ("models/load.py", "import importlib\nimportlib.import_module('heedful.cli')"),  # by string
        ("engine/new.py", "if TYPE_CHECKING:\n    from heedful.cli import main"),  # for types only
        ("attic.py", "from heedful.types import Pair"),  # a room that is not on the plan
        ("__init__.py", "from heedful.recipes import sft"),  # heedful itself stays empty
    ],
)
def test_the_watchman_sees(tmp_path: Path, file: str, line: str):
    """Each kind of wrong import, planted in a house that is otherwise in order, is reported."""
    house = tmp_path / "heedful"
    for room in ("losses", "models", "engine", "data", "recipes"):
        (house / room).mkdir(parents=True)
        (house / room / "__init__.py").touch()
    for name in ("types.py", "cli.py", "recipes/sft.py", "data/tokens.py", "__init__.py"):
        (house / name).touch()
    (house / "recipes" / "sft.py").write_text(
        "from heedful.models import load\nfrom heedful.types import Pair\n"
    )
    assert wrong_imports(house) == []
    (house / file).write_text(line + "\n")
    assert len(wrong_imports(house)) == 1


def test_the_watchman_sees_torch_through_other_rooms(tmp_path: Path):
    house = tmp_path / "heedful"
    for room in ("store", "models"):
        (house / room).mkdir(parents=True)
        (house / room / "__init__.py").touch()
    (house / "types.py").write_text("if TYPE_CHECKING:\n    from torch import Tensor\n")
    (house / "store" / "db.py").write_text("from heedful.types import Pair\n")
    assert not reaches_torch(house, "store")
    (house / "models" / "load.py").write_text("import torch\n")
    (house / "store" / "db.py").write_text("from heedful.models.load import load\n")
    assert reaches_torch(house, "store")
