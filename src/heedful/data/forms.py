"""The columns that other tools' files have → those that heedful reads: Alpaca, ShareGPT, OpenAI, doccano and their kin.

| form | columns | becomes |
|---|---|---|
| Alpaca, Dolly | instruction, input or context, output; system, history | a user's turn and completion |
| questions | question, query or problem, with response, output, answer or solution | a user's turn and completion |
| ShareGPT | conversations of {from, value}; system, tools; chosen, rejected | messages |
| Capybara | conversation of {input, output} | messages |
| OpenAI's preferences | input, preferred_output, non_preferred_output | prompt, chosen, rejected |
| doccano | text, label (a list of texts) | prompt, completion |
| side by side | response_a, response_b or answer1, answer2, …; winner | responses, ranking |

A column of heedful's own name is taken as it is, whatever stands beside it. `data.published` knows whole sets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from heedful.data.columns import SYSTEM
from heedful.data.published import published

Columns = dict[str, Any]
ASKED = ("instruction", "question", "query", "problem")  # somebody is asked: a user's turn
MAIN = ("conversations", "conversation", *ASKED, "input")  # of what is made into a prompt
ANSWERS = ("response", "output", "solution", "answer")  # beside a solution, an answer is its end
WIDE = re.compile(r"(response|answer|completion|output|generation)s?[ _.-]?([a-h]|\d{1,2})")
WINNERS = ("winner", "preference", "preferred")
TIES = {"tie", "equal", "same", "both", "draw", "neither", "none", "bothgood", "bothbad", "tiebothbad"}  # fmt: skip
KNOWN = {
    "prompt", "completion", "messages", "chosen", "rejected", "responses", "ranking", "label", "text", "question",
    "instruction", "input", "output", "response", "answer", "conversations", "tools", "chat_template_kwargs",
    "system", "history", "strength", "rater", "seconds",
}  # fmt: skip


def standard(row: Mapping[str, Any]) -> Columns:
    """The row in heedful's columns, `prompt` or `messages` and what answers them."""
    return _answered(asked(row), by_question=not row.keys() & {"prompt", "messages"})


def asked(row: Mapping[str, Any]) -> Columns:
    """The row with its prompt as `prompt` or `messages`, and all that answers it as it was."""
    row = published(_stated(_spelt(row)))
    if row.keys() & {"prompt", "messages"} or "conversation_a" in row:
        return row
    if isinstance(row.get("input"), Mapping):
        return _without(row, "input") | {
            name: row["input"][key]
            for key, name in (("messages", "prompt"), ("tools", "tools"))
            if row["input"].get(key)
        }
    turns = next((n for n in ("conversations", "conversation") if isinstance(row.get(n), list)), "")
    if turns:
        name = "prompt" if row.keys() & {"chosen", "rejected"} else "messages"
        return _without(row, turns, *SYSTEM) | {name: [*_system(row), *_in_turn(row[turns])]}
    name = next((n for n in ASKED if n in row), "")
    if not name and "input" in row and row.keys() & {*ANSWERS, "chosen"}:
        name = "input"
    if name:
        return _question(row, name)
    if "text" in row and _texts(row.get("label")):
        return _without(row, "text") | {"prompt": row["text"]}
    return row


def _stated(row: Columns) -> Columns:
    """The row without a null `prompt`, `completion` or `messages` where it says that otherwise, as tables joined from
    several sets have it."""
    given = {name for name, value in row.items() if value is not None}
    said = given & {"messages", "conversations", "instruction"}
    if said or any(isinstance(row.get(n), list) for n in ("chosen", "rejected")):
        return _without(row, *({"prompt", "completion"} - given))
    is_null = "messages" in row and "messages" not in given
    return _without(row, "messages") if is_null and "prompt" in given else row


def in_their_words(said: str, row: Mapping[str, Any]) -> str:
    """What is wrong with a row in heedful's columns, said of the file's own: `conversations`, not `messages`.

    A column that several others were made into, none of which is the main one, keeps heedful's name.
    """
    ours = standard(row)
    left = [n for n, value in row.items() if n not in ours and value is not None]
    made = [n for n in ours if n not in row]
    theirs = {n: old for n in made for old in left if ours[n] is row[old]}
    left = [n for n in left if n not in theirs.values()]
    for name in made:
        main = next((n for n in MAIN if n in left), "") if name in ("prompt", "messages") else ""
        if name not in theirs and (main or len(left) == 1):
            theirs[name] = main or left[0]
    for new, old in theirs.items():
        said = said.replace(f" (did you mean '{new}'?)", "")
        said = said.replace(f"`{new}`", f"`{old}`")
    for columns in (ours, asked(row)):
        said = said.replace(f"found {', '.join(columns)};", f"found {', '.join(row)};")
    return said


