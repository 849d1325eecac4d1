"""One question to a language model behind an OpenAI-compatible server: its words, and log-probs where it has them.

`http://127.0.0.1:8000/v1#MODEL(max_calls=5000, rubric=rubric.txt)` on the command line, see `Endpoint.of`.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from heedful.caches import cache_folder
from heedful.calls import call, typed
from heedful.disk import read_text
from heedful.errors import UserError
from heedful.remote.journal import recording
from heedful.remote.limits import Again, Limits

log = logging.getLogger("heedful")
URL = re.compile(r"https?://[^\s()#]+(#[^\s()]+)?(\(.*\))?", re.DOTALL)
THOUGHT = re.compile(r".*</think>", re.DOTALL)
# What a server may not know: the word in its refusal, and what is done without it.
ADAPTS = {
    "max_completion_tokens": ("max_tokens", "max_completion_tokens"),
    "logprobs": ("logprobs", None),
    "temperature": ("temperature", None),
}


@dataclass(frozen=True)
class Options:
    """What stands in the brackets."""

    rubric: Path | None = (
        None  # the question, a text with {prompt}, {response} or {a} and {b}, and names of columns
    )
    concurrency: int = 8  # calls at once
    timeout: float = 120.0  # seconds a call
    retries: int = 5  # after a failure that may pass: 408, 409, 429, 5xx, no connection, time-out
    max_calls: int = 0  # calls that may be made in all, 0 for any number; cached answers are none
    max_tokens: int = 0  # tokens, prompts and answers, that may be spent in all
    answer_tokens: int = 16  # longest answer; a model that thinks first needs room for it
    logprobs: bool = True  # ask for log-probs
    key: str = "OPENAI_API_KEY"  # the environment variable that has the key
    cache: Path | None = None  # a file of answers; default: in heedful's cache folder


@dataclass(frozen=True)
class Answer:
    """What was said, without its thoughts, and the probabilities of the words asked for, empty where it has none."""

    text: str
    probabilities: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Endpoint:
    """A model behind a server. Counts what it spends."""

    url: str
    model: str
    options: Options
    limits: Limits
    where: str
    calls: int = 0
    tokens: int = 0
    _clients: WeakKeyDictionary[Any, Any] = field(default_factory=WeakKeyDictionary)
    _without: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, spec: str, flag: str, kind: type[Options] = Options) -> Endpoint:
        """From `URL#MODEL(options)`, which are of a `kind`.

        UserError if nobody answers there; without a #MODEL, the only one it serves."""
        where = f"{flag} {spec}"
        target, arguments = call(where, spec)
        offered = inspect.signature(kind).parameters
        options = kind(**typed(where, "a server", offered, arguments))
        url, _, model = target.partition("#")
        if "@" in urlsplit(url).netloc or not re.fullmatch(r"[A-Za-z_]\w*", options.key):
            raise UserError(
                f"{flag}: no key or password in the address or in key=, which a run's files would show; "
                "key=NAME is the environment variable that holds it"
            )
        url = url.rstrip("/").removesuffix("/chat/completions")
        if min(options.max_calls, options.max_tokens) < 0 or options.answer_tokens < 1:
            raise UserError(f"{where}: max_calls and max_tokens count from 0, answer_tokens from 1")
        model = _served(where, url, model, _headers(options))
        cache = options.cache
        if cache is None and (folder := cache_folder()):
            name = hashlib.sha256(f"{url}#{model}".encode()).hexdigest()[:16]
            cache = folder / "answers" / f"{name}.jsonl"
        try:
            limits = Limits(options.concurrency, options.timeout, options.retries, cache)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        return cls(url, model, options, limits, where)

    def question(self, default: str, needed: Sequence[str]) -> str:
        """The rubric's text, or the default one; `needed` are the places that it must have."""
        if self.options.rubric is None:
            return default
        text = read_text(self.options.rubric, self.where)
        if missing := [name for name in needed if f"{{{name}}}" not in text]:
            raise UserError(
                f"{self.where}: {self.options.rubric} has no place for {{{missing[0]}}}; "
                f"it needs {', '.join(f'{{{n}}}' for n in needed)}"
            )
        return text

    async def ask(self, text: str, words: Sequence[str]) -> Answer:
        """The answer to a question of which one of `words` is expected."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0.0,
            "max_tokens": self.options.answer_tokens,
        }
        if self.options.logprobs:
            body |= {"logprobs": True, "top_logprobs": 20}
        kept = await self.limits.awaited(
            lambda: self._asked(body, words), (self.url, body, list(words)), self.where
        )
        return Answer(kept["text"], kept["probabilities"])

    async def _asked(self, body: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
        import httpx

        self._spend()
        left_out = frozenset(self._without)
        try:
            reply = await self._client().post(
                f"{self.url}/chat/completions", json=self._adapted(body)
            )
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.TransportError as error:
            raise Again(f"no connection ({error or type(error).__name__})") from error
        if reply.status_code == 400 and self._adapt(reply.text, left_out):
            return await self._asked(body, words)
        if reply.status_code in (408, 409, 425, 429) or reply.status_code >= 500:
            after = reply.headers.get("retry-after", "")
            seconds = float(after) if re.fullmatch(r"\d+(\.\d+)?", after) else None
            raise Again(f"the server said {reply.status_code}: {_short(reply.text)}", seconds)
        if reply.status_code != 200:
            raise UserError(self._refused(reply.status_code, reply.text))
        return self._read(reply, words)

    def _read(self, reply: Any, words: Sequence[str]) -> dict[str, Any]:
        try:
            data = reply.json()
            choice = data["choices"][0]
            text = choice["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Again(
                f"the server's answer is no chat completion: {_short(reply.text)}"
            ) from error
        used = (data.get("usage") or {}).get("total_tokens")
        self.tokens += int(used) if used else len(text) // 4
        content = ((choice.get("logprobs") or {}).get("content")) or []
        return {
            "text": THOUGHT.sub("", text).strip(),
            "probabilities": _probabilities(content, words),
        }

    def _spend(self) -> None:
        for name, spent, most in (
            ("calls", self.calls, self.options.max_calls),
            ("tokens", self.tokens, self.options.max_tokens),
        ):
            if most and spent >= most:
                raise UserError(
                    f"{self.where}: the budget of {most} {name} is spent; {self._kept(f'max_{name}')}"
                )
        self.calls += 1

    def _kept(self, budget: str) -> str:
        known = recording()
        if where := self.limits.cache or (known and known.journal.path):
            return f"what was answered is in {where}, and the same command with a larger {budget} goes on from there"
        return f"nothing is kept of the answers, and the same command with a larger {budget} begins anew"

    def _refused(self, status: int, text: str) -> str:
        hint = f"; the key is taken from {self.options.key}" if status in (401, 403) else ""
        return f"{self.where}: the server said {status}: {_short(text)}{hint}"

    def _adapt(self, refusal: str, left_out: frozenset[str]) -> bool:
        """Whether a request that left these words out can be made without another that this server does not know.

        Of several calls at once each is refused the same word: it is told once, and all of them are asked again.
        """
        for word in ADAPTS:
            if word in refusal and word not in left_out:
                if word not in self._without:
                    log.warning(
                        "%s: asked again without %s, which the server refuses",
                        self.where,
                        ADAPTS[word][0],
                    )
                self._without.add(word)
                return True
        return False

    def _adapted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        body = dict(body)
        for word in self._without:
            old, new = ADAPTS[word]
            value = body.pop(old, None)
            if new is not None:
                body[new] = value
        if "logprobs" not in body:
            body.pop("top_logprobs", None)
        return body

    def _client(self) -> Any:
        """One for each event loop; connections are used again."""
        import httpx

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(
                headers=_headers(self.options),
                timeout=self.options.timeout,
                limits=httpx.Limits(max_connections=self.options.concurrency),
            )
        return self._clients[loop]


def is_endpoint(spec: str) -> bool:
    """Whether a spec names a server."""
    return URL.fullmatch(spec) is not None


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its places filled, once: what stands in a response is not read as a place."""
    names = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    return re.sub(rf"\{{({names})\}}", lambda m: values[m[1]], template)


