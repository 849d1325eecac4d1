"""Several engines as one. Each request goes to the engine that has the fewest tokens to write; one that dies is
replaced, and what it was asked is asked again.

That is safe because a completion follows from the request and the weights alone (`types.Engine`): who writes it, and
how often, changes nothing. Each answer tells with which weights it was written; those of an engine that has others than
it should are thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from heedful.engine.background import Background
from heedful.errors import UserError
from heedful.remote.journal import MISSING, recording
from heedful.types import Completion, Sampling

TELL = 10.0  # seconds without an answer after which a line says who is waited for; then twice as long each time
ROWS = 256  # completions that an engine has before it at a time; the others wait for whoever is free first
DEATHS = 5  # of each engine in a row, without an answer from any: then something else is wrong
log = logging.getLogger("heedful")


class Gone(Exception):
    """An engine has ended or cannot be reached: what it was asked is to be asked again."""


class Member(Protocol):
    """An engine elsewhere. Whatever is asked of one that has ended raises `Gone`."""

    @property
    def window(self) -> int: ...

    async def generate(
        self, tokens: Sequence[int], **how: Any
    ) -> tuple[list[Completion], int | None]:
        """As `types.Engine.generate`, and the version of the weights that wrote them."""
        ...

    async def load(self, weights: Any, version: int) -> None:
        """Take weights as `publish` has put them out."""
        ...

    async def alive(self) -> None:
        """Returns soon."""
        ...

    def end(self) -> None:
        """Whatever is left of it ends, and whoever waits for it gets `Gone`."""
        ...


@dataclass(eq=False)
class _Place:
    """Where an engine stands, and what is asked of it. `version` is that of the weights it was told to have, `loaded`
    that of those it has."""

    number: int
    member: Member | None = None
    version: int | None = None
    loaded: int | None = None
    rows: int = 0
    tokens: int = 0
    heard: float = 0.0  # when it last gave a sign of life
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pool:
    """`types.Engine` over engines that `start` gives, one for each number, and again when one has ended.

    `publish` puts weights where engines find them. Weights of the newest `versions` are kept, and `at` gives an engine
    of each. An engine that gives no sign of life for `patience` seconds counts as dead.
    """

    def __init__(
        self,
        start: Callable[[int], Awaitable[Member]],
        numbers: Sequence[int],
        *,
        publish: Callable[[Mapping[str, Tensor]], Any] = dict,
        versions: int = 1,
        patience: float = 600.0,
        tell: float = TELL,
        closes: Callable[[], None] = lambda: None,
    ):
        self._start, self._publish, self._versions = start, publish, versions
        self._patience, self._tell, self._closes = patience, tell, closes
        self._places = [_Place(number) for number in numbers]
        self._weights: dict[int, Any] = {}
        self._deaths, self._asked, self._answered = 0, 0, time.monotonic()
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Future] = set()
        self.version, self.lost, self.window = -1, 0, 0
        self._background = Background("engines")
        self._background.begin(self._opened()).result()

    async def _opened(self) -> None:
        self._changed = asyncio.Condition()
        self._begin(self._look_after())
        for place in self._places:
            self._replace(place)
        async with self._changed:
            await self._until(lambda: any(place.member for place in self._places))
        self.window = next(place.member.window for place in self._places if place.member)

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Later requests are answered with these weights. Engines take them when they are asked next."""
        if version == self.version:
            return
        self._weights[version] = self._publish(weights)
        self.version = version
        for old in sorted(self._weights)[: -self._versions]:
            del self._weights[old]

    def at(self, version: int) -> At:
        """The engine that answers with weights of this version."""
        return At(self, version)

    async def generate(self, tokens: Sequence[int], **how: Any) -> list[Completion]:
        """See `types.Engine.generate`."""
        return await self.at(self.version).generate(tokens, **how)

    def close(self) -> None:
        """End all engines."""
        self._background.close()
        for place in self._places:
            if place.member is not None:
                place.member.end()
        self._closes()

    async def answer(
        self, version: int, tokens: Sequence[int], how: dict[str, Any]
    ) -> list[Completion]:
        """The completions, from whichever engine."""
        rows = how.get("n", 1)
        owed = rows * how["max_tokens"] + len(tokens)
        self._asked += 1
        try:
            while True:
                place, member = await self._chosen(version, rows, owed)
                try:
                    completions, told = await self._asked_of(place, member, version, tokens, how)
                finally:
                    place.rows, place.tokens = place.rows - rows, place.tokens - owed
                    await self._tell_all()
                if told == version and completions is not None:
                    self._answered, self._deaths = time.monotonic(), 0
                    return completions
        finally:
            self._asked -= 1

    async def _chosen(self, version: int, rows: int, owed: int) -> tuple[_Place, Member]:
        """The engine with the fewest tokens to write of those that have these weights, or nothing to do."""

        def free() -> list[_Place]:
            return [
                p
                for p in self._places
                if p.member and (p.rows == 0 or (p.version == version and p.rows + rows <= ROWS))
            ]

        async with self._changed:
            await self._until(lambda: bool(free()))
            place = min(free(), key=lambda p: p.tokens)
            place.rows, place.tokens = place.rows + rows, place.tokens + owed
            place.version = version
            assert place.member is not None
            return place, place.member

    async def _asked_of(
        self, place: _Place, member: Member, version: int, tokens: Sequence[int], how: Any
    ) -> tuple[list[Completion] | None, int | None]:
        """What an engine says and with which weights; None if it has ended."""
        try:
            async with place.loading:
                if place.member is member and place.loaded != version:
                    await member.load(self._weights[version], version)
                    place.loaded = version
            completions, told = await member.generate(tokens, **how)
        except Gone as gone:
            self._lost(place, member, str(gone))
            return None, None
        place.heard = time.monotonic()
        if told != version and place.member is member:
            log.warning(
                "engine %d has weights of update %s, not %d; asked again",
                place.number,
                told,
                version,
            )
            place.loaded = None
        return completions, told

    def _lost(self, place: _Place, member: Member, why: str) -> None:
        """Replace an engine that has ended, once, whoever notices first."""
        if place.member is not member:
            return
        self.lost, self._deaths = self.lost + 1, self._deaths + 1
        log.warning(
            "engine %d has ended (%s); another takes its place, and what it was asked is asked again",
            place.number,
            why,
        )
        member.end()
        place.member = place.loaded = None
        if self._deaths > DEATHS * len(self._places):
            self._failure = UserError(
                f"engines ended {self._deaths} times without an answer between; the last one: {why}"
            )
        self._replace(place)

    def _replace(self, place: _Place) -> None:
        self._begin(self._started(place))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.ensure_future(work))  # or nobody would hold it
        task.add_done_callback(self._tasks.discard)

    async def _started(self, place: _Place) -> None:
        pause = 0.1
        while self._failure is None:
            try:
                place.member = await self._start(place.number)
                place.heard = time.monotonic()
                break
            except Gone as gone:
                log.warning("engine %d did not start (%s); tried again", place.number, gone)
                await asyncio.sleep(pause := min(2 * pause, 10.0))
            except Exception as error:
                self._failure = error
        await self._tell_all()

    async def _tell_all(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, there: Callable[[], bool]) -> None:
        """Until it is so. What has gone wrong for good is raised."""
        await self._changed.wait_for(lambda: there() or self._failure is not None)
        if self._failure is not None:
            raise self._failure

    async def _look_after(self) -> None:
        """Ask engines whether they live, and say who is waited for when nothing has come for a while."""
        told, after = 0.0, self._tell
        while True:
            await asyncio.sleep(min(self._tell, self._patience) / 4)
            now = time.monotonic()
            for place in self._places:
                member = place.member
                if member is None:
                    continue
                if now - place.heard > self._patience:
                    self._lost(place, member, f"silent for {self._patience:g} seconds")
                elif now - place.heard > self._tell:
                    self._begin(self._sign_of_life(place, member))
            since = now - max(self._answered, told)
            if not self._asked and all(place.member for place in self._places):
                self._answered, after = now, self._tell
            elif since > after:
                log.warning("%s", self._waits(now - self._answered))
                told, after = now, 2 * after
            elif self._answered > told:
                after = self._tell

    async def _sign_of_life(self, place: _Place, member: Member) -> None:
        try:
            await member.alive()
            place.heard = time.monotonic()
        except Gone as gone:
            self._lost(place, member, str(gone))

    def _waits(self, seconds: float) -> str:
        at = [f"{p.rows} at engine {p.number}" for p in self._places if p.rows and p.member]
        starts = [f"engine {p.number} starts" for p in self._places if p.member is None]
        what = f"{self._asked} requests wait: " if self._asked else ""
        return f"{what}{', '.join(at + starts)}; {seconds:.0f} s without an answer"


