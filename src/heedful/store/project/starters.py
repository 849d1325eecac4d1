"""Lists of questions that a new project may begin with, as well-known studies asked them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Questions = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Starter:
    """What it asks, and whose idea it was."""

    title: str
    source: str
    questions: Questions


def _rate(name: str, low: int, high: int, *, worst: str = "", best: str = "") -> dict[str, Any]:
    return {"name": name, "low": low, "high": high, "step": 1, "low_label": worst, "high_label": best}  # fmt: skip


def _pair(name: str, title: str, help: str = "", *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "kind": "pair", "title": title, "help": help, "required": required}


STARTERS: dict[str, Starter] = {
    "instructgpt": Starter(
        "InstructGPT-like: a ranking, a rating of each, flags",
        "Ouyang et al. 2022, arXiv:2203.02155, appendix B and table 3",
        (
            {
                "name": "overall", "kind": "rank", "title": "Rank the responses, best first",
                "help": "Equal numbers are ties.",
            },
            {
                "name": "quality", "kind": "rate", "title": "How good is each, overall?",
                "options": {"axes": [_rate("overall quality", 1, 7, worst="worst", best="best")]},
            },
            {
                "name": "flags", "kind": "rules", "title": "Does each …", "required": False,
                "options": {"rules": [
                    {"code": "follows", "text": "follow the instruction, and do the right task?"},
                    {"code": "appropriate", "text": "suit an assistant who serves customers?"},
                    {"code": "truthful", "text": "stay free of made-up facts?"},
                    {"code": "constraints", "text": "keep every constraint of the instruction?"},
                    {"code": "harmless", "text": "stay free of harmful advice, violence and hatred?"},
                ]},
            },
        ),
    ),
    "helpsteer": Starter(
        "HelpSteer-like: five ratings",
        "Wang et al. 2023, arXiv:2311.09528, section 3",
        (
            {
                "name": "attributes", "kind": "rate", "title": "Rate each response from 0 to 4",
                "options": {"axes": [
                    _rate("helpfulness", 0, 4, worst="not helpful", best="as good as can be"),
                    _rate("correctness", 0, 4, worst="all wrong", best="complete, no error"),
                    _rate("coherence", 0, 4, worst="cannot be followed", best="perfectly clear"),
                    _rate("complexity", 0, 4, worst="anybody could write it", best="takes an expert"),
                    _rate("verbosity", 0, 4, worst="short", best="much detail"),
                ]},
            },
        ),
    ),
    "webgpt": Starter(
        "WebGPT-like: pairs and a reason",
        "Nakano et al. 2021, arXiv:2112.09332, appendix C",
        (
            _pair("overall", "Which answer is more useful, all things considered?"),
            _pair("support", "Which has the better support for its claims?", required=False),
            _pair("coherence", "Which is more coherent?", required=False),
            {
                "name": "reason", "kind": "note", "title": "Why?", "required": False,
                "help": "A sentence or two that would convince somebody who disagrees.",
            },
        ),
    ),
    "axes": Starter(
        "A pair with axes, rules, a reason and a critique",
        "the kinds that most studies combine",
        (
            _pair("overall", "Which is better?"),
            {
                "name": "axes", "kind": "rate", "title": "How good is each?",
                "options": {"axes": [_rate("helpful", 1, 5), _rate("truthful", 1, 5)]},
            },
            {
                "name": "rules", "kind": "rules", "title": "Does each keep the rules?", "required": False,
                "options": {"rules": [{"code": "polite", "text": "It is polite."}]},
            },
            {"name": "reason", "kind": "note", "title": "Why?", "required": False},
            {"name": "critique", "kind": "critique", "title": "What is wrong, and where?", "required": False},
        ),
    ),
}  # fmt: skip
