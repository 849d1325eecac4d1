"""Well-known sets of preferences as they were published → heedful's columns. Those of conversations are in `chats`.

- UltraFeedback: `instruction`, `completions` of {response, annotations or overall_score}; ranked by the mean rating.
- Nectar: `prompt`, `answers` of {answer, rank}.
- Stanford Human Preferences: `history`, `human_ref_A`, `human_ref_B`, `labels` (1: A).
- HelpSteer2 and 3: `prompt` or `context`, two responses; `preference_strength` or `overall_preference` from −3 (the
  first is much better) to 3, of which the size is the strength.
- PKU-SafeRLHF: `prompt`, `response_0`, `response_1`, `better_response_id`, the more helpful; the safer one is in
  `safer_response_id`, which `--columns better_response_id=safer_response_id` asks for.
- WebGPT: `question` of {full_text}, `answer_0`, `answer_1`, `score_0`, `score_1`.
- Stack Exchange: `question`, `answers` of {text, pm_score}, levels of votes; and any rows of `prompt`, `responses` and
  their `votes`, of which these levels are made: round(log₂(1 + votes)), −1 below 0 (Askell et al. 2021, §4.1).
- Summaries from feedback: `info` of {title, post or article}, `summaries` of {text}, `choice`; a text that ends with
  TL;DR: is the prompt.
- TL;DR: `post`, `summary`, perhaps `title`; the prompt as above, the summary as its completion.
- RewardBench: `prompt`, `chosen`, `rejected`, `chosen_model`, `rejected_model`; RewardBench 2: `chosen` and `rejected`
  are lists of texts, each of the first better than each of the others.
- verl's prompts: `prompt`, `reward_model` of {ground_truth}, the right answer where it is a text or a number.
- Chatbot Arena in lists: `prompt`, `response_a`, `response_b` of a text a turn; `winner_model_a`, `winner_model_b`,
  `winner_tie`.

What a row of one of them does not say (no rating, no winner) is left as it is, and whoever reads it says what is
missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from heedful.data.chats import guanaco, xlam

Columns = dict[str, Any]
SCALE = ("preference_strength", "overall_preference")  # of HelpSteer2 and HelpSteer3
MOST = 3  # the ends of that scale
PAIRS = (("response_1", "response_2"), ("response1", "response2"))


def published(row: Columns) -> Columns:
    """The row of a known set in columns that `data.forms` knows; any other as it is."""
    convert = _converter(tuple(row))
    return convert(row) or row if convert else row


@lru_cache
def _converter(names: tuple[str, ...]) -> Callable[[Columns], Columns | None] | None:
    """Of the set that has these columns; most rows of a file have the same."""
    return next((convert for wanted, convert in SETS if wanted <= set(names)), None)


def _ultrafeedback(row: Columns) -> Columns | None:
    answers = row["completions"]
    if not _records(answers, "response"):
        return None
    ranks = _ranks([_rating(a) for a in answers])
    said = {"responses": [a["response"] for a in answers], **ranks}
    return _without(row, "completions") | said


def _rating(answer: Mapping[str, Any]) -> float | None:
    """The mean of the aspects, which the set's own `overall_score` is known to contradict at times."""
    aspects = answer.get("annotations")
    rated = aspects.values() if isinstance(aspects, Mapping) else ()
    told = (_number(a.get("Rating")) for a in rated if isinstance(a, Mapping))
    numbers = [n for n in told if n is not None]
    if numbers:
        return sum(numbers) / len(numbers)
    return _number(answer.get("overall_score"))


def _nectar(row: Columns) -> Columns | None:
    answers = row["answers"]
    if not _records(answers, "answer"):
        return None
    ranks = [_number(a.get("rank")) for a in answers]
    said = {"responses": [a["answer"] for a in answers]}
    return _without(row, "answers") | said | _ranks([None if r is None else -r for r in ranks])


def _shp(row: Columns) -> Columns | None:
    first = _number(row["labels"])
    if first not in (0, 1):
        return None
    ranking = [1, 2] if first else [2, 1]
    rest = _without(row, "history", "human_ref_A", "human_ref_B", "labels")
    return rest | _asked(row["history"]) | {
        "responses": [row["human_ref_A"], row["human_ref_B"]],
        "ranking": ranking,
    }  # fmt: skip


