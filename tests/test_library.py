"""What `import heedful` offers: its names, and that the pieces of one's own loop compute what the recipes do."""

from __future__ import annotations

import asyncio
import importlib
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import games
import heedful as hd
import tiny
from heedful import api
from heedful.data.collate import collate
from heedful.engine.local import LocalEngine
from heedful.losses.advantages import by_episode, leave_one_out
from heedful.rewards import Part, Parts
from heedful.rewards.functions import as_reward
from heedful.rollout import scored_rollout
from heedful.types import Batch, Episode, Sample

TOK = tiny.tokenizer()
ROWS = [
    {"prompt": [{"role": "user", "content": f"Count {i}"}], "answer": i, "secret": i}
    for i in range(3)
]


def few_es(prompt, response: str, answer: int) -> float:
    return answer - float(response.count("e"))


def test_every_name_is_there():
    """A name whose function has moved is an AttributeError for users only."""
    assert len(api.NAMES) <= 32
    assert all(getattr(hd, name) is not None for name in hd.__all__)
    assert set(dir(hd)) == {"__version__", *api.NAMES}


def test_wrong_names_are_told():
    with pytest.raises(AttributeError, match="did you mean 'rollout'"):
        _ = hd.rolout  # type: ignore[attr-defined]


def test_functions_are_not_hidden_by_rooms_of_their_name():
    """Importing `heedful.run`, as every recipe does, would make the next `hd.run(…)` a call of a module."""
    for room in ("run", "rollout"):
        importlib.import_module(f"heedful.{room}")
    assert hd.run.__module__ == hd.rollout.__module__ == "heedful.api", hd.run


async def forked(task, chat) -> float:
    """Two answers to one prompt, in one episode: a sample each, with one score."""
    other = chat.fork()
    first, second = await chat.say(), await other.say()
    chat.reward(0.5)
    return float(len(first.text) > len(second.text))


@pytest.mark.parametrize("env", ["ask", games.guess, forked])
def test_ones_own_batch_is_that_of_the_recipes(tmp_path: Path, env):
    """Tokens, log-probs, groups and rewards to the bit; a group mixed up with its neighbour would be a silent error."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    todo = hd.tasks(TOK, file)
    how = dict(n=4, max_tokens=6, seed=3, env=env, limits=hd.Limits(turns=3))

    async def through_api() -> Batch:
        episodes = await hd.rollout(hd.load_engine(tiny.policy(TOK)), todo, TOK, **how)
        return hd.collate(await hd.score(few_es, episodes, TOK))

    async def through_recipe() -> Batch:
        parts = Parts([Part(name="x", members=(as_reward(few_es, "x"),))])
        given = how | {"env": hd.load_env(env) if env == "ask" else env, "sampling": hd.Sampling()}
        engine = LocalEngine(tiny.policy(TOK))
        return collate((await scored_rollout(engine, parts, todo, TOK, **given))[0])

    mine, theirs = asyncio.run(through_api()), asyncio.run(through_recipe())
    for field in fields(Batch):
        assert torch.equal(getattr(mine, field.name), getattr(theirs, field.name)), field.name
    total = theirs.reward + theirs.step_rewards.sum(1)
    expected = by_episode(leave_one_out, total, theirs.group, theirs.episode)
    assert torch.equal(hd.leave_one_out(mine), expected)


def test_parts_are_told_and_rewards_add_up():
    """A second reward that replaced the first, or hid it in `parts`, would train on half of what was asked."""
    todo = hd.tasks(TOK, ["One", "Two"], [{"answer": 1}, {"answer": 2}])

    async def twice() -> list[list[Episode]]:
        episodes = await hd.rollout(
            hd.load_engine(tiny.policy(TOK)), todo, TOK, n=2, max_tokens=4, seed=0
        )
        episodes = await hd.score(lambda prompt, response: 2.0, episodes, TOK)
        return await hd.score(few_es, [*episodes, []], TOK)  # a group of which all were dropped

    first, second, none = asyncio.run(twice())
    assert none == [] and {e.parts["<lambda>"] for e in (*first, *second)} == {2.0}
    assert all(e.reward == 2.0 + e.parts["few_es"] for e in (*first, *second))


@pytest.mark.parametrize("steps, rates", [(None, [0.1, 0.1, 0.1]), (2, [0.1, 0.05, 0.0])])
def test_a_learner_without_an_end_learns_on(steps, rates):
    """A schedule that ended unasked would go on for ever at a learning rate of 0."""
    learner = hd.load_learner(tiny.policy(TOK), lr=0.1, steps=steps)
    batch = hd.collate([Sample((5, 6, 7), (False, True, True), (0.0, -1.0, -1.0), reward=1.0)])
    told = [learner.step(lambda out, b: -out.logp, batch)["learning_rate"] for _ in rates]
    assert told == pytest.approx(rates)


def test_log_probs_are_of_the_distribution_that_was_asked_for():
    """A learner at temperature 1 for samples at ½ would be off-policy from its first step."""
    sampling, policy = hd.Sampling(temperature=0.5), tiny.policy(TOK)

    async def batch_at_half() -> Batch:
        todo = hd.tasks(TOK, ["One"])
        engine = hd.load_engine(policy)
        how = dict(n=4, max_tokens=6, seed=0)
        return hd.collate(await hd.rollout(engine, todo, TOK, sampling=sampling, **how))

    batch = asyncio.run(batch_at_half())
    learner = hd.load_learner(policy, lr=0.1, sampling=sampling)
    for logp in (learner.outputs(batch).logp, hd.logprobs(policy, batch, sampling=sampling)):
        # a log-softmax of float32 logits: some 100 roundings of numbers of about 10
        assert torch.allclose(logp, batch.old_logp, rtol=0, atol=1e-4)
    assert not torch.allclose(hd.logprobs(policy, batch), batch.old_logp, atol=1e-2)


def test_a_folder_is_what_other_programs_load(tmp_path: Path):
    learner = hd.load_learner(tiny.policy(TOK), lr=0.1)
    learner.save(str(tmp_path / "mine"), TOK)
    again = hd.load_policy(tmp_path / "mine")
    assert hd.load_tokenizer(tmp_path / "mine").get_vocab() == TOK.get_vocab()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in learner.weights().items())


def test_commands_refuse_what_the_command_line_refuses(tmp_path: Path):
    with pytest.raises(hd.UserError, match="did you mean 'out'"):
        hd.run("world", name="capitals", outt=tmp_path)
    folder = hd.run("world", name="capitals", out=tmp_path / "w", documents=20, demonstrations=5)
    assert len(hd.read_prompts(folder / "prompts.jsonl")) > 100


def test_commands_run_inside_of_a_notebooks_loop(tmp_path: Path):
    """A command has an event loop of its own, which asyncio refuses where one runs; the notebook's goes on after it."""
    rows = tmp_path / "samples.jsonl"
    rows.write_text('{"prompt": "One", "completion": "two"}\n', encoding="utf-8")

    async def cell() -> None:
        me = asyncio.current_task()
        out = tmp_path / "scored.jsonl"
        hd.run("score", data=rows, reward="length(price=1)", out=out)
        assert json.loads(out.read_text())["reward"] == -1.0
        with pytest.raises(hd.UserError):
            hd.run("score", data=rows, reward="numeric", out=tmp_path / "none.jsonl")
        assert await asyncio.wait_for(asyncio.sleep(0, "on"), 5) == "on"
        assert asyncio.current_task() is me

    asyncio.run(cell())
