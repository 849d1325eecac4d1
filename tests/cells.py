"""Cells of a notebook, or blocks of a page, one after the other. As a program: those of a notebook, then a claim.

python cells.py NOTEBOOK 'results["dpo"] > 0.5' [steps=600:steps=30 …]
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def code_cells(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def execute(cells: Iterable[str], name: str) -> dict[str, Any]:
    """Run cells in one namespace and one event loop, as a notebook does; they may `await` outside of functions."""
    space: dict[str, Any] = {"__name__": "__main__"}

    async def all_of_them() -> None:
        for number, cell in enumerate(cells, 1):
            where = f"{name}, cell {number}"
            code = compile(cell, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if inspect.isawaitable(waiting := eval(code, space)):
                await waiting

    asyncio.run(all_of_them())
    return space


if __name__ == "__main__":
    notebook, claim, *changes = Path(sys.argv[1]), *sys.argv[2:]
    cells = code_cells(notebook)
    for old, _, new in (change.partition(":") for change in changes):
        assert sum(cell.count(f"{old},") for cell in cells) == 1, old
        cells = [cell.replace(f"{old},", f"{new},") for cell in cells]
    assert eval(claim, execute(cells, notebook.name)), claim
