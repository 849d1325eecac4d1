"""The columns of each export form and their types; how a prompt's form decides some of them."""

from __future__ import annotations

from typing import Any

SCHEMA = 1  # of the rows; goes up when a column changes its meaning

_PROVENANCE = {"rater": "text", "judgment": "text", "created_at": "text"}
# `form` is the prompts' own: text, messages, or json where a project has both; `reply` of responses likewise.
COLUMNS: dict[str, dict[str, str]] = {
    "comparisons": {
        "prompt": "form", "chosen": "reply", "rejected": "reply", "strength": "number",
        "margin": "number", "seconds": "number", **_PROVENANCE,
    },
    "rankings": {
        "prompt": "form", "responses": "texts", "ranking": "wholes", "strength": "number",
        "order_shown": "wholes", "seconds": "number", "policy_version": "text",
        "outcome": "text", **_PROVENANCE,
    },
    "unpaired": {"prompt": "form", "completion": "reply", "label": "truth", **_PROVENANCE},
    "demonstrations": {"prompt": "form", "completion": "reply", "source": "text", **_PROVENANCE},
    "scores": {
        "prompt": "form", "completion": "reply", "axis": "text", "value": "number", **_PROVENANCE,
    },
    "critiques": {
        "prompt": "form", "completion": "reply", "start": "whole", "end": "whole",
        "critique": "text", **_PROVENANCE,
    },
    "triplets": {
        "prompt": "form", "anchor": "text", "positive": "text", "negative": "text",
        "seconds": "number", **_PROVENANCE,
    },
    "turns": {
        "prompt": "messages", "chosen": "messages", "rejected": "messages", "strength": "number",
        "turn": "whole", **_PROVENANCE,
    },
    "judgments": {
        **_PROVENANCE, "role": "text", "revision": "whole", "supersedes": "text", "outcome": "text",
        "disposition": "text", "strength": "number", "confidence": "number", "text": "text",
        "said": "json", "ranks": "json", "scores": "json", "rules": "json", "critiques": "json",
        "edits": "json", "demonstrations": "texts", "turns": "json", "order_shown": "wholes",
        "active_ms": "whole", "wall_ms": "whole", "client_at": "number", "ui_version": "text",
        "task": "text", "kind": "text", "options": "json", "overlap": "whole",
        "strategy": "text", "score": "number", "propensity": "number", "round": "whole",
        "next_by_chance": "truth", "next_propensity": "number",
        "gold": "truth", "trial": "text", "swap_of": "text", "guidelines": "text", "suggestion": "json",
        "model_critiques": "json", "completions": "json", "blind_broken": "truth",
        "prompt": "form", "prompt_id": "text", "prompt_sha256": "text", "split": "text",
        "source": "text", "licence": "text", "language": "text",
    },
    "prompts": {
        "prompt": "form", "source": "text", "licence": "text", "language": "text",
        "split": "text",
    },
    "samples": {
        "prompt": "form", "completion": "text", "model": "text", "checkpoint": "text",
        "seed": "whole", "stop_reason": "text", "engine": "text", "sampling": "json",
        "tokens": "wholes", "logprobs": "json",
    },
}  # fmt: skip


TEMPLATE = (
    "tools",
    "chat_template_kwargs",
)  # what stands with a prompt's first turn in the database
_IN_TEMPLATE = frozenset(TEMPLATE)


def with_template_columns(row: dict[str, Any]) -> dict[str, Any]:
    """The row with what its prompt tells the chat template in columns of its own, as trainers want it."""
    prompt = row["prompt"]
    if isinstance(prompt, str) or not prompt or _IN_TEMPLATE.isdisjoint(prompt[0]):
        return row
    first = {name: value for name, value in prompt[0].items() if name not in TEMPLATE}
    beside = {name: prompt[0][name] for name in TEMPLATE if name in prompt[0]}
    return {**row, "prompt": [first, *prompt[1:]], **beside}


def form_of(row: dict[str, Any]) -> set[str]:
    """What a row's prompt is: text or messages, mixed where turns have more than a role and a text; and `tools`."""
    if isinstance(row["prompt"], str):
        return {"text"}
    plain = all(turn.keys() <= {"role", "content"} for turn in row["prompt"])
    return {"messages" if plain else "mixed"} | ({"tools"} if row.keys() & set(TEMPLATE) else set())


def columns_of(dataset: str, form: str) -> dict[str, str]:
    """Names and types of the columns; `form` is text, messages or mixed, +tools with those for the chat template."""
    form, _, tools = form.partition("+")
    prompt_type = "json" if form == "mixed" else form
    types = {"form": prompt_type, "reply": prompt_type}
    columns = {
        name: types.get(column_type, column_type) for name, column_type in COLUMNS[dataset].items()
    }
    return columns | (dict.fromkeys(TEMPLATE, "json") if tools else {})
