"""Pages that are searched by their words: those of a folder, or of a generated world.

The index is SQLite's FTS5, in memory, and its ranking BM25 (Robertson and Zaragoza 2009) with k₁ = 1.2 and b = .75: of
a page d, for each word of the query, idf · f (k₁ + 1) / (f + k₁ (1 − b + b |d| / mean |d|)), idf = ln((N − n + ½) /
(n + ½)), 10⁻⁶ at least. f is how often d has the word, in its title `TITLE` times as much; n of N pages have it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.disk import read_text
from heedful.errors import UserError

TITLE = 3.0  # a word in the title counts as much as so many in the text
SUFFIXES = {".txt", ".text", ".md", ".markdown"}
MOST_WORDS = 32  # of a query that are looked for
HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*")
# What could change how a terminal or a page shows what is around it: controls and marks of direction.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Page:
    """Its lines have no spaces at their ends, no two in a row, and none is empty."""

    title: str
    text: str


class Library:
    """Pages and their index."""

    def __init__(self, pages: Iterable[Page]):
        self.pages: Sequence[Page] = tuple(pages)
        self._index = sqlite3.connect(":memory:", check_same_thread=False)  # read by one at a time
        self._index.execute(
            "CREATE VIRTUAL TABLE pages USING fts5(title, text, tokenize='unicode61 remove_diacritics 2')"
        )
        rows = ((i, p.title, p.text) for i, p in enumerate(self.pages))
        self._index.executemany("INSERT INTO pages(rowid, title, text) VALUES (?, ?, ?)", rows)

    def search(self, query: str, most: int) -> list[tuple[int, float]]:
        """Numbers and scores of the pages that have any word of the query, the best first; of equals the earlier."""
        words = list(dict.fromkeys(re.findall(r"[^\W_]+", query.lower())))[:MOST_WORDS]
        if not words:
            return []
        ranked = self._index.execute(
            "SELECT rowid, -bm25(pages, ?, 1.0) AS score FROM pages WHERE pages MATCH ? "
            "ORDER BY score DESC, rowid LIMIT ?",
            (TITLE, " OR ".join(f'"{w}"' for w in words), most),
        )
        return [(number, score) for number, score in ranked]


def page(title: str, text: str) -> Page:
    """A page of what anybody wrote."""
    clean = [" ".join(UNSEEN.sub(" ", line).split()) for line in text.split("\n")]
    return Page(" ".join(UNSEEN.sub(" ", title).split())[:100], "\n".join(filter(None, clean)))


def read_folder(folder: Path, where: str = "browse") -> list[Page]:
    """The text and Markdown files of a folder and of those within it, in the order of their names. A Markdown page is
    called as its first heading says, any other as its file."""
    if not folder.is_dir():
        raise UserError(f"{where}: {folder} is no folder")
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    pages = [_read(file, folder, where) for file in files]
    if not any(p.text for p in pages):
        raise UserError(
            f"{where}: there is no text in {folder}: no files {' '.join(sorted(SUFFIXES))}"
        )
    return [p for p in pages if p.text]


def _read(file: Path, folder: Path, where: str) -> Page:
    text = read_text(file, where)
    headings = (HEADING.fullmatch(line) for line in text.splitlines())
    first = next(filter(None, headings), None) if file.suffix.lower().startswith(".m") else None
    return page(first[1] if first else str(file.relative_to(folder).with_suffix("")), text)
