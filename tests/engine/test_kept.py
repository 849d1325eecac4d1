"""Keys and values between the turns of an episode: kept, bounded, forgotten with the weights, and changing nothing."""

import asyncio

import pytest
import torch

import tiny
from heedful.engine.kept import Kept
from heedful.engine.local import LocalEngine
from heedful.types import Sampling

STOP = (3,)


async def talk(engine, prompt, seed, *, keep, turns=4, heard=7, max_tokens=6, stop=STOP):
    """A conversation in which each turn is followed by some tokens of somebody else's."""
    tokens, said = tuple(prompt), []
    for turn in range(turns):
        (c,) = await engine.generate(
            tokens, n=1, max_tokens=max_tokens, sampling=Sampling(), stop=stop, seed=seed + turn, keep=keep
        )  # fmt: skip
        said.append(c)
        tokens = (*tokens, *c.tokens, *range(5, 5 + heard + seed % 4))
    return said


def talks(engine, *, keep, prompts=None, **options):
    async def everybody():
        return await asyncio.gather(
            *(talk(engine, p, 10 * i, keep=keep, **options) for i, p in enumerate(prompts or tiny.prompts()))
        )  # fmt: skip

    return asyncio.run(everybody())


def prefilled(engine, run):
    """How many tokens of prompts were computed, and what came out."""
    count, plain = 0, engine._prefill

    def counted(rows):
        nonlocal count
        count += sum(len(row.request.prompt) for row in rows)
        plain(rows)

    engine._prefill = counted
    return run(), count


@pytest.mark.parametrize("limit", [4096, 16])
@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_what_is_kept_changes_nothing(arch, limit, monkeypatch):
    """Rows read, draw, leave and move in one batch, also in several passes. Mutation caught: slots one off, the last
    sampled token read twice or not at all, rows of unlike lengths that see each other's padding."""
    monkeypatch.setattr("heedful.engine.local.PREFILL", limit)
    model, prompts = tiny.causal_lm(arch), tiny.prompts(longest=12)
    want = talks(LocalEngine(model, max_rows=5), keep=False, prompts=prompts)
    got, count = prefilled(
        engine := LocalEngine(model, max_rows=5),
        lambda: talks(engine, keep=True, prompts=prompts),
    )
    assert count == sum(map(len, prompts))  # each prompt once, and nothing again
    for mine, theirs in zip(got, want, strict=True):
        assert [c.tokens for c in mine] == [c.tokens for c in theirs]
        ours, others = (torch.tensor([x for c in t for x in c.logprobs]) for t in (mine, theirs))
        assert (ours - others).abs().max() < 1e-4
    assert len(engine._kept) == len(prompts)  # of each conversation only the longest


def test_new_weights_forget_and_memory_is_bounded():
    """Mutation caught: keys of the old policy read by the new one; a memory without bound."""
    a, b = tiny.causal_lm("llama", seed=1), tiny.causal_lm("llama", seed=2)
    prompt = tiny.prompts()[0]

    async def change(keep):
        engine = LocalEngine(tiny.causal_lm("llama", seed=1))
        (c,) = await engine.generate(
            prompt, n=1, max_tokens=5, sampling=Sampling(0), stop=(), keep=keep
        )
        await engine.load(b.state_dict(), version=1)
        then = (*prompt, *c.tokens, 7, 8)
        return await engine.generate(
            then, n=1, max_tokens=9, sampling=Sampling(0), stop=(), keep=keep
        )

    assert [c.tokens for c in asyncio.run(change(True))] == [
        c.tokens for c in asyncio.run(change(False))
    ]
    engine = LocalEngine(a)
    engine._kept.most_bytes = 30_000
    talks(engine, keep=True)
    assert 0 < engine._kept.bytes <= 30_000


def test_the_longest_beginning():
    """Mutation caught: all of the tokens found, so that nothing is left to be read; one that differs in the middle."""
    kept, cells = Kept(1000), [(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))]
    for tokens in ((1, 2), (1, 2, 3, 4), (1, 9, 3)):
        kept.put(tokens, cells)
    assert [kept.longest(t) and kept.longest(t)[0] for t in ((1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 9, 4), (1, 2))] == [
        4, 2, None, None
    ]  # fmt: skip
    kept.put((1, 2, 3, 4, 5, 6), cells, grown_from=4)
    assert kept.longest((1, 2, 3, 4, 5))[0] == 2 and kept.bytes == 3 * 64
    kept.put((5,), cells * 14)
    assert kept.bytes <= 1000 and kept.longest((5, 6))


def test_a_completion_has_a_number(monkeypatch):
    """Number 3 of a seed alone is number 3 among four. Mutation caught: siblings that are alike."""
    model, prompt = tiny.causal_lm("llama"), tuple(tiny.prompts()[3])

    async def ask(engine, n, first):
        return await engine.generate(
            prompt, n=n, first=first, max_tokens=8, sampling=Sampling(), stop=STOP, seed=5
        )

    async def singly(engine):
        return [c for (c,) in await asyncio.gather(*(ask(engine, 1, k) for k in range(4)))]

    together = asyncio.run(ask(LocalEngine(model), 4, 0))
    apart, count = prefilled(engine := LocalEngine(model), lambda: asyncio.run(singly(engine)))
    assert apart == together and count == 4 * len(prompt)
    assert len({c.tokens for c in together}) == 4
    seen, passes = [], engine._passes
    plain = passes.prefill
    monkeypatch.setattr(
        passes, "prefill", lambda prompts, *rest: seen.append(len(prompts)) or plain(prompts, *rest)
    )
    monkeypatch.setattr("heedful.engine.local.passes", lambda *_: passes)
    asyncio.run(singly(engine))
    assert seen == [1]  # the prompt of all four, computed once


def test_many_episodes_are_one_batch():
    """64 at once, three turns each, take the passes of one. Mutation caught: a turn that waits for those of others, or
    reads what it heard token by token."""
    engine, passes = LocalEngine(tiny.causal_lm("llama")), []
    plain = engine._decode
    engine._decode = lambda: passes.append(len(engine._rows)) or plain()
    prompts = [[5, 6, 7 + i % 9] for i in range(64)]

    async def everybody():
        return await asyncio.gather(
            *(talk(engine, p, 4 * i, keep=True, turns=3, stop=()) for i, p in enumerate(prompts))
        )

    asyncio.run(everybody())
    assert passes == [64] * 3 * 5  # the first of a turn's six tokens comes with what was read
