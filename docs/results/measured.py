"""Write what compare/*.json measured into each method's page: python docs/results/measured.py"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
METHODS = HERE.parent / "methods"
PAGES = {
    "cdpo": "dpo", "robust": "dpo", "best_of_16": "best_of_n",
    "apo_zero": "apo", "apo_down": "apo", "apo_zero_unpaired": "apo",
}  # fmt: skip
TABLES = {
    "capitals": ("three seeds, equal cost", "all-methods-on-capitals-at-equal-cost"),
    "preferences": ("one seed, the same comparisons", "the-preference-family"),
}
LINE = re.compile(r"^Measured: .*\n(?:\n(?:- `.*\n)+)?", re.MULTILINE)


def spread(value: dict, scale: float = 1.0, digits: int = 2) -> str:
    mean, (low, high) = scale * value["mean"], (scale * bound for bound in value["ci"])
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")


def measured() -> dict[str, str]:
    """Page → its lines, for pages of methods that were compared."""
    lines: dict[str, list[str]] = {}
    for name, (how, anchor) in TABLES.items():
        table = json.loads((HERE / "compare" / f"{name}.json").read_text(encoding="utf-8"))
        start = spread(table["start"]["gold"])
        for method in table["methods"]:
            end, label = method["points"][-1], method["label"]
            win = spread(end["win_rate"], 100, 0)
            lines.setdefault(PAGES.get(label, label), []).append(
                f"- `{label}` on `capitals` ([{how}](../results.md#{anchor})): preferred to the start in {win} %, "
                f"gold {start} → {spread(end['gold'])}, {spread(end['kl'])} nats away"
            )
    head = "Measured: the tables show all methods side by side, and what differs by more than chance.\n\n"
    return {page: head + "\n".join(of) + "\n" for page, of in lines.items()}


def written(page: Path, lines: str) -> str:
    """The page's text with these lines in place of those that it has."""
    text = page.read_text(encoding="utf-8")
    assert LINE.search(text), f"{page.name} has no line that begins with 'Measured:'"
    return LINE.sub(lambda _: lines, text)


if __name__ == "__main__":
    for name, lines in measured().items():
        page = METHODS / f"{name}.md"
        page.write_text(written(page, lines), encoding="utf-8")
