"""The logs that a run writes line by line: an object a line, with its `step`."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from heedful.errors import UserError

METRICS = "metrics.jsonl"
ALARMS = "alarms.jsonl"
SAMPLES = "samples.jsonl"


def read_log(file: Path) -> list[dict[str, Any]]:
    """Its rows, in order: none where there is no file yet. A last line that is not whole is left out, for the run may
    be writing it; any other that is no object with a number as `step` is an error."""
    if not file.exists():
        return []
    *lines, last = file.read_text(encoding="utf-8").split("\n")
    rows = [_row(f"{file}, line {k}", line) for k, line in enumerate(lines, 1) if line.strip()]
    if last.strip():
        with suppress(UserError):
            rows.append(_row(f"{file}, last line", last))
    return rows


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise UserError(f"{where}: not valid JSON ({e.msg})") from None
    if not isinstance(row, dict) or not is_number(row.get("step")):
        raise UserError(f"{where}: expected an object with a number in field step")
    return row


def is_number(value: Any) -> bool:
    """A finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
