"""Several engines as one, with engines that die, come back empty, fall silent or are slow."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from heedful.engine.pool import Gone, Pool
from heedful.errors import UserError
from heedful.remote.journal import recorded
from heedful.types import Completion, Sampling

HOW = dict(max_tokens=8, sampling=Sampling(), stop=[3])


def written(weights: int, tokens: tuple[int, ...], seed: int, number: int) -> Completion:
    """A completion that follows from weights and request, and from nothing else."""
    digest = hashlib.sha256(repr((weights, tuple(tokens), seed, number)).encode()).digest()
    return Completion(tuple(digest[:4]), tuple(b / 256 for b in digest[4:8]), "length")


class Engines:
    """What `start` of a pool gives; all that was asked of them is in `log`."""

    def __init__(self, *, seconds: float = 0.001):
        self.seconds, self.there, self.starts = seconds, dict[int, One](), Counter[int]()
        self.log: list[tuple[int, int, int]] = []  # who, seed, version
        self.forgets: set[int] = set()  # who loses its weights, and tells
        self.all_die = False

    async def __call__(self, number: int) -> One:
        self.starts[number] += 1
        await asyncio.sleep(0.001)
        self.there[number] = One(self, number)
        return self.there[number]


class One:
    window = 128

    def __init__(self, engines: Engines, number: int):
        self.engines, self.number, self.gone = engines, number, asyncio.Event()
        self.weights, self.version, self.silent = 0, None, False

    async def generate(self, tokens, *, n, seed, first, keep, **how):
        self.engines.log.append((self.number, seed, self.version))
        if self.engines.all_die:
            raise Gone("out of memory")
        if seed == 666:
            raise UserError("a prompt that nobody can answer")
        weights, version = self.weights, self.version
        if self.number in self.engines.forgets:
            self.engines.forgets.discard(self.number)
            self.version = version = None
        await self._or_gone(self.engines.seconds * (100 if seed == 99 else 1))
        return [written(weights, tokens, seed, first + i) for i in range(n)], version

    async def load(self, weights, version):
        await self._or_gone(0.001)
        self.weights, self.version = weights["w"], version

    async def alive(self):
        await self._or_gone(0.0)

    def end(self):
        self.gone.set()

    async def _or_gone(self, seconds: float) -> None:
        if self.gone.is_set():
            raise Gone("killed")
        waiting = asyncio.ensure_future(self.gone.wait())
        done, _ = await asyncio.wait([waiting], timeout=3600 if self.silent else seconds)
        waiting.cancel()
        if done:
            raise Gone("killed")


@pytest.fixture
def engines() -> Engines:
    return Engines()


@pytest.fixture
def pool(engines) -> Iterator[Pool]:
    pool = Pool(engines, range(3), versions=3)
    asyncio.run(pool.load({"w": 7}, 0))  # type: ignore[dict-item]
    yield pool
    pool.close()


def kill(pool: Pool, engines: Engines, number: int) -> None:
    pool._background._loop.call_soon_threadsafe(engines.there[number].end)


async def ask(pool, seed: int, *, n: int = 1, tokens=(1, 2)) -> list[Completion]:
    return await pool.generate(tokens, n=n, seed=seed, **HOW)


def test_whoever_dies_the_answers_are_the_same(pool, engines):
    """Mutation caught: a request lost with its engine; one that is answered twice; a new engine without weights."""

    async def storm() -> list[list[Completion]]:
        draw, tasks = random.Random(0), []
        for seed in range(60):
            tasks.append(asyncio.ensure_future(ask(pool, seed, n=2)))
            await asyncio.sleep(0.001)
            if seed % 3 == 0:
                kill(pool, engines, draw.randrange(3))
        return await asyncio.gather(*tasks)

    answers = asyncio.run(storm())
    assert answers == [[written(7, (1, 2), s, i) for i in range(2)] for s in range(60)]
    assert pool.lost >= 5 and sum(engines.starts.values()) == 3 + pool.lost
    assert len(engines.log) > 60  # some were asked again


def test_the_fewest_tokens_go_first():
    """Mutation caught: turns in place of tokens."""
    engines = Engines(seconds=0.05)
    pool = Pool(engines, range(3))

    async def together() -> None:
        await pool.load({"w": 7}, 0)  # type: ignore[dict-item]
        long = asyncio.ensure_future(pool.generate([1], n=10, seed=0, **HOW))
        await asyncio.sleep(0.01)
        await asyncio.gather(long, *(ask(pool, seed) for seed in range(1, 9)))

    asyncio.run(together())
    pool.close()
    assert sorted(Counter(who for who, *_ in engines.log).values()) == [1, 4, 4]


def test_an_engine_with_other_weights_is_not_believed(pool, engines, caplog):
    """Mutation caught: the version that an answer tells is not looked at."""
    engines.forgets = {0, 1, 2}
    assert asyncio.run(ask(pool, 5)) == [written(7, (1, 2), 5, 0)]
    assert "weights of update None, not 0" in caplog.text


def test_two_versions_at_once(pool, engines):
    """A slow request keeps its engine and its weights, while the others go on with newer ones.

    Mutation caught: weights that change under a request; newer requests that wait for the slowest.
    """

    async def both() -> tuple[list, list, bool]:
        old = pool.at(0)
        slow = asyncio.ensure_future(ask(old, 99))
        await asyncio.sleep(0.02)
        await pool.load({"w": 8}, 1)
        new = await asyncio.gather(*(ask(pool, seed) for seed in range(10)))
        return await asyncio.gather(ask(old, 1), slow), new, slow.done()

    old, new, _ = asyncio.run(both())
    assert old == [[written(7, (1, 2), 1, 0)], [written(7, (1, 2), 99, 0)]]
    assert new == [[written(8, (1, 2), seed, 0)] for seed in range(10)]
    assert len({who for who, seed, version in engines.log if version == 1}) == 2


def test_who_is_silent_is_replaced_and_every_wait_has_a_line(caplog):
    """Mutation caught: an engine that hangs and is waited for for ever; a wait that nobody is told of."""
    engines = Engines()
    pool = Pool(engines, range(2), patience=0.3, tell=0.05)

    async def one_hangs() -> list[list[Completion]]:
        await pool.load({"w": 7}, 0)  # type: ignore[dict-item]
        engines.there[0].silent = True
        return await asyncio.gather(*(ask(pool, seed) for seed in range(4)))

    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "heedful"):
        assert asyncio.run(one_hangs()) == [[written(7, (1, 2), s, 0)] for s in range(4)]
    pool.close()
    assert 0.3 <= time.monotonic() - began < 3
    assert "requests wait" in caplog.text and "at engine 0" in caplog.text
    assert "engine 0 has ended (silent for 0.3 seconds)" in caplog.text


def test_what_is_no_death_is_told(pool, engines):
    """Mutation caught: a user's mistake asked again and again; engines started for ever."""
    with pytest.raises(UserError, match="nobody can answer"):
        asyncio.run(ask(pool, 666))
    assert pool.lost == 0
    engines.all_die = True
    with pytest.raises(UserError, match=r"ended 16 times without an answer.*out of memory"):
        asyncio.run(ask(pool, 1))


def test_what_was_answered_before_is_not_asked_again(pool, engines, tmp_path):
    """Mutation caught: answers that are kept when all are there; those of other weights."""

    async def dies_in_the_middle() -> None:
        done = await asyncio.gather(*(ask(pool, seed) for seed in range(5)))
        assert len(done) == 5
        raise SystemExit

    with recorded(tmp_path / "asked.jsonl"), pytest.raises(SystemExit):
        asyncio.run(dies_in_the_middle())
    before = len(engines.log)

    async def again() -> list:
        return await asyncio.gather(*(ask(pool, seed) for seed in range(8)))

    with recorded(tmp_path / "asked.jsonl"):
        assert asyncio.run(again()) == [[written(7, (1, 2), s, 0)] for s in range(8)]
    assert [seed for _, seed, _ in engines.log[before:]] == [5, 6, 7]
    asyncio.run(pool.load({"w": 8}, 1))
    with recorded(tmp_path / "asked.jsonl"):
        assert asyncio.run(ask(pool, 1)) == [written(8, (1, 2), 1, 0)]
