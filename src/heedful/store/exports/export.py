"""Export forms: one function each, from a judgment to its rows, or to the reason why it has none.

| what | rows |
|---|---|
| comparisons | prompt, chosen, rejected (TRL's preference form): every pair that a judgment tells apart |
| rankings | prompt, responses, ranking: heedful's own form, with ties |
| unpaired | prompt, completion, label (TRL's unpaired form): thumbs, and rules that are all kept or not |
| demonstrations | prompt, completion: written, edited or imported |
| scores, critiques | one row a value, of a rule 1 where it is kept and 0, one a remark |
| triplets | anchor, positive, negative: which of two responses is closer to a third |
| turns | prompt so far, chosen, rejected: the replies of conversations |
| judgments | everything that is known about each judgment |
| prompts, samples | what is to be answered, and what models answered |

Where the prompt is a conversation, the responses are messages too, as TRL wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import combinations
from typing import Any

from heedful.store.kinds import exports_of
from heedful.store.project import screens
from heedful.store.project.blind import names_itself
from heedful.store.project.records import JudgmentRecord, Row
from heedful.types import places, without_gaps

Rows = list[dict[str, Any]]


def comparisons(j: JudgmentRecord) -> Rows | str:
    ranks = _ranked(j)
    if isinstance(ranks, str):
        return ranks
    if j.said.outcome in ("tie", "both_bad"):
        return "tie" if j.said.outcome == "tie" else "both bad"
    prompt, strength = j.prompt.content, j.said.strength if len(ranks) == 2 else None
    common = {"strength": strength, "seconds": _seconds(j), **_provenance(j)}
    replies = [in_form(prompt, j.texts[c].text) for c in ranks]
    return [
        {"prompt": prompt, "chosen": replies[better], "rejected": replies[worse], **common}
        for better, worse in _told_apart(tuple(ranks.values()))
    ] or "tie"


@lru_cache
def _told_apart(ranks: tuple[int | None, ...]) -> list[tuple[int, int]]:
    """The places of the better and the worse of each pair that ranks tell apart; of a million answers few differ."""
    each = combinations(enumerate(places(ranks)), 2)
    return [(a, b) for (a, one), (b, other) in each if one < other]


def rankings(j: JudgmentRecord) -> Rows | str:
    ranks = _ranked(j)
    if isinstance(ranks, str):
        return ranks
    # In the task's own order: with the best first, a trainer that looks at the place would look clever.
    place = {c: i for i, c in enumerate(j.task.completions)}
    keys = sorted(ranks, key=lambda c: place.get(c, len(place)))
    shown = [j.task.completions[i] for i in j.order_shown]
    order = [keys.index(c) for c in shown if c in ranks]
    origins = {j.texts[c].model or j.texts[c].checkpoint for c in keys}
    return [
        {
            "prompt": j.prompt.content,
            "responses": [j.texts[c].text for c in keys],
            "ranking": [ranks[c] for c in keys],
            "strength": j.said.strength,
            "order_shown": order if len(order) == len(keys) else None,
            "seconds": _seconds(j),
            "policy_version": origins.pop() if len(origins) == 1 else None,
            "outcome": j.said.outcome,
            **_provenance(j),
        }
    ]


def unpaired(j: JudgmentRecord) -> Rows | str:
    labels: dict[str, list[bool]] = {}
    for row in j.scores:
        if row.axis == "thumb":
            labels.setdefault(row.completion, []).extend([row.value > 0] if row.value else [])
    if j.turns and j.rules:
        return [
            {"prompt": prompt, "completion": completion, "label": row.verdict} | _provenance(j)
            for prompt, completion, row in _by_rule(j)
            if completion[0]["content"].strip()
        ] or "an empty response"
    for row in j.rules:
        labels.setdefault(row.completion, []).append(row.verdict)
    if not labels:
        return _unsure(j)
    return [
        {"prompt": j.prompt.content, "completion": reply(j, c), "label": all(v)} | _provenance(j)
        for c, v in labels.items()
        if v and j.texts[c].text.strip()
    ] or "neither good nor bad"


def scores(j: JudgmentRecord) -> Rows | str:
    if "triplets" in exports_of(j.kind):  # what is closer is no better
        return "another kind of answer"
    said = [(j.prompt.content, reply(j, r.completion), r.axis, r.value) for r in j.scores]
    said += [(*of, row.rule, float(row.verdict)) for *of, row in _by_rule(j)]
    return [
        {"prompt": prompt, "completion": completion}
        | {"axis": axis, "value": value, **_of_question(j), **_provenance(j)}
        for prompt, completion, axis, value in said
    ] or _unsure(j)


def critiques(j: JudgmentRecord) -> Rows | str:
    return [
        {"prompt": j.prompt.content, "completion": reply(j, r.completion)}
        | {"start": r.start, "end": r.end, "critique": r.text, **_of_question(j), **_provenance(j)}
        for r in j.critiques
    ] or ("no remark" if "critiques" in exports_of(j.kind) else "another kind of answer")


def triplets(j: JudgmentRecord) -> Rows | str:
    if "triplets" not in exports_of(j.kind):
        return "another kind of answer"
    if j.said.outcome == "tie":
        return "tie"
    negative, positive = sorted((r.value, r.completion) for r in j.scores)
    keys = (j.task.completions[0], positive[1], negative[1])
    anchor, near, far = (j.texts[c].text for c in keys)
    if not (anchor.strip() and near.strip() and far.strip()):
        return "an empty response"
    if near == far:
        return "the same text twice"
    row = {"prompt": j.prompt.content, "anchor": anchor, "positive": near, "negative": far}
    return [row | {"seconds": _seconds(j), **_provenance(j)}]


def turns(j: JudgmentRecord) -> Rows | str:
    if not j.turns or "turns" not in exports_of(j.kind):
        return "another kind of answer"
    rows: Rows = []
    for number, (messages, turn) in enumerate(_conversation(j)):
        replies = [c["text"] for c in turn.candidates]
        chosen = replies[turn.chosen]
        for rejected in replies[: turn.chosen] + replies[turn.chosen + 1 :]:
            if rejected != chosen and rejected.strip() and chosen.strip():
                rows.append(
                    {
                        "prompt": messages,
                        "chosen": _message(chosen),
                        "rejected": _message(rejected),
                        "strength": turn.turn_strength,
                        "turn": number,
                        **_provenance(j),
                    }
                )
    if rows:
        return rows
    has_empty = any(not c["text"].strip() for turn in j.turns for c in turn.candidates)
    return "an empty response" if has_empty else "the same text twice"


def _conversation(j: JudgmentRecord) -> Iterator[tuple[list[dict[str, str]], Row]]:
    """Each turn behind all that was said before it, the user's last words among it."""
    messages = opening(j.prompt.content)
    for turn in j.turns:
        messages = [*messages, {"role": "user", "content": turn.said}]
        yield messages, turn
        messages = [*messages, *_message(turn.candidates[turn.chosen]["text"])]


