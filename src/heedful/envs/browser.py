"""A text browser over a `Library`, as one episode of `browse` has it; see docs/browse.md.

Each command is a method that returns what is shown, and raises `ToolError` for what cannot be done. A line of a page
is shown behind `| `, so that no page can speak as the browser does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from heedful.envs.library import Library
from heedful.envs.tools import ToolError

COMMANDS = ("search", "open", "scroll", "find", "quote", "back", "end")
HELP = (
    "One command a turn: search WORDS, open NUMBER, scroll down, scroll up, find WORDS, quote WORDS OF THE PAGE, back, "
    "end. After end, answer and cite quotes as [1]."
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is shown: `results` of a search with so many characters of each, `window` characters of a page at a
    time; and how much may be taken: `pages` opened, `characters` of pages seen, `quotes` of at most so many
    characters."""

    results: int = 5
    snippet: int = 80
    window: int = 600
    pages: int = 20
    characters: int = 20_000
    quotes: int = 4
    quote_characters: int = 300


@dataclass(frozen=True, slots=True)
class Quote:
    """A literal span of a page, its white space as single spaces."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """The results of a search, or the part of a page that begins at a character."""

    results: tuple[int, ...] = ()
    page: int | None = None
    part: int = 0


class Browser:
    """See the head of this file. `quotes` are what has been taken."""

    def __init__(self, library: Library, size: Size):
        self.quotes: list[Quote] = []
        self.ended = False
        self._library, self._size = library, size
        self._views: list[View] = []
        self._opened = self._seen = 0

    def obey(self, line: str) -> str:
        """A command as text: its name, and behind it what it is about."""
        name, _, about = line.strip().partition(" ")
        name, about = name.lower().rstrip(":"), about.strip()
        if name not in COMMANDS or "\n" in about:
            raise ToolError(f"'{line.strip()[:40]}' is no command. {HELP}")
        if name in ("back", "end"):
            return getattr(self, name)()
        if not about:
            raise ToolError(f"{name} needs something behind it. {HELP}")
        if name == "open":
            if not re.fullmatch(r"\d{1,4}", about):
                raise ToolError("open needs the number of a result")
            return self.open(int(about))
        return getattr(self, name)(about)

    def search(self, query: str) -> str:
        """Searches all pages; shows numbered results.

        Args:
            query: words to look for
        """
        self._going_on()
        ranked = self._library.search(query[:200], self._size.results)
        if not ranked:
            return "No results."
        self._views.append(View(results=tuple(number for number, _ in ranked)))
        return self._show()

    def open(self, number: int) -> str:
        """Opens a result of the last search.

        Args:
            number: the result's number
        """
        self._going_on()
        results = next((v.results for v in reversed(self._views) if v.results), ())
        if not 1 <= number <= len(results):
            raise ToolError(f"there is no result {number}" if results else "search first")
        if self._opened >= self._size.pages:
            raise ToolError(f"{self._opened} pages have been opened, which is the most; end")
        self._opened += 1
        return self._turn_to(View(page=results[number - 1]))

    def scroll(self, direction: str) -> str:
        """Shows the next or the previous part of the page.

        Args:
            direction: down or up
        """
        view, parts = self._page()
        step = {"down": 1, "up": -1}.get(direction.lower())
        if step is None:
            raise ToolError("scroll down, or scroll up")
        if not 0 <= view.part + step < len(parts):
            raise ToolError(f"this is the {'last' if step > 0 else 'first'} part of the page")
        return self._turn_to(replace(view, part=view.part + step), instead=True)

    def find(self, words: str) -> str:
        """Shows the next part of the page that has these words, from the current one on, then from the first.

        Args:
            words: what to look for, upper and lower case alike
        """
        view, parts = self._page()
        matches = list(_spans(words, re.IGNORECASE).finditer(self._text(view)))
        if not matches:
            raise ToolError("these words are not on the page")
        starts = [sum(map(len, parts[:i])) for i in range(len(parts) + 1)]
        places = [sum(start <= m.start() for start in starts) - 1 for m in matches]
        nearest = next((part for part in places if part > view.part), places[0])
        return self._turn_to(replace(view, part=nearest), instead=True)

    def quote(self, text: str) -> str:
        """Takes a quote from the page, word by word as it stands there.

        Args:
            text: words of the page
        """
        view, _ = self._page()
        if len(self.quotes) >= self._size.quotes:
            raise ToolError(f"there are {len(self.quotes)} quotes, which is the most; end")
        if len(text) > self._size.quote_characters:
            raise ToolError(f"a quote has {self._size.quote_characters} characters at most")
        match = _spans(text, whole=True).search(self._text(view))
        if match is None:
            raise ToolError("these words do not stand on the page so")
        words = " ".join(match[0].split())
        self.quotes.append(Quote(self._library.pages[view.page or 0].title, words))
        return f"Quote [{len(self.quotes)}] taken."

    def back(self) -> str:
        """Goes back to what was shown before this page or these results."""
        self._going_on()
        if len(self._views) < 2:
            raise ToolError("there is nothing to go back to")
        self._views.pop()
        return self._show()

    def end(self) -> str:
        """Ends browsing; shows the quotes, for the answer to cite as [1]."""
        self._going_on()
        self.ended = True
        taken = [f"[{i}] {q.title}: {q.text}" for i, q in enumerate(self.quotes, 1)]
        return "\n".join([*taken, "Answer."])

    def _going_on(self) -> None:
        if self.ended:
            raise ToolError("browsing has ended; answer")

    def _page(self) -> tuple[View, list[str]]:
        self._going_on()
        if not self._views or self._views[-1].page is None:
            raise ToolError("open a page first")
        return self._views[-1], self._parts(self._views[-1])

    def _text(self, view: View) -> str:
        return self._library.pages[view.page or 0].text

    def _parts(self, view: View) -> list[str]:
        """The page in parts of at most `window` characters, between words where it can be."""
        most, parts = self._size.window, [""]
        for piece in re.findall(rf"\S{{1,{most}}}\s*", self._text(view)):
            if parts[-1] and len((parts[-1] + piece).rstrip()) > most:
                parts.append("")
            parts[-1] += piece
        return parts

    def _turn_to(self, view: View, *, instead: bool = False) -> str:
        """Show another view; `instead` of this one, where `back` shall not lead to it."""
        length = len(self._parts(view)[view.part])
        if self._seen + length > self._size.characters:
            raise ToolError(f"{self._seen} characters have been read, and no more can be; end")
        self._seen += length
        self._views[-1:] = [view] if instead else [*self._views[-1:], view]
        return self._show()

    def _show(self) -> str:
        view = self._views[-1]
        if view.page is None:
            pages = [self._library.pages[number] for number in view.results]
            return "\n".join(
                f"{i}. {self._summary(p.title, p.text)}" for i, p in enumerate(pages, 1)
            )
        parts = self._parts(view)
        title = self._library.pages[view.page].title
        head = title if len(parts) == 1 else f"{title}, part {view.part + 1} of {len(parts)}"
        return "\n".join([head, *(f"| {line}" for line in parts[view.part].rstrip().split("\n"))])

    def _summary(self, title: str, text: str) -> str:
        start = " ".join(text[: 4 * self._size.snippet].split())[: self._size.snippet]
        return f"{title} | {start}" if start else title


def _spans(words: str, flags: int = 0, *, whole: bool = False) -> re.Pattern[str]:
    """These words in a row, whatever white space is between them; `whole`: not within longer ones."""
    parts = r"\s+".join(re.escape(word) for word in words.split())
    if not parts:
        raise ToolError("no words")
    return re.compile(rf"(?<!\w){parts}(?!\w)" if whole else parts, flags)
