"""What models write becomes HTML that can do nothing but be read."""

from __future__ import annotations

import gc
import re
import time
from html.parser import HTMLParser
from typing import Any

import nh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.web.render import ATTRIBUTES, BIDI, LONGEST, TAGS, to_html

VOID = {"br", "hr"}
EVERY_ATTRIBUTE = {
    tag: ATTRIBUTES.get(tag, set()) | ({"target", "rel"} if tag == "a" else set()) for tag in TAGS
}


class Reader(HTMLParser):
    """Elements as a browser would find them, and how deep the markup is open at its end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing of its own")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.faults.append("a comment")

    def handle_decl(self, decl: str) -> None:
        self.faults.append("a declaration")

    def handle_pi(self, data: str) -> None:
        self.faults.append("a processing instruction")


def scheme(address: str) -> str | None:
    """As browsers see it: they skip controls before it and line breaks within it."""
    seen = re.sub("[\t\r\n]", "", address).lstrip("".join(map(chr, range(33))))
    found = re.match("([a-z][a-z0-9+.-]*):", seen, re.IGNORECASE)
    return found and found[1].lower()


def read(text: str) -> Reader:
    """The HTML of a text; whatever it is, it must be harmless."""
    reader = Reader()
    markup = to_html(text)
    reader.feed(markup)
    reader.close()
    assert reader.faults == [] and reader.open == [], markup
    for tag, attributes in reader.found:
        assert tag in TAGS, markup
        assert set(attributes) <= EVERY_ATTRIBUTE[tag], markup
        if "href" in attributes:
            assert scheme(attributes["href"] or "") in (None, "http", "https", "mailto"), markup
            assert attributes["rel"] == "noopener noreferrer nofollow", markup
            assert attributes["target"] == "_blank", markup
    assert "\x00" not in markup
    assert not any(c in markup for c in BIDI)
    markup.encode("utf-8")
    return reader


PIECES = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<style>*{}</style>",
    "<iframe src=//e.org></iframe>", "</div></body>", "<!--", "-->", "<![CDATA[", "<?php", "<math><mtext>",
    "[a](javascript:alert(1))", "[a](JaVaScRiPt&colon;alert(1))", "[a](data:text/html,x)", "![a](http://e.org/x.png)",
    "[a](vbscript:x 'y\" onclick=\"z')", "<javascript:alert(1)>", "<https://e.org/\"onmouseover=\"x>", "[a]: data:x",
    "```", "```html\" onclick=\"x", "~~~", "    ", "\n", "\n\n", "- ", "> ", "1. ", "|a|b|\n|-|-|\n", "***",
    "`", "``",
    "$", "$$", "$x\" onclick=\"y$", "\\(", "\\)", "\\[", "\\]", "\\(<script>\\)", "&lt;script&gt;", "&#0;", "&",
    "\x00", "\ud800", "\u202e", "\u2066", "[\u202e](http://e.org/\u202e)", "<a href='x' onclick='y'>", "\"", "'",
)  # fmt: skip


ATTEMPTS = (
    # Titles: out of the attribute, by quotes, by what ends a tag, by characters that are labelled elsewhere.
    '[x](http://e.org "a\\" onclick=\\"y")', "[x](http://e.org 'a\" onclick=\"y')",
    '[x](http://e.org "> \u202e<b onclick=y>")',
    '[x](http://e.org "a > \u202e autofocus onfocus=y b")', '[x](http://e.org "&gt;&#x202e;&quot; onclick=y")',
    '[x][1]\n\n[1]: http://e.org "\u2066> onclick=y"', '[x](http://e.org "</a><script>y</script>\u202e")',
    # Addresses: schemes in pieces, with characters in between that are taken out somewhere.
    "[x](java\u202escript:y)", "[x](java&#x202e;script:y)", "[x](\u2066javascript:y)", "[x](javascript\u200e:y)",
    "[x](&#x6a;&#x61;vascript&#58;y)", "[x](\\javascript:y)", "[x](//e.org/\u202e)", "[x](data&colon;text/html,<b>)",
    "[x](JAVASCRIPT\t:y)", "[x](http://e.org/\"onclick=\"y)", "[x](http://e.org/'onclick='y)",
    "[x](<http://e.org/> onclick=y>)",
    "[a](http://e.org)[b](javascript:y)", "[[x](javascript:y)](http://e.org)", "[![x](javascript:y)](javascript:y)",
    # Autolinks.
    "<javascript:y>", "<javascript&colon;y>", "<data:text/html,x>", "<http://e.org/\u202e>",
    '<http://e.org/" onclick="y>',
    "<mailto:a@e.org?body=<script>>", "<a@e.org\u202e>", "<vbscript:y>",
    # Images are words.
    '![x" onerror="y](z)', '![x](y" onerror="z)', '![x](http://e.org/x.png "t\" onload=\"y")',
    "![<img src=x>](y)", "![\u202e](\u202e)",
    # Mathematics goes into an attribute and is text.
    '$" onclick="y$', "$</span><script>y</script>$", '\\(\\href{javascript:y}{x}\\)',
    '$$"><img src=x onerror=y>$$', "\\[\u202e\"\\]",
    "$$\na\n$$ (\"onclick=y)", "$\u2066$", '\\(data-tex="x" onclick="y"\\)',
    # HTML in HTML, and what changes its meaning when it is read again.
    "<svg><style><img src=x onerror=y></style></svg>", "<math><mi><mglyph><style><!--</style><img title='--&gt;'>",
    "<noscript><p title='</noscript><img src=x onerror=y>'>", "<form><math><mtext></form><form><mglyph><svg>",
    "<table><td><svg><desc><table>", "<<script>script>y<</script>/script>", "<scr\x00ipt>y</scr\x00ipt>",
    "<a href='x'><a href='y'>", "<p\u202e onclick=y>", "</p><p onclick=y>", "<!--><img src=x onerror=y>-->",
    "<![CDATA[<b>]]>",
    # Code, and the names of its languages.
    '```x" onclick="y\nz\n```', "```\u202e\nz\n```", "~~~&quot;&gt;<b>\nz\n~~~", "`</code><script>y</script>`",
    "    <b onclick=y>\u202e",
    "```math\" class=\"bidi\nz\n```",
    # Tables and lists.
    "|<b>|\n|:-:|\n|`<script>`|", "|a|\n|-|\n|\u202e\" onclick=y|", "1\u202e. x", "<ol start='1' onclick=y>",
    "99999999999. x",
)  # fmt: skip


@pytest.mark.parametrize("text", ATTEMPTS)
def test_no_attempt_gets_through(text: str):
    """Whatever comes out is read as a browser reads it; what was tried stands there as words."""
    for around in ("{}", "> - {}\n\nafter", "**{}**", "a\u202e{}\u2066b"):
        found = read(around.format(text) if "{" not in text else around.replace("{}", text))
        for _, attributes in found.found:
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            assert attributes.get("class", "") in ("", "math", "bidi", "image") or "code" in dict(
                found.found
            )


def test_nothing_changes_the_html_after_it_was_cleaned(monkeypatch: pytest.MonkeyPatch):
    """Mutation caught: labels, or anything else, put in behind nh3, whose output depends on its version."""
    clean, cleaned = nh3.clean, []

    def watched(markup: str, **options: Any) -> str:
        cleaned.append(clean(markup, **options))
        return cleaned[-1]

    monkeypatch.setattr(nh3, "clean", watched)
    for text in (*ATTEMPTS, "\u202e" * 200_000):
        assert to_html(text) == cleaned[-1]


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12)), max_size=25).map("".join))
def test_any_text_is_harmless(text: str):
    """Attacks cut into pieces and put together by chance: only allowed tags, whole, and no bare control."""
    read(text)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.text(st.characters(categories=("Cs", "Cc", "Cf", "Lo", "Sm", "Po"))))
def test_any_character_is_harmless(text: str):
    """Lone surrogates, controls and formats of Unicode are no error."""
    read(text)


@pytest.mark.parametrize(
    "text, words",
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a <b onclick=x>b</b>", "a <b onclick=x>b</b>"),
        ("<iframe src='//e.org'></iframe>", "<iframe src='//e.org'></iframe>"),
        ("<style>body{}</style>", "<style>body{}</style>"),
        ("<!-- hidden -->", "<!-- hidden -->"),
    ],
)
def test_raw_html_is_shown_as_text(text: str, words: str):
    """A rater reads exactly what the model wrote."""
    found = read(text)
    assert found.text.strip() == words
    assert {tag for tag, _ in found.found} == {"p"}


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "JAVASCRIPT:alert(1)", "java\tscript:alert(1)", "javascript&colon;alert(1)",
        "&#106;avascript:x",
        "data:text/html;base64,eA==", "vbscript:x", "file:///etc/passwd", "blob:x", "\x01javascript:x", "about:blank",
    ],
)  # fmt: skip
def test_links_lead_to_the_web_only(address: str):
    """No address that runs or reads something; where a link is refused its words stay."""
    for text in (f"[word]({address})", f"[word](<{address}>)", f"[word][1]\n\n[1]: {address}"):
        found = read(text)
        links = [attributes["href"] for _, attributes in found.found if "href" in attributes]
        assert all(scheme(link or "") is None for link in links), to_html(text)
        assert "word" in found.text


def test_good_links_stay():
    """They open elsewhere, and do not say where they came from."""
    ((_, link),) = [f for f in read("[a](https://e.org/x?y=1#z)").found if f[0] == "a"]
    assert link["href"] == "https://e.org/x?y=1#z"
    assert [t for t, _ in read("<mailto:a@e.org>").found] == ["p", "a"]


def test_images_are_words():
    """Nothing is fetched; the address can be read."""
    found = read('![a cat](http://e.org/cat.png "t") ![](data:image/svg+xml,x)')
    assert "img" not in {tag for tag, _ in found.found}
    assert "a cat (http://e.org/cat.png)" in found.text


@pytest.mark.parametrize(
    "text",
    ["```\ncode", "~~~py\ncode", "`code", "> > - code", "<div><b>code", "<!-- code", "**code"],
)
def test_what_is_not_closed_ends_with_the_text(text: str):
    """An unclosed fence or tag cannot swallow the page around it."""
    assert "code" in read(text).text


def test_the_language_of_code_is_a_class():
    """And nothing else can come in with it."""
    assert read("```python\nx\n```").found[-1] == ("code", {"class": "language-python"})
    assert read('```py"onclick=x class=math\nx\n```').found[-1][1].get("class") is None


def test_characters_that_turn_text_round_are_labels():
    """In text they are named, in addresses they are gone."""
    for character, name in BIDI.items():
        assert f'<span class="bidi">{name}</span>' in to_html(f"a{character}b")
        ((_, link),) = [f for f in read(f"[x](http://e.org/{character}b)").found if f[0] == "a"]
        assert "span" not in (link["href"] or "")
    assert "RLO" in read("```\na\u202eb\n```").text


def test_nul_and_halves_of_characters():
    """Shown as something, never as themselves."""
    assert read("a\x00b").text.strip() == "a␀b"
    assert read("a\ud800b").text.strip() == "a?b"


@pytest.mark.parametrize(
    "text, tex, display",
    [
        ("$x < y$", "x < y", ""),
        ("\\(a_1\\)", "a_1", ""),
        ("\\[\\frac{1}{2}\\]", "\\frac{1}{2}", "1"),
        ("$$\nx^2\n$$", "x^2", "1"),
        ("$$x^2$$", "x^2", "1"),
        ('$" onclick="x$', '" onclick="x', ""),
        (
            "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}",
            "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}",
            "1",
        ),
    ],
)
def test_math_is_left_for_katex(text: str, tex: str, display: str):
    """The formula is in an attribute, escaped, and as text for those without scripts."""
    (spans,) = [a for t, a in read(text).found if t == "span"]
    assert spans == {"class": "math", "data-tex": tex, "data-display": display}


def test_columns_of_tables_keep_their_side():
    """Mutation caught: the alignment lost with the style that carries it; any other style let through."""
    cells = [a for t, a in read("|a|b|c|\n|:--|:-:|--:|\n|1|2|3|").found if t in ("td", "th")]
    assert [c.get("align") for c in cells] == ["left", "center", "right"] * 2
    assert all(c.keys() <= {"align"} for c in cells)


def test_prices_are_no_math():
    """Two prices in a sentence are not a formula."""
    assert "span" not in {t for t, _ in read("It costs $5 or $10 there.").found}


def timed(text: str) -> tuple[str, float]:
    """The HTML of a text, and the processor's seconds that it took, but for collections of what other tests left."""
    gc.disable()
    try:
        began = time.process_time()
        markup = to_html(text)
        return markup, time.process_time() - began
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000, "<" * 50_000, "*a **a " * 14_000, "`" * 99_999, "> " * 40_000, "$" * 99_999, "\\(" * 50_000,
        "\\begin{align}" * 7_000,
        "![" * 30_000, "a\n" * 50_000, "- " * 40_000, "|a" * 40_000 + "\n" + "|-" * 40_000,
        "x" * 3_000_000, "\u202e" * 99_999,
    ],
    ids=lambda text: repr(text[:4]),
)  # fmt: skip
def test_long_texts_are_fast(text: str):
    """No text is an attack on the parser; more than the limit is shown as it is."""
    markup, took = timed(text)
    if took > 1:  # a slow machine, or more than linear: half of it takes a half, or a quarter
        took = min(
            took, timed(text)[1]
        )  # a garbage collection, or a processor that was slow for a second
        assert took < 3 * timed(text[: len(text) // 2])[1] + 0.5
    if len(text) > LONGEST:
        assert markup == f"<p>{text}</p>"
