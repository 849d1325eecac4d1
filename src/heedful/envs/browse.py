"""`browse`: questions that are answered from pages, with quotes (WebGPT: Nakano et al. 2021, arXiv:2112.09332)."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from heedful.envs.browser import COMMANDS, HELP, Browser, Quote, Size
from heedful.envs.chat import Chat, Env
from heedful.envs.library import Library, page, read_folder
from heedful.envs.openings import with_first
from heedful.envs.plain import Speaker
from heedful.envs.specs import Environment, Player, Split
from heedful.envs.tools import WRONG, ToolError, answer_calls, schema
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Facts, Message, Task
from heedful.worlds.encyclopedia import QUESTIONS, World, encyclopedia

CITATION = re.compile(r"\[(\d{1,3})\]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
Values = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Of an answer: `right` says the answer of the task and no other of its kind; `supported`: it cites, only quotes
    that there are, and one of these has the task's answer (and is of its page, where the task names it)."""

    right: bool
    supported: bool
    citations: int


def judged(
    said: str, facts: Facts, quotes: Sequence[Quote], values: Values | None = None
) -> Judged:
    """`facts` have `answer`, a text or several of which one is enough; perhaps `page`, and a `kind`, of which `values`
    has all there are. Without these no other number may be in an answer that is one."""
    answers = _texts(facts.get("answer"))
    cited = [int(number) for number in CITATION.findall(said)]
    words = _words(CITATION.sub(" ", said))
    right = any(_words(a) in words for a in answers)
    if right and values and (kind := facts.get("kind")) in values:
        right = not any(_words(v) in words for v in values[str(kind)] - set(answers))
    elif right and all(NUMBER.fullmatch(a) for a in answers):
        right = set(NUMBER.findall(words)) <= set(answers)
    known = bool(cited) and all(1 <= number <= len(quotes) for number in cited)
    supports = (
        any(_words(a) in _words(quote.text) for a in answers)
        and facts.get("page", quote.title) == quote.title
        for quote in (quotes[number - 1] for number in cited)
    ) if known else ()  # fmt: skip
    return Judged(right, any(supports), len(cited))


@register("environment", "browse", help="questions that are answered from pages, with quotes",
          source="Nakano et al. 2021, arXiv:2112.09332")  # fmt: skip
def browse(
    *,
    folder: str = "",
    world: int = 0,
    people: int = 300,
    towns: int = 60,
    questions: str = "birthplace,birthday,job,teacher,river,founded,mayor",
    commands: Literal["text", "tools"] = "text",
    help: bool = True,
    tool: bool = True,
    results: int = 5,
    snippet: int = 80,
    window: int = 600,
    pages: int = 20,
    characters: int = 20000,
    quotes: int = 4,
    quote_characters: int = 300,
) -> Env:
    """Over the text and Markdown files of a `folder`, with questions of yours, or over the encyclopedia of the seed
    `world`, with its own: `questions` are names of `worlds.encyclopedia.QUESTIONS`. `commands=tools` offers functions
    by the chat template; `help=false` does not say which commands there are, `tool=false` takes the pages away. The
    others are how much is shown, and how much may be taken (`browser.Size`)."""
    size = Size(results, snippet, window, pages, characters, quotes, quote_characters)
    if min(results, window, pages, characters, quotes, quote_characters) < 1 or snippet < 0:
        raise UserError("browse: its limits are at least 1, snippet at least 0")
    if commands not in ("text", "tools"):
        raise UserError(f"browse: commands are text or tools, not '{commands}'")
    if people < 2 or towns < 2:
        raise UserError("browse: there are at least 2 people and 2 towns")
    made = None if folder else encyclopedia(world, people=people, towns=towns)
    asked = [name.strip() for name in questions.split(",")]
    if unknown := [name for name in asked if name not in QUESTIONS]:
        raise UserError(
            f"browse: there is no question '{unknown[0]}'; there are {', '.join(QUESTIONS)}"
        )
    values = made.values if made else None
    if not tool:
        return _environment(functools.partial(_from_memory, values), made, asked, {})
    library = Library(_pages(made) if made else read_folder(Path(folder)))
    players = {
        name: functools.partial(_player, library, size, commands, clumsy)
        for name, clumsy in {"expert": 0.0, "clumsy": 0.2}.items()
        if made
    }
    if commands == "tools":
        schemas = [schema(getattr(Browser(library, size), name)) for name in COMMANDS]
        play: Env = functools.partial(_with_tools, library, size, values, schemas)
    else:
        play = functools.partial(_with_text, library, size, values, help)
    return _environment(play, made, asked, players)


def _environment(
    play: Env, made: World | None, asked: Sequence[str], players: Mapping[str, Player]
) -> Environment:
    async def browse(task: Task, chat: Chat) -> None:
        await play(task, chat)

    def tasks(split: Split, seed: int) -> list[dict[str, Any]] | None:
        if made is None:
            return None
        rows = [
            {"prompt": [{"role": "user", "content": q.text}], "about": q.about, "answer": q.answer,
             "kind": q.kind, "page": q.steps[-1].page, "steps": [[s.page, s.sentence] for s in q.steps]}
            for q in made.questions(asked) if q.split == split
        ]  # fmt: skip
        random.Random(f"browse/{split}/{seed}").shuffle(rows)
        return rows

    return Environment(browse, tasks, "browse", players)


