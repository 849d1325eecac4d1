"""What annotation tools' records have in common: named texts, of which one is the prompt and others were compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heedful.data.columns import prompt_from, prompt_to_json
from heedful.data.comparisons import comparison_of
from heedful.errors import UserError
from heedful.types import Comparison, Message, Prompt

PROMPTS = ("prompt", "instruction", "question", "query", "input", "text")


@dataclass(frozen=True)
class Unanswered:
    """A question with responses that nobody has compared yet."""

    prompt: Prompt
    responses: tuple[str, ...]


def prompt_among(where: str, fields: Mapping[str, Any]) -> tuple[Prompt, str]:
    """The prompt, and the name of its field; a question or an instruction is a user's turn."""
    for name in PROMPTS:
        if name in fields:
            prompt = prompt_from(where, name, fields[name])
            if isinstance(prompt, str) and name in ("instruction", "question", "query"):
                prompt = (Message("user", prompt),)
            return prompt, name
    raise UserError(
        f"{where}: expected a field {', '.join(f'`{p}`' for p in PROMPTS)}, found "
        f"{', '.join(fields) or 'none'}"
    )


def compared(
    where: str, prompt: Prompt, texts: Mapping[str, str], ranks: Mapping[str, int], **about: Any
) -> Comparison:
    """The ranked fields, in the order in which they stand in the record."""
    names = [name for name in texts if name in ranks]
    row = {"prompt": None, "responses": [texts[n] for n in names]}
    row |= {"ranking": [ranks[n] for n in names], **about}
    row["order_shown"] = list(about["order_shown"]) if "order_shown" in about else None
    row["prompt"] = prompt_to_json(prompt)
    return comparison_of(where, row)


def plainly(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def name_of(user: Any) -> str | None:
    return None if user in (None, "", "None") else str(user)


def field_of(name: Any, texts: dict[str, str]) -> str | None:
    """The field that a label means: `Response 1` is `response-1`; a bare number or letter is an ending."""
    wanted = plainly(str(name))
    exact = [k for k in texts if plainly(k) == wanted]
    endings = [k for k in texts if len(wanted) == 1 and plainly(k).endswith(wanted)]
    matches = exact or endings
    return matches[0] if len(matches) == 1 else None


def candidates_of(texts: Mapping[str, str]) -> list[str]:
    """The fields that look like responses by their names."""
    return [k for k in texts if re.search(r"\d$|[_\-. ][a-bA-B]$|chosen|rejected", k)]
