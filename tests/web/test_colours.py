"""Colours of code: the same characters, a few classes, nothing else."""

from __future__ import annotations

import html
import re

import pytest

from heedful.web.colours import CODE, LANGUAGES, LONGEST, coloured
from heedful.web.render import to_html

HOSTILE = 'def f(x):\n\t"""<script>alert(1)</script>"""  # \u202e &amp;\n\n\nreturn x + 1.5\r\n\x00'


@pytest.mark.parametrize("language", sorted(set(LANGUAGES.values())))
def test_no_character_is_lost(language: str):
    """Mutation caught: a lexer that strips empty lines at the ends, or adds one."""
    for code in (HOSTILE, "", "\n\n x \n\n", "'unclosed", "\ud83d"):
        told = coloured(code, language, html.escape)
        assert html.unescape(re.sub(r'<span class="[\w-]+">|</span>', "", told)) == code


def test_code_has_colours():
    """Only in languages that are known, and in blocks that are short; all classes pass the allow-list.

    Mutation caught: a class that nh3 takes away, so that nothing is coloured."""
    page = to_html("```python\ndef f():\n    return 'x' + 1  # <b>\n```")
    for name in ("c-keyword", "c-name", "c-string", "c-number", "c-comment"):
        assert f'<span class="{name}">' in page
    assert "&lt;b&gt;" in page
    assert set(re.findall(r'class="(c-[\w-]+)"', page)) <= set(CODE.values())
    assert "<span" not in to_html("```klingon\ndef f(): 1\n```")
    assert "<span" not in coloured("1 " * LONGEST, "python", str)
    assert '<span class="bidi">RLO</span>' in to_html("```python\n# a\u202eb\n```")
