"""`train psi_learning` and its kin: what is remembered, what tokens are given, and where a model goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import optima
from heedful.configs.q_learning import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.learner import load_learner
from heedful.learner.local import Optim, predict
from heedful.models.forward import action_outputs, add_value_head
from heedful.models.load import copy_model
from heedful.models.reference import Reference
from heedful.ranks import ALONE
from heedful.recipes import q_learning
from heedful.training.forwards import policy_forward
from heedful.types import Sample, Step
from heedful.worlds import enumerable as world


def config(**changes) -> Config:
    return Config(model="m", data="d", reward=("r",), out=Path("o"), **changes)


def test_what_is_remembered():
    """Two rounds of three, the oldest forgotten; a state brings all back. Mutation caught: a memory that grows."""
    memory = q_learning.Memory(2)
    for i in range(3):
        memory.add([Sample((i, i), (False, True), (0.0, -1.0))])
    assert [s.tokens[0] for s in memory.samples] == [1, 2]
    other = q_learning.Memory(2)
    other.load_state_dict(memory.state_dict())
    assert other.samples == memory.samples


def test_rewards_of_tokens():
    """By hand, β = ½: a turn's 2 at its last token, the score 3 at the last that was written, not at what is heard
    behind it. Mutation caught: β multiplied, a reward at padding."""
    samples = [
        Sample((9, 1, 2, 8, 3), (False, True, True, False, True), (0.0,) * 5, 3.0, steps=(Step(1, 3, 2.0), Step(4, 5))),
        Sample((9, 1, 8), (False, True, False), (0.0,) * 3, reward=1.0),
    ]  # fmt: skip
    given = q_learning.token_rewards(config(beta=0.5), collate(samples))
    assert given.tolist() == [[0, 4, 0, 6], [2, 0, 0, 0]]


def test_what_cannot_be():
    """Mutation caught: a slow copy of an adapter's base; greedy sampling, which tries nothing out."""
    with pytest.raises(UserError, match="greedy"):
        refuse_nonsense(config(temperature=0.0))
    with pytest.raises(UserError, match=r"--lora\.rank"):
        refuse_nonsense(config(lora=replace(config().lora, rank=4)))


@pytest.mark.long
def test_a_model_comes_towards_the_optimum():
    """A tiny Llama in the enumerable world, by the recipe's own pieces at β = 1: Ψ goes half the way from the prior to
    π* in 60 steps. Mutation caught: rewards or prior left out, a level that runs away, targets of another column."""
    prior, rewards = world.tiny_model(0), world.rewards(0)
    with torch.no_grad():
        ref = world.log_probs(prior, optima.PROMPT)
    policy = copy_model(prior).requires_grad_(True)
    add_value_head(policy)
    c = config(polyak=0.2)
    slow = Reference(copy_model(policy))
    learner = load_learner(
        policy, lambda m, b: action_outputs(m, b.tokens, b.mask), Optim(5e-3, 60, "cosine")
    )
    engine, level = LocalEngine(policy, max_rows=128), 0.0
    for step in range(60):
        batch, _ = optima.rolled_out(engine, 128, rewards, seed=step)
        batch = replace(batch, old_logp=predict(prior, policy_forward(), batch, 1 << 16).logp)
        part = q_learning.with_targets(c, batch, slow, level, ALONE)
        level += learner.step(q_learning.loss_of(c, level), part)["values/error"]
        slow.refresh(policy, c.polyak)
    with torch.no_grad():
        reached = world.log_probs(policy, optima.PROMPT)
    best = world.optimal(ref, rewards, 1.0)
    assert world.total_variation(reached, best) < 0.5 * world.total_variation(ref, best)
