"""The conformance suite of engines, run on the embedded one."""

import asyncio

import pytest
import torch

import tiny
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.models.forward import token_logps
from heedful.types import Sampling

STOP = (3,)


def generate(engine, prompts, sampling, *, n=1, max_tokens=16, stop=STOP, seed=0):
    async def everybody():
        return await asyncio.gather(
            *(
                engine.generate(
                    p, n=n, max_tokens=max_tokens, sampling=sampling, stop=stop, seed=seed + i
                )
                for i, p in enumerate(prompts)
            )
        )

    return asyncio.run(everybody())


@pytest.mark.arithmetic
@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_greedy_equals_transformers_generate(arch):
    """Token for token, lengths mixed, against batches that transformers pads on the left and on the right.

    Mutation caught: positions, masks or cache slots off by one for any row that is not the longest.
    """
    model, prompts = tiny.causal_lm(arch), tiny.prompts()
    ours = generate(LocalEngine(model, max_rows=5), prompts, Sampling(temperature=0))
    longest = max(map(len, prompts))
    left = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    padded = model.generate(left, attention_mask=mask, max_new_tokens=16, do_sample=False)
    for prompt, (mine,), theirs in zip(prompts, ours, padded[:, longest:].tolist(), strict=True):
        alone = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=16,
            do_sample=False,
        )[0, len(prompt) :].tolist()
        assert lead(model, prompt, alone) > 1e-4  # logits of size 1, off by 10⁻⁶
        assert list(mine.tokens) == alone
        assert list(mine.tokens) == theirs[: len(mine.tokens)]