@dataclass(frozen=True)
class At:
    """`types.Engine` of a pool, with the weights of one version. What a run records is not asked again by who goes on
    with it (`remote.journal`)."""

    pool: Pool
    version: int

    @property
    def window(self) -> int:
        return self.pool.window

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        raise TypeError("an engine of one version takes no other weights")

    async def generate(
        self,
        tokens: Sequence[int],
        *,
        n: int = 1,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[int],
        seed: int = 0,
        first: int = 0,
        keep: bool = False,
    ) -> list[Completion]:
        how: dict[str, Any] = dict(
            n=n, max_tokens=max_tokens, sampling=sampling, stop=stop, seed=seed, first=first
        )
        recorded = recording()
        key = recorded.key(["completions", self.version, list(tokens), how]) if recorded else ""
        if recorded and (past := recorded.find(key)) is not MISSING:
            with suppress(TypeError, ValueError):  # of an earlier release, in another form
                return [Completion(tuple(t), tuple(logp), why) for t, logp, why in past]
        work = self.pool.answer(self.version, tokens, {**how, "keep": keep})
        completions = await self.pool._background.run(work)
        if recorded:
            said = [[c.tokens, c.logprobs, c.stop_reason] for c in completions]
            recorded.write(key, said, sync=False)
        return completions
