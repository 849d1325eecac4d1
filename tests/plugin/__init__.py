"""`odd_one` as pip would install it: two files of its own and an entry point."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).parent
ENTRY = "[heedful.question_kinds]\nodd_one = odd_one:KIND\n"


def install(site: Path) -> None:
    """Into a folder that is on the path."""
    about = site / "odd_one-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd_one\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY)
    for file in HERE.glob("odd_one.*"):
        shutil.copy(file, site)
