"""Scoring samples: each gets its own reward, of its own text, and how it ended is how sampling stopped."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import tiny
from heedful.data.tokens import encode_response
from heedful.engine.local import LocalEngine
from heedful.rewards import Part, Parts
from heedful.rollout import rollout, score, score_parts, scored_rollout, tasks
from heedful.types import Message, Sample, Sampling


def sample(task, tok, text: str, group: int, *, ended: bool = True) -> Sample:
    response = encode_response(tok, task.prompt, text, ended=ended)
    before = len(task.tokens)
    return Sample(
        tokens=(*task.tokens, *response),
        mask=(False,) * before + (True,) * len(response),
        logprobs=(0.0,) * (before + len(response)),
        group=group,
        stop_reason="stop" if ended else "length",
    )


def recorder(heard: list):
    async def reward(group):
        heard.append((group.prompt, tuple(group.responses), tuple(group.ended), dict(group.facts)))
        return [float(len(r)) for r in group.responses]

    return reward


def test_samples_of_mixed_groups_get_their_own_rewards():
    """Groups interleaved, as a loop that resamples may have them. Mutation caught: values in the order of the groups,
    facts of another prompt, `ended` from an end token (the chat's prompt holds one, the cut response none)."""
    tok = tiny.tokenizer()
    chat = (Message("user", "Hello?"),)
    todo = tasks(tok, ["One", chat], [{"answer": 1}, {"answer": 2}])
    assert tok.eos_token_id in todo[1].tokens
    samples = [
        sample(todo[0], tok, " a", 0),
        sample(todo[1], tok, "bbb", 1, ended=False),
        sample(todo[0], tok, " cccc", 0),
        sample(todo[1], tok, "ddddddd", 1),
    ]
    heard: list = []
    scored, metrics = asyncio.run(score(recorder(heard), todo, samples, tok))
    assert [s.reward for s in scored] == [2.0, 3.0, 5.0, 7.0]
    assert [s.tokens for s in scored] == [s.tokens for s in samples]
    assert heard == [
        ("One", (" a", " cccc"), (True, True), {"answer": 1}),
        (chat, ("bbb", "ddddddd"), (False, True), {"answer": 2}),
    ]
    assert metrics == {"reward/own": 17 / 4, "reward/own/std": metrics["reward/own/std"]}
    parts = Parts([Part(name="size", members=(recorder([]),), weight=-2)])
    found = asyncio.run(score_parts(parts, todo, samples, tok))
    assert found.parts == {"size": [2.0, 3.0, 5.0, 7.0]}
    assert found.total == [-4.0, -6.0, -10.0, -14.0]


def test_rewards_from_elsewhere_judge_while_others_are_written():
    """One that waits, as for an answer over the network, hears of the short response first, while the long one is
    still in the engine; a reward model hears of both at once, afterwards. The numbers are those of `score`.

    Mutation caught: rewards asked after the round, answers of one group or member given to another, early ones
    asked twice.
    """
    tok, model = tiny.tokenizer(), tiny.causal_lm("llama", vocab=320)
    engine, heard, batches = LocalEngine(model), [], []

    async def network(group):
        await asyncio.sleep(0)
        heard.append((group.prompt, len(engine._rows)))
        return [float(len(r)) for r in group.responses]

    class Model:
        in_batches = True

        async def __call__(self, group):
            batches.append((group.prompt, len(engine._rows)))
            return [float(group.facts["answer"])] * len(group.responses)

    async def vowels(group):
        return [float(sum(c in "aeiou" for c in r)) for r in group.responses]

    def parts():
        ensemble = Part(name="two", members=(Model(), vowels), weight=0.5, by="min")
        return Parts([Part(name="far", members=(network,)), ensemble], normalise=True)

    how = dict(n=2, max_tokens=40, sampling=Sampling(), seed=3)
    long, short = tasks(tok, ["Two", "One"], [{"answer": 1}, {"answer": 20}])
    todo = [replace(long, stop=()), replace(short, stop=tuple(range(0, 320, 2)))]
    samples, metrics = asyncio.run(scored_rollout(engine, parts(), todo, tok, **how))
    lengths = [sum(s.mask) for s in samples]
    assert max(lengths[2:]) < 40 == min(lengths[:2])
    assert [prompt for prompt, _ in heard] == ["One", "Two"]
    assert heard[0][1] > 0 == heard[1][1]
    assert batches == [("Two", 0), ("One", 0)]
    later, same = asyncio.run(
        score(parts(), todo, asyncio.run(rollout(engine, todo, tok, **how)), tok)
    )
    assert samples == later and metrics == same
    assert len({s.reward for s in samples}) == 4


def test_tasks_without_facts():
    (task,) = tasks(tiny.tokenizer(), ["One"])
    assert dict(task.facts) == {} and hash(task) == hash(tasks(tiny.tokenizer(), ["One"])[0])