def _headers(options: Options) -> dict[str, str]:
    key = os.environ.get(options.key)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _served(where: str, url: str, model: str, headers: dict[str, str]) -> str:
    """The model's name, once somebody has answered at the address."""
    import httpx

    try:
        reply = httpx.get(f"{url}/models", headers=headers, timeout=20.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(f"{where}: nobody answers at {url} ({error})") from error
    try:
        names = [row["id"] for row in reply.json()["data"]] if reply.status_code == 200 else []
    except (ValueError, KeyError, TypeError):
        names = []
    if reply.status_code in (401, 403):
        raise UserError(
            f"{where}: the server said {reply.status_code}; a key is taken from key=OPENAI_API_KEY"
        )
    if model:
        return model
    if len(names) != 1:
        some = ", ".join(names[:8]) or "it does not say which"
        raise UserError(f"{where}: which of its models? Name it behind a #: {url}#MODEL ({some})")
    return names[0]


def _probabilities(content: Sequence[Any], words: Sequence[str]) -> dict[str, float]:
    """Of the words asked for, at the first token behind the thoughts that is one of them; they add up to 1."""
    begins = 0
    for i, token in enumerate(content):
        if "</think>" in str(token.get("token", "")):
            begins = i + 1
    for token in content[begins:]:
        if str(token.get("token", "")).strip() not in words:
            continue
        mass = dict.fromkeys(words, 0.0)
        for top in token.get("top_logprobs") or [token]:
            if (word := str(top.get("token", "")).strip()) in mass:
                mass[word] += math.exp(min(0.0, float(top.get("logprob", -math.inf))))
        total = math.fsum(mass.values())
        return {word: p / total for word, p in mass.items()} if total else {}
    return {}


def _short(text: str) -> str:
    try:
        told = json.loads(text)
        told = told.get("error", told) if isinstance(told, dict) else told
        text = str(told.get("message", told) if isinstance(told, dict) else told)
    except ValueError:
        pass
    return " ".join(text.split())[:200] or "nothing"