def _question(row: Columns, name: str) -> Columns:
    """A question with what belongs to it, as LLaMA-Factory joins them: the input in a line of its own."""
    words, used = row[name], [name, *SYSTEM]
    if not isinstance(words, str):
        return _without(row, name) | {"prompt": words}
    more = next((n for n in ("input", "context") if isinstance(row.get(n), str)), "")
    if name == "instruction" and more:
        used.append(more)
        words = f"{words}\n{row[more]}" if row[more].strip() else words
    if (before := _turns_before(row.get("history"))) is not None:
        used.append("history")
    return _without(row, *used) | {
        "prompt": [*_system(row), *(before or ()), {"role": "user", "content": words}]
    }


def _in_turn(turns: list[Any]) -> list[Any]:
    """Capybara's pairs of what was said and answered as turns; the last may wait for its answer. All else as it is."""
    if not all(isinstance(t, Mapping) and {"input", "output"} <= t.keys() for t in turns):
        return turns
    said = [
        {"role": role, "content": turn[name]}
        for turn in turns
        for role, name in (("user", "input"), ("assistant", "output"))
    ]
    return said[:-1] if said and said[-1]["content"] is None else said


def _turns_before(history: Any) -> list[Any] | None:
    """What was said before a question, in pairs of texts or in messages, which a table keeps as JSON text; None where
    the column is about something else."""
    if isinstance(history, str) and history:
        try:
            history = json.loads(history)
        except (ValueError, RecursionError):
            return None
    if not history:
        return []
    if not isinstance(history, list):
        return None
    if all(isinstance(turn, Mapping) for turn in history):
        return history
    if not all(_texts(pair) and len(pair) == 2 for pair in history):
        return None
    return [
        {"role": role, "content": said}
        for pair in history
        for role, said in zip(("user", "assistant"), pair, strict=True)
    ]


def _system(row: Mapping[str, Any]) -> list[Columns]:
    texts = [row[n] for n in SYSTEM if isinstance(row.get(n), str) and row[n].strip()]
    return [{"role": "system", "content": text} for text in texts[:1]]


def _answered(row: Columns, *, by_question: bool) -> Columns:
    if "preferred_output" in row:
        names = {"preferred_output": "chosen", "non_preferred_output": "rejected"}
        return {names.get(name, name): value for name, value in row.items()}
    if row.keys() & {"completion", "chosen", "rejected", "responses"}:
        return row
    wide = [n for n, v in row.items() if WIDE.fullmatch(n) and isinstance(v, str)]
    if len(wide) > 1:
        named = next((n for n in WINNERS if isinstance(row.get(n), str)), "")
        ranked = _winner(row[named], wide) if named else {}
        used = [*wide, named] if ranked else wide
        return _without(row, *used) | {"responses": [row[n] for n in wide]} | ranked
    # Beside a `prompt`, an `answer` is what a verifier compares with; behind a question it is said.
    name = next(
        (n for n in ANSWERS if n in row and (by_question or n not in ("answer", "solution"))), ""
    )
    if name:
        value = row[name]
        if _texts(value) and len(value) == 2:  # LLaMA-Factory's older pairs, the better one first
            return _without(row, name) | {"chosen": value[0], "rejected": value[1]}
        return _without(row, name) | {"completion": value}
    if by_question and "prompt" in row and _texts(row.get("label")):
        return _without(row, "label") | {"completion": row["label"]}
    return row


def _winner(told: str, names: list[str]) -> Columns:
    """The ranking of two or more responses side by side, where a text names the best."""
    word = re.sub(r"[\W_]+", "", told).lower()
    if word in TIES:
        return {"ranking": [1] * len(names)}
    ends = [re.sub(r"[\W_]+", "", n).lower() for n in names]
    best = [end for end in ends if word and (end == word or end[-1] == word[-1])]
    return {"ranking": [1 if end in best else 2 for end in ends]} if len(best) == 1 else {}


def _spelt(row: Mapping[str, Any]) -> Columns:
    """Names as they are known, where only capitals or spaces differ: ` Prompt`."""
    if row.keys() & {"prompt", "messages", "text"}:
        return dict(row)
    plain = {name: name.strip().lower() for name in row}
    return {
        plain[name] if plain[name] in KNOWN and plain[name] not in row else name: value
        for name, value in row.items()
    }


def _without(row: Mapping[str, Any], *names: str) -> Columns:
    return {name: value for name, value in row.items() if name not in names}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
