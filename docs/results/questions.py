"""How fast a lead finds questions among many: python docs/results/questions.py [QUESTIONS]

Each line is a filter: the first page of fifty with all that the list shows, and counting all that match. A workspace on
SQLite, made up from a seed; nobody else is at work.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from heedful.store.database.db import Store, open_store
from heedful.store.lead import browse, history
from heedful.store.project import content, projects

FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "a common word": {"text": "w7"},
    "two words that few have": {"text": "q99 w7"},
    "a word that none has": {"text": "zebra"},
    "state": {"state": "open"},
    "model": {"model": "a"},
    "raters disagree": {"differ": True},
    "metadata": {"where": ("kind=pair",)},
}


def made(store: Store, questions: int) -> str:
    """A project with so many pairs, each of 140 words."""
    rng, words = random.Random(0), [f"w{i}" for i in range(5000)]

    def text(n: int) -> str:
        return " ".join(rng.choices(words, k=n))

    with store.write() as connection:
        project = projects.create(connection, "questions")
    for start in range(0, questions, 1000):
        with store.write() as connection:
            prompts = [(f"{text(20)} q{start + i}", content.Origin()) for i in range(1000)]
            keys = content.add_prompts(connection, project, prompts)
            rows = [(key, text(60), {"model": model}) for key in keys for model in ("a", "b")]
            ids = content.add_completions(connection, rows)
            pairs = [content.Ask("pair", k, ids[2 * i : 2 * i + 2]) for i, k in enumerate(keys)]
            content.add_tasks(connection, project, pairs)
    return project


def measured(store: Store, project: str, wanted: browse.Filter) -> dict[str, Any]:
    with store.read() as connection:
        began = time.process_time()
        ids = list(islice(browse.matching(connection, project, wanted), 51))
        history.rows(connection, ids[:50])
        paged = time.process_time()
        total = browse.count(connection, project, wanted)
        return {
            "page_ms": round(1000 * (paged - began), 1),
            "count_ms": round(1000 * (time.process_time() - paged), 1),
            "match": total,
        }


def main(questions: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'heedful.db'}")
        project = made(store, questions)
        lines = {name: measured(store, project, browse.Filter(**f)) for name, f in FILTERS.items()}
        store.close()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, seconds of a processor"
    told = {"questions": questions, "machine": machine, "filters": lines}
    Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
