"""Tasks of Label Studio → comparisons: `data` and `annotations`, with results that are pairwise, ranker, choices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from heedful.data.columns import column
from heedful.data.fields import (
    Unanswered,
    candidates_of,
    compared,
    field_of,
    plainly,
    prompt_among,
)
from heedful.data.forms import TIES
from heedful.data.reading import Aside
from heedful.errors import UserError
from heedful.types import Comparison

LETTER = re.compile(r"[A-H]|\d|[Ff]irst|[Ss]econd|[Ll]eft|[Rr]ight")  # a small `a` is an article
PLACES = {"first": 0, "left": 0, "a": 0, "1": 0, "second": 1, "right": 1, "b": 1, "2": 1}


def read_label_studio(where: str, row: dict[str, Any]) -> Iterator[Comparison | Unanswered | Aside]:
    data = column(where, row, "data")
    annotations = column(where, row, "annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise UserError(f"{where}: `data` must be an object and `annotations` a list")
    if not annotations:
        yield from _not_yet(where, data)
    for number, given in enumerate(annotations, start=1):
        place = f"{where} annotation {number}"
        if not isinstance(given, dict) or not isinstance(given.get("result"), list):
            raise UserError(f"{place}: `result` must be a list")
        if given.get("was_cancelled"):
            yield Aside("a task was skipped")
            continue
        if not given["result"]:
            yield Aside("an answer chooses nothing: a tie, or a skipped task")
        about = about_of(given)
        for result in given["result"]:
            yield comparison_in(place, data, result, about)


def about_of(given: dict[str, Any]) -> dict[str, Any]:
    """Who annotated, for how long, and when."""
    by = given.get("completed_by")
    by = by.get("id") if isinstance(by, dict) else by  # never the address that stands beside it
    about = {"rater": None if by is None else f"labeller {by}"}
    return about | {"seconds": given.get("lead_time"), "created_at": given.get("created_at")}


def comparison_in(
    where: str, data: dict[str, Any], result: Any, about: dict[str, Any]
) -> Comparison | Aside:
    """What one result of an annotation says of which response is better, or that it says nothing of that."""
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict):
        raise UserError(f"{where}: each `result` needs a `value`")
    if result.get("type") == "pairwise" or value.get("selected") in ("left", "right"):
        return _pairwise(where, data, result, about)
    if "ranker" in value:
        return _ranker(where, data, result, about)
    if isinstance(value.get("choices"), list):
        return _choice(where, data, value["choices"], about)
    return Aside(f"a {result.get('type') or 'result'} compares nothing")


def _not_yet(where: str, data: dict[str, Any]) -> Iterator[Unanswered]:
    prompt, used = prompt_among(where, data)
    texts = {k: v for k, v in data.items() if k != used and isinstance(v, str)}
    shown = tuple(texts[name] for name in candidates_of(texts))
    if len(set(shown)) > 1:
        yield Unanswered(prompt, shown)


def _choice(
    where: str, data: dict[str, Any], choices: list[Any], about: dict[str, Any]
) -> Comparison | Aside:
    """One of several buttons, by the response that it names: `A is better`, `answer2`, `Tie`."""
    prompt, used = prompt_among(where, data)
    texts = {k: v for k, v in data.items() if k != used and isinstance(v, str)}
    texts = {k: texts[k] for k in candidates_of(texts)}
    said = str(choices[0]) if len(choices) == 1 else ""
    if len(texts) != 2 or not said:
        return Aside("a choice names no response")
    words = re.findall(r"\w+", said)
    if plainly(said) in TIES or TIES & {word.lower() for word in words}:
        return compared(where, prompt, texts, dict.fromkeys(texts, 1), **about)
    named = {PLACES.get(word.lower(), -1) for word in words if LETTER.fullmatch(word)}
    best = field_of(said, texts)
    if best is None and len(named) == 1 and min(named) >= 0:
        best = list(texts)[named.pop()]
    if best is None:
        return Aside(f"a choice names no response, {said!r}")
    ranks = {name: 1 if name == best else 2 for name in texts}
    return compared(where, prompt, texts, ranks, **about)


def _pairwise(where: str, data: dict, result: dict, about: dict[str, Any]) -> Comparison:
    prompt, asked = prompt_among(where, data)
    names = [n.strip() for n in str(result.get("to_name", "")).split(",")]
    if len(names) != 2 or not all(isinstance(data.get(n), str) for n in names):
        # Tags may have other names than the columns they show.
        names = [k for k, v in data.items() if k != asked and isinstance(v, str)]
    if len(names) != 2:
        raise UserError(
            f"{where}: `to_name` is {result.get('to_name')!r}, and `data` has not just two other texts"
        )
    selected = result["value"].get("selected")
    if selected not in ("left", "right"):
        raise UserError(f"{where}: `selected` must be left or right, not {selected!r}")
    ranks = dict(zip(names, (1, 2) if selected == "left" else (2, 1), strict=True))
    texts = {name: data[name] for name in names}
    return compared(where, prompt, texts, ranks, order_shown=(0, 1), **about)


def _ranker(where: str, data: dict, result: dict, about: dict[str, Any]) -> Comparison:
    prompt, _ = prompt_among(where, data)
    ranked: Any = result["value"]["ranker"]
    if isinstance(ranked, dict):
        # `_` are the items that were left where they were.
        buckets = {k: v for k, v in ranked.items() if k != "_" and v} or {"_": ranked.get("_")}
        if len(buckets) > 1:
            raise UserError(f"{where}: `ranker` has several buckets, which have no order")
        ranked = next(iter(buckets.values()))
    lists = [v for v in data.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    if not isinstance(ranked, list) or len(lists) != 1:
        raise UserError(f"{where}: `ranker` needs a list of ids, and `data` one list of items")
    texts = {str(i.get("id")): str(i.get("body") or i.get("title") or "") for i in lists[0]}
    if unknown := [i for i in map(str, ranked) if i not in texts]:
        raise UserError(f"{where}: `ranker` names {unknown[0]!r}, which is no id of an item")
    ranks = {str(i): place for place, i in enumerate(ranked, start=1)}
    return compared(where, prompt, texts, ranks, **about)