def _helpsteer(row: Columns) -> Columns | None:
    scale = next(name for name in SCALE if name in row)
    said = _number(row[scale])
    pair = next((p for p in PAIRS if row.keys() >= {*p}), None)
    if said is None or abs(said) > MOST or pair is None:
        return None
    ranking = [1, 1] if said == 0 else [1, 2] if said < 0 else [2, 1]
    found = _without(row, scale, *pair) | {"responses": [row[n] for n in pair], "ranking": ranking}
    if said:
        found.setdefault("strength", abs(said) / MOST)
    if isinstance(row.get("context"), list) and "prompt" not in row:
        found = _without(found, "context") | {"prompt": row["context"]}
    elif isinstance(row.get("prompt"), str):
        found |= _asked(row["prompt"])
    return found


def _safe_rlhf(row: Columns) -> Columns | None:
    better = _number(row["better_response_id"])
    if better not in (0, 1) or not isinstance(row["prompt"], str):
        return None
    rest = _without(row, "prompt", "response_0", "response_1", "better_response_id")
    return rest | _asked(row["prompt"]) | {
        "responses": [row["response_0"], row["response_1"]],
        "ranking": [2, 1] if better else [1, 2],
    }  # fmt: skip


def _webgpt(row: Columns) -> Columns | None:
    asked, scores = row["question"], [_number(row[f"score_{k}"]) for k in (0, 1)]
    if not isinstance(asked, Mapping) or None in scores:
        return None
    names = ("question", "answer_0", "answer_1", "score_0", "score_1")
    said = {"responses": [row["answer_0"], row["answer_1"]]}
    return _without(row, *names) | _asked(asked.get("full_text")) | said | _ranks(scores)


def _stack_exchange(row: Columns) -> Columns | None:
    answers = row["answers"]
    if not _records(answers, "text") or not isinstance(row["question"], str):
        return None
    levels = [_number(a.get("pm_score")) for a in answers]
    rest = _without(row, "question", "answers") | _asked(row["question"])
    return _by_level(rest, [a["text"] for a in answers], levels)


def _votes(row: Columns) -> Columns | None:
    texts, votes = row["responses"], row["votes"]
    if not (_all_texts(texts) and isinstance(votes, list) and len(votes) == len(texts)):
        return None
    levels: list[float | None] = []
    for vote in map(_number, votes):
        if vote is None:
            return None
        levels.append(-1.0 if vote < 0 else float(round(math.log2(1 + vote))))
    return _by_level(_without(row, "responses", "votes"), texts, levels)


def _by_level(
    rest: Columns, texts: Sequence[str], levels: Sequence[float | None]
) -> Columns | None:
    """One response of each level, the first: what has as many votes was not found to be as good."""
    first: dict[float, str] = {}
    for text, level in zip(texts, levels, strict=True):
        if level is None:
            return None
        first.setdefault(level, text)
    if len(first) < 2:
        return None
    ranked = [first[level] for level in sorted(first, reverse=True)]
    return rest | {"responses": ranked, "ranking": [*range(1, len(ranked) + 1)]}


def _summaries(row: Columns) -> Columns | None:
    info, summaries, choice = row["info"], row["summaries"], _number(row["choice"])
    if not isinstance(info, Mapping) or not _records(summaries, "text"):
        return None
    if choice is None or choice not in range(len(summaries)):
        return None
    rest = _without(row, "info", "summaries", "choice", "worker")
    who = {"rater": row["worker"]} if isinstance(row.get("worker"), str) else {}
    return rest | who | {
        "prompt": _to_be_summarised(info),
        "responses": [s["text"] for s in summaries],
        "ranking": [1 if k == choice else 2 for k in range(len(summaries))],
    }  # fmt: skip


def _tldr(row: Columns) -> Columns | None:
    post, summary = row["post"], row["summary"]
    if not isinstance(post, str) or not isinstance(summary, str) or "prompt" in row:
        return None
    return _without(row, "title", "post", "summary") | {
        "prompt": _to_be_summarised(row),
        "completion": f" {summary.strip()}",
    }