def _by_rule(j: JudgmentRecord) -> Iterator[tuple[Any, Any, Row]]:
    """Each verdict with the prompt and the response that it is of: in a conversation, whose turn is its place, a reply
    behind what was said before it."""
    if not j.turns:
        yield from ((j.prompt.content, reply(j, row.completion), row) for row in j.rules)
        return
    turns = [*_conversation(j)]
    for row in j.rules:
        messages, turn = turns[row.place]
        yield messages, _message(turn.candidates[turn.chosen]["text"]), row


def _unsure(j: JudgmentRecord) -> str:
    """Why nothing is said of any response."""
    return "unsure" if j.turns and "scores" in exports_of(j.kind) else "another kind of answer"


def judgments(j: JudgmentRecord) -> Rows:
    """The whole provenance in one row; also what webhooks send."""
    judgment, task = j.judgment, j.task
    beside = ("question",) if j.answers else ()
    return [
        {
            **_provenance(j),
            "role": j.rater.role,
            "ranks": _parts(j.ranked, "completion", "rank", *beside),
            "scores": _parts(j.scores, "completion", "axis", "value", *beside),
            "rules": _parts(j.rules, "completion", "rule", "verdict", *beside),
            "critiques": _parts(j.critiques, "completion", "start", "end", "text", *beside),
            "edits": _parts(j.edits, "completion", "edited", *beside),
            "demonstrations": [row.text for row in j.demonstrations],
            "turns": _parts(j.turns, "said", "candidates", "order_shown", "chosen"),
            "order_shown": j.order_shown,
            **_part(judgment, "revision", "supersedes", "outcome", "disposition", "strength"),
            **_part(judgment, "confidence", "text", "said", "active_ms", "wall_ms", "client_at"),
            "ui_version": judgment.ui_version,
            "task": task.id,
            **_part(task, "kind", "options", "overlap", "strategy", "score", "propensity"),
            "round": task.round,
            "next_by_chance": j.drawn and j.drawn.by_chance,
            "next_propensity": j.drawn and j.drawn.propensity,
            "gold": task.is_gold,
            "trial": j.trial,
            "swap_of": task.swap_of,
            "guidelines": j.guidelines,
            "suggestion": j.suggestion
            and _part(j.suggestion, "source", "version", "ranks", "shown"),
            "model_critiques": j.offered
            and _part(j.offered, "source", "offered")
            | {"asked": _parts(j.asked, "completion", "version", "text", "created_at")},
            "completions": [completion(row) for row in j.texts.values()],
            "blind_broken": any(names_itself(row.text, row.model) for row in j.texts.values()),
            "prompt": j.prompt.content,
            "prompt_id": j.prompt.id,
            "prompt_sha256": j.prompt.sha256,
            **_part(j.prompt, "split", "source", "licence", "language"),
            **_screen(j),
        }
    ]


