"""Colours of code in responses, by Pygments: spans with a few classes around the very same characters.

Languages that models write, by the names that fences have; of others, and of what is long, the text as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

LONGEST = 20_000  # characters of a block; lexers are slow, and what they read may be hostile
# Kinds of tokens, the special ones first, and the class of each.
CODE = {
    "Comment": "c-comment", "Keyword": "c-keyword", "Literal.String": "c-string", "Literal.Number": "c-number",
    "Name.Function": "c-name", "Name.Class": "c-name", "Name.Tag": "c-keyword", "Name.Builtin": "c-name",
    "Name.Attribute": "c-name", "Name.Decorator": "c-name",
}  # fmt: skip
LANGUAGES = {
    "bash": "bash", "sh": "bash", "shell": "bash", "c": "c", "cpp": "cpp", "c++": "cpp", "csharp": "csharp",
    "cs": "csharp", "css": "css", "diff": "diff", "go": "go", "html": "html", "java": "java",
    "javascript": "javascript", "js": "javascript", "json": "json", "kotlin": "kotlin",
    "php": "php", "python": "python", "py": "python", "r": "r",
    "ruby": "ruby", "rust": "rust", "sql": "sql", "swift": "swift", "toml": "toml", "typescript": "typescript",
    "ts": "typescript", "xml": "xml", "yaml": "yaml", "yml": "yaml",
}  # fmt: skip


def coloured(code: str, language: str, write: Callable[[str], str]) -> str:
    """HTML of a block of code; `write` makes HTML of its characters."""
    name = LANGUAGES.get(language.strip().lower())
    if name is None or len(code) > LONGEST:
        return write(code)
    parts: list[tuple[str | None, str]] = []
    for kind, text in _lexer(name).get_tokens(code):
        known = _class(str(kind).removeprefix("Token."))
        if parts and parts[-1][0] == known:
            parts[-1] = (known, parts[-1][1] + text)
        else:
            parts.append((known, text))
    if "".join(text for _, text in parts) != code:  # a lexer that changes what it reads
        return write(code)
    return "".join(
        write(text) if known is None else f'<span class="{known}">{write(text)}</span>'
        for known, text in parts
    )


def _class(kind: str) -> str | None:
    return next((name for prefix, name in CODE.items() if kind.startswith(prefix)), None)


@cache
def _lexer(name: str) -> Any:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(name, stripnl=False, ensurenl=False)
