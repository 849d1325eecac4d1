"""Markdown of models and people → harmless HTML.

Texts of models are untrusted: raw HTML is shown as text, images and remote content are not loaded, links send no
referrer, and the rest goes through an allow-list, which has the last word: nothing is changed behind it. The stored
text never changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markupsafe import escape
from mdit_py_plugins.dollarmath import dollarmath_plugin

from heedful.web.colours import CODE, coloured

TAGS = {
    "a", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
    "li", "ol", "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    "code": {"class"},
    "span": {"class", "data-tex", "data-display", "title"},
    "td": {"align"},
    "th": {"align"},
}
CLASSES = {"span": {"math", "bidi", "image", *CODE.values()}}
SCHEMES = {"http", "https", "mailto"}
BIDI = {
    "\u200e": "LRM", "\u200f": "RLM", "\u061c": "ALM", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
    "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI",
}  # fmt: skip
BIDI_CHARACTER = re.compile(f"[{''.join(BIDI)}]")
LANGUAGE = re.compile(r"^language-[\w+#.-]{1,40}$")
CONTENTS = {
    "text": "{}",
    "code_inline": "<code>{}</code>",
    "code_block": "<pre><code>{}</code></pre>\n",
}
LONGEST = 100_000  # characters; more is shown as plain text, Markdown of that size is an attack on the parser
LONGEST_MATH = 5_000  # characters of one formula in \\( … \\), or between \\begin and \\end
ENVIRONMENT = re.compile(
    r"\\begin\{((?:align|aligned|alignat|equation|gather|gathered|multline|cases|split|[bpvBV]?matrix)\*?)\}"
)


def turn_text(turn: Mapping[str, Any]) -> str:
    """What people see of a turn: its words, and the tools that it calls."""
    if not turn.get("tool_calls"):
        return turn["content"]
    calls = (call.get("function", call) for call in turn["tool_calls"])
    blocks = (f"```json\n{json.dumps(call, ensure_ascii=False)}\n```" for call in calls)
    return "\n\n".join((turn["content"], *blocks)).strip("\n")


def to_html(text: str) -> str:
    """Safe HTML of a text in Markdown; math is left in `data-tex` for KaTeX, control characters are made visible."""
    visible = text.replace("\x00", "␀").encode("utf-8", "replace").decode("utf-8")
    long = len(text) > LONGEST
    return nh3.clean(
        f"<p>{_text(visible)}</p>" if long else _markdown().render(visible),
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
    )


def plain(text: str) -> str:
    """Safe HTML of a text that is shown as it is, line by line."""
    visible = text.replace("\x00", "␀").encode("utf-8", "replace").decode("utf-8")
    return f'<pre class="plain">{_text(visible)}</pre>'


def _attribute(tag: str, name: str, value: str) -> str | None:
    if tag == "code" and name == "class":
        return value if LANGUAGE.match(value) else None
    if tag == "span" and name == "class":
        return value if value in CLASSES["span"] else None
    if BIDI_CHARACTER.search(value):
        # Out of an address nothing is taken: what is left might be another scheme than the one that was allowed.
        return None if name == "href" else BIDI_CHARACTER.sub("", value)
    return value


def _text(words: str) -> str:
    """HTML of plain text; invisible characters that turn text round become small labels."""
    return BIDI_CHARACTER.sub(
        lambda found: f'<span class="bidi">{BIDI[found[0]]}</span>', str(escape(words))
    )


@cache
def _markdown() -> MarkdownIt:
    options = {
        "html": False,
        "linkify": False,
        "maxNesting": 20,
        "highlight": lambda code, language, _: coloured(code, language, _text),
    }
    parser = MarkdownIt("commonmark", options)
    parser.enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)
    parser.inline.ruler.before("escape", "bracket_math", _bracket_math)
    parser.inline.ruler.before("escape", "environment_math", _environment_math)
    for kind, display in (("math_inline", ""), ("math_inline_double", "1"), ("math_block", "1")):
        parser.add_render_rule(kind, _math(display))
    parser.add_render_rule("math_block_label", _math("1"))
    parser.add_render_rule("image", _image)
    for cell in ("td_open", "th_open"):
        parser.add_render_rule(cell, _cell)
    for kind, around in CONTENTS.items():
        parser.add_render_rule(kind, _content(around))
    return parser


def _bracket_math(state: Any, silent: bool) -> bool:
    r"""\( … \) and \[ … \], as models write them."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in ("\\(", "\\["):
        return False
    closing = "\\)" if opening == "\\(" else "\\]"
    end = state.src.find(closing, state.pos + 2, min(state.posMax, state.pos + LONGEST_MATH))
    if end < 0:
        return False
    if not silent:
        token = state.push("math_inline" if opening == "\\(" else "math_inline_double", "math", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _environment_math(state: Any, silent: bool) -> bool:
    r"""\begin{align} … \end{align} and its like without dollars around them, as models write them."""
    found = ENVIRONMENT.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    closing = f"\\end{{{found[1]}}}"
    end = state.src.find(closing, found.end(), min(state.posMax, state.pos + LONGEST_MATH))
    if end < 0:
        return False
    if not silent:
        token = state.push("math_inline_double", "math", 0)
        token.content = state.src[state.pos : end + len(closing)]
    state.pos = end + len(closing)
    return True


def _cell(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """A cell's alignment as an attribute, which the allow-list passes; styles it does not."""
    side = str(tokens[index].attrs.pop("style", "")).removeprefix("text-align:")
    if side in ("left", "right", "center"):
        tokens[index].attrSet("align", side)
    return self.renderToken(tokens, index, options, env)


def _content(around: str) -> Any:
    def render(_self: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
        return around.format(_text(tokens[index].content))

    return render


def _math(display: str) -> Any:
    def render(_self: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
        tex = tokens[index].content.strip()
        data = f'data-tex="{escape(tex)}" data-display="{display}"'
        return f'<span class="math" {data}>{_text(tex)}</span>'

    return render


def _image(_self: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
    """Images are not loaded: their server would learn that they are viewed. Their text is shown."""
    token = tokens[index]
    words, address = token.content or "image", str(token.attrGet("src") or "")
    return f'<span class="image">{_text(words)} ({_text(address)})</span>'