def lead(model, prompt: list[int], tokens: list[int]) -> float:
    """By how much the likeliest token's logit leads where it does least: rounding must not turn one."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    first, second = logits.topk(2).values.T
    return float((first - second).min())


@pytest.mark.arithmetic
@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(0.7), Sampling(1.3, 0.8), Sampling(0.9, 0.9, 20)], ids=str
)
def test_logprobs_agree_with_the_learners(arch, sampling):
    """First PPO ratio within 1e-4 of 1, also for T≠1 and top-p<1.

    Mutation caught: temperature or the top-p mask left out on one of the two sides.
    """
    model, prompts = tiny.causal_lm(arch), tiny.prompts()
    for prompt, group in zip(
        prompts, generate(LocalEngine(model, max_rows=7), prompts, sampling, n=2), strict=True
    ):
        for c in group:
            tokens = torch.tensor([[*prompt, *c.tokens]])
            mask = torch.zeros(1, tokens.shape[1] - 1, dtype=torch.bool)
            mask[0, len(prompt) - 1 :] = True
            with torch.no_grad():
                logp = token_logps(model, tokens, mask, sampling)[mask]
            ratio = torch.exp(logp - torch.tensor(c.logprobs))
            assert (ratio - 1).abs().max() < 1e-4


def test_seeds_repeat_and_batch_mates_do_not_matter():
    """Mutation caught: one generator for the batch, so that a neighbour changes what a prompt samples."""
    model, prompts = tiny.causal_lm("llama"), tiny.prompts()
    together = generate(LocalEngine(model, max_rows=4), prompts, Sampling(), n=3)
    again = generate(LocalEngine(model, max_rows=4), prompts, Sampling(), n=3)
    assert together == again
    for i, prompt in enumerate(prompts):
        (alone,) = generate(LocalEngine(model), [prompt], Sampling(), n=3, seed=i)
        assert [c.tokens for c in alone] == [c.tokens for c in together[i]]
    other = generate(LocalEngine(model), prompts, Sampling(), n=3, seed=1000)
    assert other != together


def test_samples_of_one_prompt_differ_and_follow_the_distribution():
    """4,000 first tokens against the exact probabilities: every likely token within 5 standard errors."""
    model, prompt = tiny.causal_lm("llama", vocab=16), [5, 6, 7]
    (group,) = generate(LocalEngine(model), [prompt], Sampling(1.5), n=4000, max_tokens=1, stop=())
    with torch.no_grad():
        p = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double() / 1.5, 0)
    share = torch.bincount(torch.tensor([c.tokens[0] for c in group]), minlength=16) / len(group)
    assert ((share - p).abs() < 5 * (p * (1 - p) / len(group)).sqrt() + 1e-3).all()


def test_stop_reason_tells_cut_from_ended():
    """Mutation caught: a made-up end token after a cut response."""
    model, prompts = tiny.causal_lm("llama"), tiny.prompts()
    engine = LocalEngine(model)
    for (c,) in generate(engine, prompts, Sampling(), max_tokens=4, stop=range(4, 100)):
        assert (c.stop_reason == "stop") == (c.tokens[-1] in range(4, 100))
        assert c.stop_reason == "stop" or len(c.tokens) == 4
        assert not set(c.tokens[:-1]) & set(range(4, 100))
        assert len(c.logprobs) == len(c.tokens)


def test_load_takes_effect_and_keeps_the_learners_tensors_apart():
    a, b = tiny.causal_lm("llama", seed=1), tiny.causal_lm("llama", seed=2)
    prompts = tiny.prompts()
    want = generate(LocalEngine(b), prompts, Sampling(0))
    engine = LocalEngine(a)
    assert generate(engine, prompts, Sampling(0)) != want
    asyncio.run(engine.load(b.state_dict(), version=3))
    assert [c[0].tokens for c in generate(engine, prompts, Sampling(0))] == [
        c[0].tokens for c in want
    ]
    assert engine.version == 3


def test_a_caller_may_ask_again_while_others_decode():
    """Conversations of several turns share the batch."""
    model = tiny.causal_lm("llama")

    async def talk(engine, prompt, seed):
        tokens = list(prompt)
        for turn in range(3):
            (c,) = await engine.generate(
                tokens, n=1, max_tokens=5, sampling=Sampling(), stop=STOP, seed=seed + turn
            )
            tokens += c.tokens
        return tokens

    async def both(prompts):
        engine = LocalEngine(model, max_rows=3)
        return await asyncio.gather(*(talk(engine, p, 10 * i) for i, p in enumerate(prompts)))

    together = asyncio.run(both(tiny.prompts()))
    alone = [asyncio.run(talk(LocalEngine(model), p, 10 * i)) for i, p in enumerate(tiny.prompts())]
    assert together == alone


def test_a_prompt_without_room_is_refused_and_the_engine_lives_on():
    engine = LocalEngine(tiny.causal_lm("gpt2", context=32))
    with pytest.raises(UserError, match="context of 32"):
        generate(engine, [[5] * 30], Sampling())
    assert generate(engine, [[5] * 4], Sampling())[0][0].tokens


def test_an_error_while_decoding_reaches_every_caller():
    engine = LocalEngine(tiny.causal_lm("llama"))
    engine._cache.attention = engine._cache.filled = lambda *args: 1 / 0
    with pytest.raises(ZeroDivisionError):
        generate(engine, tiny.prompts(), Sampling())


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_an_error_while_reading_prompts_reaches_every_caller(arch):
    """Mutation caught: rows that have left the queue and not yet entered, whom nobody tells: they wait for ever."""
    model = tiny.causal_lm(arch)
    engine = LocalEngine(model)
    hook = model.get_input_embeddings().register_forward_pre_hook(lambda *_: 1 / 0)

    async def ask():
        return await asyncio.wait_for(
            engine.generate([5, 6], n=2, max_tokens=3, sampling=Sampling(), stop=STOP), 60
        )

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask())
    hook.remove()
    assert len(asyncio.run(ask())) == 2


def test_two_engines_in_one_loop():
    """One ends long before the other. Mutation caught: inference mode, which is the thread's, held across an await."""
    engines = [LocalEngine(tiny.causal_lm("llama", seed=seed)) for seed in (0, 1)]

    async def ask(engine, tokens):
        return await engine.generate(
            [5, 6], n=1, max_tokens=tokens, sampling=Sampling(), stop=(), seed=1
        )

    async def both():
        return await asyncio.gather(ask(engines[0], 3), ask(engines[1], 20))

    short, long = asyncio.run(both())
    assert (len(short[0].tokens), len(long[0].tokens)) == (3, 20)
    assert not torch.is_inference_mode_enabled()
