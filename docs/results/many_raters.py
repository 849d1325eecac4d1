"""How long it takes to tell who can be relied on, and how much memory: `heedful raters` on a thousand raters with a
million judgments between them, of comparisons, and of labels by each model.

    python docs/results/many_raters.py [--judgments 1000000] [--out docs/results/people/many_raters.json]

Each is a process of its own. `reading` and `fitting` are seconds of a processor, `peak_mib` is the most memory that the
process had, text and all. Raters' reliability is planted; `error` is how far what is found is away from it on average.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heedful.raters.reliability import Collected, fit
from heedful.recipes.demo import machine
from heedful.types import Comparison

RATERS, EACH = 1000, 5  # raters; judgments of a question
WORDS = 25  # of a response


def reliability(rater: int) -> float:
    """Every fifth guesses."""
    return 0.5 if rater % 5 == 0 else 0.95


def judgments(number: int) -> Iterator[tuple[str, tuple[str, str], int, bool]]:
    """(prompt, responses, whose, whether the first was said to be better); a word of ten makes a response better."""
    draw, words = random.Random(0), [f"word{k}" for k in range(3000)]
    for question in range(number // EACH):
        both = [draw.choices(words, k=WORDS) for _ in range(2)]
        worth = [sum(int(word[4:]) % 10 == 0 for word in text) + draw.gauss(0, 1) for text in both]
        responses = (" ".join(both[0]), " ".join(both[1]))
        for _ in range(EACH):
            rater = draw.randrange(RATERS)
            right = draw.random() < reliability(rater)
            yield f"question {question}", responses, rater, (worth[0] > worth[1]) == right


def comparisons(number: int) -> dict[str, float]:
    collected, begun = Collected(), time.process_time()
    for prompt, responses, rater, first in judgments(number):
        ranking = (1, 2) if first else (2, 1)
        collected.add(Comparison(prompt, responses, ranking, rater=str(rater)))
    read = time.process_time()
    pairs = collected.pairs()
    fitted = fit(pairs)
    away = [
        abs(e.value - reliability(int(name)))
        for name, e in zip(pairs.people, fitted.reliability, strict=True)
    ]
    return {
        "reading": read - begun, "fitting": time.process_time() - read, "error": sum(away) / len(away),
    }  # fmt: skip


def labels(number: int, model: str) -> dict[str, float]:
    from heedful.raters.labels import fit as fit_labels
    from heedful.raters.labels import labels_of

    begun = time.process_time()
    items, raters, values = [], [], []
    for prompt, _, rater, first in judgments(number):
        items.append(prompt)
        raters.append(str(rater))
        values.append(float(first))
    told = labels_of(items, raters, values, {})
    read = time.process_time()
    fitted = fit_labels(told, model)  # type: ignore[arg-type]
    away = [
        abs(weight - (2 * reliability(int(name)) - 1))
        for name, weight in zip(told.people, fitted.weights.tolist(), strict=True)
    ]
    return {
        "reading": read - begun, "fitting": time.process_time() - read, "error": sum(away) / len(away) / 2,
    }  # fmt: skip


PARTS = ("comparisons", "dawid_skene", "mace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judgments", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", choices=PARTS)
    told = parser.parse_args()
    if told.part is None:
        command = [sys.executable, __file__, "--judgments", str(told.judgments), "--part"]
        found: dict[str, Any] = {
            "raters": RATERS,
            "judgments": told.judgments,
            "machine": machine(),
        }
        for part in PARTS:
            said = subprocess.run([*command, part], check=True, stdout=subprocess.PIPE, text=True)
            found[part] = json.loads(said.stdout)
            print(part, found[part], file=sys.stderr, flush=True)
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        print(text) if told.out is None else told.out.write_text(text, encoding="utf-8")
        return
    part = (
        comparisons(told.judgments)
        if told.part == "comparisons"
        else labels(told.judgments, told.part)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({k: round(v, 3) for k, v in part.items()} | {"peak_mib": round(peak)}))


if __name__ == "__main__":
    main()
