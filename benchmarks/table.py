"""`python -m benchmarks.table FILE.jsonl`: the lines of benchmarks.run as a Markdown table, a row for each setting."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

KEY = ("task", "size", "flags", "dtype", "threads", "busy")
COLUMNS = (
    *KEY,
    *("pairs", "heedful s/step", "TRL s/step", "TRL / heedful", "heedful / floor"),
    *("heedful MiB", "TRL MiB"),
)


def table(lines: list[dict[str, Any]]) -> str:
    """Medians over processes; the ratio with its least and largest."""
    settings: dict[tuple, dict[str, list[dict[str, Any]]]] = {}
    for line in lines:
        key = tuple(line.get(k, 0) for k in KEY)  # older lines do not say "busy"
        settings.setdefault(key, {}).setdefault(line["impl"], []).append(line)
    out = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for key, impls in settings.items():
        ours, theirs = impls.get("heedful", []), impls.get("trl", [])
        cells = [*map(str, key), str(min(len(ours), len(theirs)) or "–")]
        cells += [_median(lines, ("seconds", "median"), "{:.3g}") for lines in (ours, theirs)]
        cells.append(", ".join(_ratio(line) for line in impls.get("trl/heedful", [])) or "–")
        cells.append(_median(ours, ("floor", "ratio"), "{:.2f}"))
        cells += [_median(lines, ("peak_rss_mib",), "{:.0f}") for lines in (ours, theirs)]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def _median(lines: list[dict[str, Any]], path: tuple[str, ...], form: str) -> str:
    values = []
    for line in lines:
        value: Any = line
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            values.append(value)
    return form.format(median(values)) if values else "–"


def _ratio(line: dict[str, Any]) -> str:
    r = line["ratio"]
    text = f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})"
    return text if line["same_work"] else text + " **not the same work**"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print("usage: python -m benchmarks.table FILE.jsonl, which is there", file=sys.stderr)
        sys.exit(2)
    print(
        table([json.loads(x) for x in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()])
    )