def _screen(j: JudgmentRecord) -> dict[str, Any]:
    """What was answered to each question of a screen, in the columns `NAME.field` of `screens.columns`."""
    if not j.answers:
        return {}
    values: dict[str, Any] = {}
    asked = {q.name: q for q in screens.questions_of(j.task.kind, j.task.options)}

    def in_order(of: dict[str, Any]) -> list[Any]:
        return [of.get(c) for c in j.task.completions]

    for one in j.by_question():
        fields: dict[str, Any] = {
            "outcome": one.said.outcome,
            "ranking": in_order(one.ranks),
            "strength": one.said.strength,
            "critiques": _parts(one.critiques, "completion", "start", "end", "text"),
            "demonstration": one.demonstrations[0].text if one.demonstrations else None,
            "text": one.said.text,
            "confidence": one.said.confidence,
        }
        for mark in screens.marks(asked[one.question]):
            on_axis = {r.completion: r.value for r in one.scores if r.axis == mark}
            by_rule = {r.completion: r.verdict for r in one.rules if r.rule == mark}
            fields[mark] = in_order(on_axis | by_rule)
        for column in screens.columns([asked[one.question]]):
            values[column] = fields[column.partition(".")[2]]
    return values


FROM_JUDGMENTS: dict[str, Callable[[JudgmentRecord], Rows | str]] = {
    f.__name__: f
    for f in (comparisons, rankings, unpaired, scores, critiques, triplets, turns, judgments)
}
TRAINING = (
    "comparisons", "rankings", "unpaired", "demonstrations", "scores", "critiques", "triplets", "turns",
)  # fmt: skip


def demonstration(content: Any, row: Row, j: JudgmentRecord | None) -> dict[str, Any]:
    """A response to imitate: imported, or written in a judgment."""
    example = {"prompt": content, "completion": in_form(content, row.text), "source": row.source}
    return example | (_provenance(j) if j else {})


def play(row: Row, j: JudgmentRecord) -> Rows:
    """What somebody said in an environment: each turn as a demonstration behind all that came before it."""
    played = j.turns[-1].candidates[0]["play"]
    messages = [{k: v for k, v in m.items() if k != "weight"} for m in played["messages"]]
    if messages and played["tools"]:
        messages[0] = {**messages[0], "tools": played["tools"]}
    return [
        {"prompt": messages[:i], "completion": [m], "source": row.source, **_provenance(j)}
        for i, m in enumerate(messages)
        if m["role"] == "assistant" and played["messages"][i].get("weight") != 0
    ]


def sample(content: Any, row: Row) -> dict[str, Any]:
    """A response as `heedful sample` writes it."""
    return {
        "prompt": content,
        "completion": row.text,
        "stop_reason": row.finish_reason,
        "tokens": row.token_ids,
        **_part(row, "model", "checkpoint", "seed", "engine", "sampling", "logprobs"),
    }


def completion(row: Row) -> dict[str, Any]:
    """A response and where it is from, without its tokens."""
    names = ("id", "sha256", "text", "model", "checkpoint", "author", "sampling", "seed")
    return _part(row, *names, "finish_reason", "engine")


def reply(j: JudgmentRecord, key: str) -> str | list[dict[str, str]]:
    """The text of a completion, in the prompt's form."""
    return in_form(j.prompt.content, j.texts[key].text)


def in_form(content: str | list[dict[str, str]], text: str) -> str | list[dict[str, str]]:
    return text if isinstance(content, str) else _message(text)


def opening(content: str | list[dict[str, str]]) -> list[dict[str, str]]:
    """What a conversation begins with: the messages of its prompt; a text says who the models are to be."""
    if isinstance(content, str):
        return [{"role": "system", "content": content}] if content.strip() else []
    return content


def iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="microseconds")


def _ranked(j: JudgmentRecord) -> dict[str, int | None] | str:
    """Ranks without gaps by completion, the best first, at last None for those in no order (`types.Comparison`).

    Nothing can be learned from empty texts and repetitions.
    """
    if not j.ranked:
        return "another kind of answer"
    ranks: dict[str, int | None] = {**j.ranks}
    if j.kind == "rank":
        ranks |= {c: None for c in j.task.completions if c not in ranks}
    nonempty = [(c, text) for c in ranks if (text := j.texts[c].text).strip()]
    by_text: dict[str, str] = {}
    for c, text in nonempty:
        by_text.setdefault(text, c)
    if len(by_text) < 2:
        return "the same text twice" if len(nonempty) > 1 else "an empty response"
    distinct = [ranks[c] for c in by_text.values()]
    if not any(distinct):
        return "an empty response"
    return dict(zip(by_text.values(), _without_gaps(tuple(distinct)), strict=True))


_without_gaps = lru_cache(without_gaps)


def _provenance(j: JudgmentRecord) -> dict[str, Any]:
    return {
        "rater": j.rater.pseudonym,
        "judgment": j.judgment.id,
        "created_at": iso(j.judgment.created_at),
    }


def _of_question(j: JudgmentRecord) -> dict[str, str]:
    return {"question": j.question} if j.question else {}


def _seconds(j: JudgmentRecord) -> float | None:
    return None if j.judgment.active_ms is None else j.judgment.active_ms / 1000


def _message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _part(row: Row, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _parts(rows: Sequence[Row], *names: str) -> Rows:
    return [_part(row, *names) for row in rows]
