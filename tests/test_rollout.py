"""Scoring samples: each gets its own reward, of its own text, and how it ended is how sampling stopped."""

from __future__ import annotations

import asyncio

import tiny
from heedful.data.tokens import encode_response
from heedful.rewards import Part, Parts
from heedful.rollout import score, score_parts, tasks
from heedful.types import Message, Sample


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
    async def reward(prompt, responses, ended, facts):
        heard.append((prompt, tuple(responses), tuple(ended), dict(facts)))
        return [float(len(r)) for r in responses]

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


def test_tasks_without_facts():
    (task,) = tasks(tiny.tokenizer(), ["One"])
    assert dict(task.facts) == {} and hash(task) == hash(tasks(tiny.tokenizer(), ["One"])[0])
