"""The flags of TRL, LLaMA-Factory and OpenRLHF that heedful calls otherwise or lacks, and what each becomes here.

`elsewhere.txt` is the one table: the command line and `--config` files follow it (`configs/words.py`), and
docs/coming-from-trl.md shows it. Names that a field has as an alias (`--model-name-or-path`) stand at the field.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")
IGNORED = "ignored: "


@dataclass(frozen=True)
class Row:
    """A flag of another trainer, or a flag of ours with a value that others call otherwise (`--loss sigmoid`).

    It becomes the first of these words that the command has, X being its value; words without X are for a switch.
    `by_value` has words for some values, none for what is so anyway. A sentence is told where no words fit.
    """

    flag: str
    of: str
    becomes: tuple[str, ...] = ()
    by_value: Mapping[str, str] | None = None
    says: str = ""

    @property
    def ignored(self) -> bool:
        """Whether it changes nothing here, for the reason in `says`."""
        return self.says.startswith(IGNORED)

    @property
    def here(self) -> str:
        """What a flag becomes, in the words of the table."""
        values = (self.by_value or {}).items()
        cells = [", or ".join(f"`{words}`" for words in self.becomes)]
        cells += [f"{value}: `{w}`" if w else f"{value}: nothing to do" for value, w in values]
        return "; ".join(filter(None, [*cells, self.says]))


@functools.cache
def topics() -> dict[str, tuple[Row, ...]]:
    """The table's rows by their topics."""
    found: dict[str, tuple[Row, ...]] = {}
    topic = ""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[topic := line[3:]] = ()
        elif line.startswith("--"):
            flag, of, becomes, by_value, says = [*map(str.strip, line.split("|")), *[""] * 4][:5]
            pairs = (pair.split(": ") for pair in by_value.split("; ") if pair)
            words = tuple(filter(None, becomes.split(", ")))
            values = {value: "" if word == "-" else word for value, word in pairs}
            found[topic] += (Row(flag, of, words, values or None, says),)
    return found


@functools.cache
def rows() -> dict[str, Row]:
    """Flag, or flag and value → its row."""
    return {row.flag: row for of_topic in topics().values() for row in of_topic}


def markdown() -> str:
    """The rows as tables, one for each topic."""
    return "\n".join(_lines()).strip()


def _lines() -> Iterator[str]:
    for topic, of_topic in topics().items():
        yield f"\n## {topic}\n\n| flag | of | here |\n|---|---|---|"
        for row in of_topic:
            yield f"| `{row.flag}` | {row.of} | {row.here} |"


if __name__ == "__main__":  # python -m heedful.configs.elsewhere docs/coming-from-trl.md
    import sys

    page = Path(sys.argv[1])
    head = page.read_text(encoding="utf-8").partition("\n## ")[0].rstrip()
    page.write_text(f"{head}\n\n{markdown()}\n", encoding="utf-8")