async def _from_memory(values: Values | None, task: Task, chat: Chat) -> None:
    said = (await chat.say()).text
    if "answer" in task.facts:
        right = judged(said, task.facts, (), values).right
        chat.reward(float(right), "right")
        chat.count("right", right)


async def _with_text(
    library: Library, size: Size, values: Values | None, help: bool, task: Task, chat: Chat
) -> None:
    browser = Browser(library, size)
    chat.show("")
    if help:
        chat.begin(with_first(task.prompt, HELP))
    while not browser.ended:
        line = (await chat.say()).text
        chat.count("calls", 1)
        try:
            told = browser.obey(line)
        except ToolError as error:
            told = f"{WRONG}{error}"
            chat.count("wrong_calls", 1)
        chat.hear("user", told)
    _score(chat, task.facts, browser, (await chat.say()).text, values)


async def _with_tools(
    library: Library, size: Size, values: Values | None, schemas: list[dict[str, Any]], task: Task,
    chat: Chat,
) -> None:  # fmt: skip
    browser = Browser(library, size)
    chat.show("")
    toolbox = {name: _in_order(getattr(browser, name)) for name in COMMANDS}
    chat.offer(schemas)
    reply = await chat.say()
    while reply.calls:
        await answer_calls(chat, reply.calls, toolbox, schemas)
        reply = await chat.say()
    _score(chat, task.facts, browser, reply.text, values)


def _in_order(command: Callable[..., str]) -> Callable[..., Awaitable[str]]:
    """A command as a coroutine that never waits: several calls of a turn are obeyed one after the other."""

    @functools.wraps(command)
    async def obeyed(**arguments: Any) -> str:
        return command(**arguments)

    return obeyed


def with_quotes(said: str, quotes: Sequence[Quote]) -> str:
    """An answer and, below it, the quotes that it cites: what raters see."""
    cited = dict.fromkeys(int(number) for number in CITATION.findall(said))
    known = [n for n in cited if 1 <= n <= len(quotes)]
    shown = [f"[{n}] {quotes[n - 1].title}: {quotes[n - 1].text}" for n in known]
    return "\n\n".join([said.strip(), *shown])


def _score(chat: Chat, facts: Facts, browser: Browser, said: str, values: Values | None) -> None:
    """Half for an answer that is right, the other half if it is supported as well."""
    chat.count("quotes", len(browser.quotes))
    found = judged(said, facts, browser.quotes, values)
    chat.show(with_quotes(said, browser.quotes))
    chat.count("citations", found.citations)
    if "answer" not in facts:
        return
    chat.reward(0.5 * found.right, "right")
    chat.reward(0.5 * (found.right and found.supported), "supported")
    chat.count("right", found.right)
    chat.count("supported", found.supported)


def _player(
    library: Library, size: Size, commands: str, clumsy: float, row: Mapping[str, Any],
    rng: random.Random,
) -> Speaker:  # fmt: skip
    """Who knows how to browse; in front of a share `clumsy` of the moves is one that leads nowhere."""
    script = _script(library, size, commands, clumsy, row, rng)

    async def says(heard: Sequence[Message], tools: Any) -> str | None:
        return next(script, None)

    return says


def _script(
    library: Library, size: Size, commands: str, clumsy: float, row: Mapping[str, Any],
    rng: random.Random,
) -> Iterator[str]:  # fmt: skip
    """Turn by turn. What is clumsy: to search for half a name, to open the wrong result, to quote what is not there."""
    browser = Browser(library, size)

    def say(name: str, argument: Any = None) -> tuple[str, str]:
        try:
            shown = getattr(browser, name)(*([] if argument is None else [argument]))
        except ToolError as error:
            shown = f"{WRONG}{error}"
        return _said(commands, name, argument), shown

    for title, sentence in row["steps"]:
        if rng.random() < clumsy:
            yield say("search", title.split()[-1])[0]
        text, shown = say("search", title)
        yield text
        titles = [line.partition(". ")[2].partition(" | ")[0] for line in shown.split("\n")]
        if len(titles) > 1 and rng.random() < clumsy:
            yield say("open", rng.choice([i for i, t in enumerate(titles, 1) if t != title]))[0]
            yield say("back")[0]
        text, shown = say("open", titles.index(title) + 1 if title in titles else 1)
        yield text
        if sentence not in shown:
            yield say("find", sentence)[0]
        if rng.random() < clumsy:
            yield say("quote", f"{title}.")[0]
        yield say("quote", sentence)[0]
    yield say("end")[0]
    cites = "".join(f"[{i}]" for i in range(1, len(browser.quotes) + 1))
    yield f"It is {row['answer']} {cites}."


def _said(commands: str, name: str, argument: Any) -> str:
    if commands == "text":
        return name if argument is None else f"{name} {argument}"
    named = {
        "search": "query",
        "open": "number",
        "scroll": "direction",
        "find": "words",
        "quote": "text",
    }
    arguments = {} if argument is None else {named[name]: argument}
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def _pages(made: World) -> list:
    return [page(entry.name, entry.text) for entry in made.entries.values()]


def _texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _words(text: str) -> str:
    """Its words and numbers in lower case, single spaces around them: one text's are in another's as whole words."""
    return " ".join(["", *re.findall(r"\w+", text.casefold()), ""])
