"""What a critic is asked, and how its critique stands beside the response: the same words in demonstrations for
`train sft`, in questions for `train grpo`, when it is asked, and before a judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedful.data.columns import column, prompt_text, string
from heedful.errors import UserError
from heedful.types import Message, Prompt

QUESTION = """Here are a prompt and a response to it. In one to three sentences, say what is wrong with the response or missing from it, or that nothing is.

Prompt:
{prompt}

Response:
{response}

Critique:"""  # noqa: E501


def asked(prompt: Prompt, response: str) -> str:
    """The question to a critic as text; braces in prompt and response stay what they are."""
    before, _, after = QUESTION.partition("{prompt}")
    return before + prompt_text(prompt) + after.replace("{response}", response)


def question(prompt: Prompt, response: str) -> Prompt:
    """The question to a critic: a user's turn where the prompt is a conversation, else text that goes on."""
    text = asked(prompt, response)
    return text if isinstance(prompt, str) else (Message("user", text),)


def said_of(prompt: Prompt, critique: str) -> str:
    """A critique as the completion of its question."""
    return f" {critique.strip()}" if isinstance(prompt, str) else critique.strip()


def shown(response: str, critique: str) -> str:
    """A response as a judge sees it who reads what a critic says of it; one who says nothing changes nothing."""
    critique = critique.strip()
    return f"{response}\n\nA critic says of this response: {critique}" if critique else response


def critique_in(where: str, row: Mapping[str, Any], response: str) -> str:
    """The remark of a row, which quotes the passage from `start` to `end` of the response where it is about one."""
    text = string(where, row, "critique").strip()
    if not text:
        raise UserError(f"{where}: `critique` is empty")
    start, end = row.get("start"), row.get("end")
    if start is None or end is None:
        return text
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(response):
        raise UserError(
            f"{where}: `start` and `end` must be whole numbers, 0 ≤ start < end ≤ {len(response)}"
        )
    return f"“{response[start:end]}”: {text}"


def criticised(where: str, row: Mapping[str, Any]) -> tuple[int, list[str], list[int]]:
    """Of a critic's question in a file: which response it is about, all responses, and their places (1 is best)."""
    index, answers, places = (
        column(where, row, name) for name in ("criticised", "answers", "places")
    )
    texts = isinstance(answers, list) and all(isinstance(a, str) for a in answers)
    ranks = isinstance(places, list) and all(type(p) is int for p in places)
    if not (texts and ranks and len(answers) == len(places)) or index not in range(len(answers)):
        raise UserError(
            f"{where}: `answers` must be texts, `places` a whole number for each, and `criticised` one of them; "
            "`heedful critique --data COMPARISONS --out FILE` writes such rows"
        )
    return index, answers, places
