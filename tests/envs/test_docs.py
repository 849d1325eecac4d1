"""docs/envs.md is true: its environments do what the page says. (That all its code runs is tests/test_docs.py's.)"""

from __future__ import annotations

import re
from pathlib import Path

import games
from games import USER, Script, play_one

TEXT = (Path(__file__).parents[2] / "docs" / "envs.md").read_text(encoding="utf-8")


def test_the_environments_of_the_page():
    """Mutation caught: an interface that has changed and a page that has not."""
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for block in blocks:
        if "async def guess" in block or "def divide" in block:
            exec(block, names)
    tok = games.tokenizer()
    won = play_one(Script(tok, "one", "9", "7"), names["guess"], USER, tok, {"secret": 7})
    assert (won.score, won.ended) == (1.2, "terminated")
    call = '<tool_call>{"name": "divide", "arguments": {"a": 1, "b": 0}}</tool_call>'
    sums = play_one(
        Script(tok, call, "42"), names["calculator"], USER, tok, {"answer": 42}, max_tokens=200
    )
    assert sums.score == 1.0 and sums.messages[2].content == "Error: b must not be 0"
