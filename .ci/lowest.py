"""The lowest versions that pyproject.toml allows of what stands between people and the database, for pip.

Their floors are those at which what heedful relies on for its safety holds; comments there say why.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

WEB = {
    "alembic", "anyio", "argon2-cffi", "fastapi", "h11", "httpx", "jinja2", "markdown-it-py", "mdit-py-plugins", "nh3",
    "pydantic", "pyyaml", "sqlalchemy", "starlette", "uvicorn",
}  # fmt: skip

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
floors = dict(
    found.groups()
    for line in project["project"]["dependencies"]
    if (found := re.fullmatch(r"([\w-]+)>=([\d.]+)", line)) and found[1] in WEB
)
if missing := WEB - floors.keys():
    sys.exit(f"pyproject.toml names no lowest version of {', '.join(sorted(missing))}")
for name, version in floors.items():
    print(f"{name}=={version}")