def _to_be_summarised(row: Mapping[str, Any]) -> str:
    lines = [
        f"{name.upper()}: {row[name]}" for name in ("title", "post", "article") if row.get(name)
    ]
    return "\n".join([*lines, "TL;DR:"])


def _verl(row: Columns) -> Columns | None:
    right = (
        row["reward_model"].get("ground_truth")
        if isinstance(row["reward_model"], Mapping)
        else None
    )
    if "answer" in row or isinstance(right, bool) or not isinstance(right, str | int | float):
        return None
    return row | {"answer": str(right)}


def _arena(row: Columns) -> Columns | None:
    turns = [_texts(row[name]) for name in ("prompt", "response_a", "response_b")]
    won = [_number(row[f"winner_{side}"]) for side in ("model_a", "model_b", "tie")]
    if None in turns or won.count(1) != 1:
        return None
    asked, ours, theirs = turns
    rest = _without(
        row, "prompt", "response_a", "response_b", *(n for n in row if n.startswith("winner_"))
    )
    return rest | {
        "conversation_a": _conversation(asked or [], ours or []),
        "conversation_b": _conversation(asked or [], theirs or []),
        "winner": ("model_a", "model_b", "tie")[won.index(1)],
    }  # fmt: skip


def _reward_bench(row: Columns) -> Columns | None:
    """A text prompt is a user's turn there; of other files that have these columns nothing is known."""
    better, worse = row["chosen"], row["rejected"]
    said = _asked(row["prompt"]) if isinstance(row["prompt"], str) else {}
    if isinstance(better, str) and isinstance(worse, str):
        return row | said if {"chosen_model", "rejected_model"} <= row.keys() else None
    if not (_all_texts(better) and _all_texts(worse)):
        return None
    ranking = [1] * len(better) + [2] * len(worse)
    return _without(row, "chosen", "rejected") | said | {
        "responses": [*better, *worse],
        "ranking": ranking,
    }  # fmt: skip


SETS: tuple[tuple[set[str], Callable[[Columns], Columns | None]], ...] = (
    ({"instruction", "completions"}, _ultrafeedback),
    ({"prompt", "answers"}, _nectar),
    ({"prompt", "reward_model"}, _verl),
    ({"question", "answers"}, _stack_exchange),
    ({"prompt", "responses", "votes"}, _votes),
    ({"history", "human_ref_A", "human_ref_B", "labels"}, _shp),
    ({"preference_strength"}, _helpsteer),
    ({"overall_preference"}, _helpsteer),
    ({"prompt", "response_0", "response_1", "better_response_id"}, _safe_rlhf),
    ({"question", "answer_0", "answer_1", "score_0", "score_1"}, _webgpt),
    ({"info", "summaries", "choice"}, _summaries),
    ({"post", "summary"}, _tldr),
    (
        {"prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"},
        _arena,
    ),
    ({"prompt", "chosen", "rejected"}, _reward_bench),
    ({"query", "tools", "answers"}, xlam),
    ({"text"}, guanaco),
)


def _ranks(scores: Sequence[float | None]) -> Columns:
    """The ranking of the scores, the highest first; nothing where one is missing, as nobody knows its place."""
    known = [s for s in scores if s is not None]
    if len(known) < len(scores):
        return {}
    levels = sorted(set(known), reverse=True)
    return {"ranking": [levels.index(s) + 1 for s in known]}


def _number(value: Any) -> float | None:
    """A finite number, that may be written as text: as these sets have it."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _records(value: Any, name: str) -> bool:
    several = isinstance(value, list) and len(value) > 1
    return several and all(isinstance(v, Mapping) and name in v for v in value)


def _texts(value: Any) -> list[str] | None:
    """A list of texts, which a CSV file has as one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if _all_texts(value) else None


def _all_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _conversation(asked: Sequence[str], said: Sequence[str]) -> list[Columns]:
    turns: list[Columns] = []
    for question, answer in zip(asked, said, strict=False):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _asked(text: Any) -> Columns:
    return {"prompt": [{"role": "user", "content": text}]}


def _without(row: Columns, *names: str) -> Columns:
    return {name: value for name, value in row.items() if name not in names}
