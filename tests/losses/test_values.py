"""ILQL's losses against hand-worked tables, and where they end against exact values of a world of two turns."""

from __future__ import annotations

import pytest
import torch

from heedful.data.collate import collate
from heedful.losses.values import TokenValues, expectile, ilql, next_values
from heedful.worlds import two_turns


def t(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def values(q1, q2=None, target=None, v=None, chosen=0.0):
    zero = torch.zeros_like(q1)
    q2, target, v = (zero if x is None else x for x in (q2, target, v))
    return TokenValues(q1, q2, target, v, zero + chosen, zero + 2 * chosen)


def test_expectile_by_hand():
    """τ = .7: errors of 2 and −2 cost 2.8 and 1.2. Mutation caught: τ and 1 − τ exchanged."""
    assert torch.allclose(expectile(t(2, -2, 0), 0.7), t(2.8, 1.2, 0))


def test_the_next_state_is_before_the_policys_next_token():
    """Column 2 is heard. Mutation caught: t + 1 as the successor, V of what is heard, V behind the end."""
    mask = torch.tensor([[True, True, False, True], [False, True, False, False]])
    following, last = next_values(t([1, 2, 3, 4], [5, 6, 7, 8]), mask)
    assert following.tolist() == [[2, 4, 0, 0], [0, 0, 0, 0]]
    assert last.tolist() == [[False, False, False, True], [False, True, False, False]]


def test_losses_by_hand():
    """γ = ½, τ = .9, two tokens around one that is heard, rewards 0 and 3.

    Targets of Q: 0 + ½·4 = 2 and 3. L_Q = (2 − 1)² + (2 − 0)² = 5 and (3 − 5)² + (3 − 2)² = 5. L_V: min Q̂ − V = 1
    → .9 and 1 − 4 = −3 → .1·9 = .9. L_CQL = −(−.5 − 1) = 1.5.
    """
    mask = torch.tensor([[True, False, True]])
    x = values(t([1, 9, 5]), t([0, 9, 2]), t([2, 9, 1]), t([1, 9, 4]), chosen=-0.5)
    out = ilql(x, t([0, 9, 3]), mask, torch.tensor([False]), gamma=0.5, tau=0.9)
    assert torch.allclose(out.q, t([5, 0, 5]))
    assert torch.allclose(out.v, t([0.9, 0, 0.9]))
    assert torch.allclose(out.cql, t([1.5, 0, 1.5]))


def test_behind_a_truncated_episode_nothing_is_known():
    """Its last Q has no target. Mutation caught: V(s′) = 0 at a limit, a whole episode left out."""
    mask = torch.tensor([[True, True]])
    x, rewards = values(t([0, 0]), v=t([0, 1])), t([0, 3])
    cut = ilql(x, rewards, mask, torch.tensor([True]), gamma=1.0, tau=0.5)
    whole = ilql(x, rewards, mask, torch.tensor([False]), gamma=1.0, tau=0.5)
    assert cut.q.tolist() == [[2, 0]] and whole.q.tolist() == [[2, 18]]
    assert cut.v.tolist() == whole.v.tolist()


def test_targets_carry_no_gradient():
    """V is pulled by L_V alone, the Qs by L_Q alone. Mutation caught: a target that is moved towards what it judges."""
    q1, target, v = (torch.full((1, 2), x, requires_grad=True) for x in (1.0, 2.0, 3.0))
    mask = torch.ones(1, 2, dtype=torch.bool)
    how = dict(gamma=0.9, tau=0.7)
    out = ilql(values(q1, q1, target, v), t([1, 1]), mask, torch.tensor([False]), **how)
    assert torch.autograd.grad(out.q.sum(), [q1, v, target], allow_unused=True)[1:] == (None, None)
    grads = torch.autograd.grad(out.v.sum(), [v, q1, target], allow_unused=True)
    assert grads[0] is not None and grads[1:] == (None, None)


@pytest.mark.parametrize("tau, gamma", [(0.5, 1.0), (0.7, 0.99), (0.95, 0.8)])
def test_exact_values_are_where_the_losses_end(tau, gamma):
    """A number for every state and token of the world: at its exact values no gradient is left, over all episodes by
    how likely each is; elsewhere there is. Each loss is convex in what it moves, so they end nowhere else. Mutations
    caught: an expectile over what is heard, too (the best luck in place of the mean); γ once a turn; the second turn's
    reward not carried into the first; a successor inside what is heard."""
    world = two_turns.world(seed=1)
    batch, chances = collate(world.samples()), world.chances()
    assert abs(float(chances.sum()) - 1) < 1e-12
    number = torch.arange(two_turns.N)
    states = [number // (two_turns.N // n) for n in two_turns.STATES]
    columns = torch.tensor(two_turns.COLUMNS)
    tokens = batch.tokens[:, 1:][:, columns].T

    def tables(off: float) -> tuple[list, list]:
        """Q of every state and token, V of every state, as parameters."""
        q_exact, v_exact = world.exact(gamma, tau)
        q, v = [], []
        for k, n in enumerate(two_turns.STATES):
            q.append(torch.zeros(n, two_turns.V, dtype=torch.double) + off)
            q[k][states[k], tokens[k]] = q_exact[:, k] + off
            v.append(torch.zeros(n, dtype=torch.double))
            v[k][states[k]] = v_exact[:, k] + off
        return [x.requires_grad_() for x in q], [x.requires_grad_() for x in v]

    def slope(off: float) -> float:
        q, v = tables(off)
        said = torch.stack([q[k][states[k], tokens[k]] for k in range(4)], -1)
        state = torch.stack([v[k][states[k]] for k in range(4)], -1)
        said, state = (
            torch.zeros(two_turns.N, 5, dtype=torch.double).index_copy(1, columns, x)
            for x in (said, state)
        )
        x = TokenValues(said, said, said.detach(), state, 0 * said, 0 * said)
        rewards = batch.step_rewards.double()
        out = ilql(x, rewards, batch.mask, batch.truncated, gamma=gamma, tau=tau)
        loss = (chances[:, None] * (out.q + out.v)).sum()
        return max(float(g.abs().max()) for g in torch.autograd.grad(loss, [*q, *v]))

    assert slope(0.0) < 1e-6 < 1e-3 < slope(0.1)


def test_expectiles_of_the_world():
    """Of 0 and 1, each half the time, the τ-expectile is τ."""
    found = two_turns.expectiles(
        torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[0.5, 0.5]]).double(), 0.8
    )
    assert torch.allclose(found, torch.tensor([0.8]).double())
