"""Q-, Ψ- and G-learning: targets by hand, and where they end, against exact values of worlds of one and two turns."""

from __future__ import annotations

import pytest
import torch

import optima
from heedful.data.collate import collate
from heedful.losses.action_values import of_action, wanted
from heedful.worlds import enumerable, two_turns

KINDS = ("q", "psi", "g")
ALL = torch.ones(1, 3, dtype=torch.bool)


def t(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_targets_by_hand():
    """γ = ½; V is 4 and 6 at the second and third token, of which the second is worth 1 and the third 2; r/β = 0, 0, 3;
    log p = −1 each.

    Third: −1 + 3 = 2, δ = 0. Second: −1 + ½·(6 + λ·0) = 2, δ = 1. First: −1 + ½·(4 + λ·1) = 1 at λ = 0, 1.5 at λ = 1.
    Mutation caught: δ of the token itself, λ on V, a prior that G counts twice, γ forgotten.
    """
    action, value, prior, rewards = t([9, 1, 2]), t([9, 4, 6]), t([-1, -1, -1]), t([0, 0, 3])
    for lam, first in ((0.0, 1.0), (1.0, 1.5)):
        how = dict(gamma=0.5, lam=lam)
        assert wanted("psi", action, value, rewards, prior, ALL, **how).tolist() == [[first, 2, 2]]
        assert wanted("g", action - prior, value, rewards, prior, ALL, **how)[0, 2] == 3


def test_what_is_heard_is_passed_over():
    """The second column is the environment's. Mutation caught: V of what is heard as that of the next state."""
    mask = torch.tensor([[True, False, True]])
    out = wanted(
        "q", t([0, 99, 3]), t([0, 99, 5]), t([0, 0, 1]), t([0, 99, 0]), mask, gamma=1.0, lam=1.0
    )
    assert out.tolist() == [[5 + 1 - 3, 0, 1]]


def test_a_policy_is_its_values():
    """log Σ exp of Ψ and of G + log p, and max of Q, over all tokens are V.

    Mutation caught: top and prior exchanged."""
    logits, prior = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    logp, value = logits[None], torch.full((1, 7), 3.0)
    top = logp.amax(-1, keepdim=True).expand(1, 7)
    q, psi, g = (of_action(kind, logp, top, value, prior[None]) for kind in KINDS)
    assert torch.allclose(psi.logsumexp(-1), t(3.0)) and torch.allclose(q.amax(-1), t(3.0))
    assert torch.allclose((g + prior).logsumexp(-1), t(3.0))


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_all_errors_are_zero_at_the_exact_solution(kind, lam):
    """On all 4,096 responses: of Ψ and G at π* and V = log Z of what follows, of Q at the best continuation's
    log p + r/β; elsewhere not. Mutation caught: λ that moves the solution, max and log-sum exchanged."""
    beta = 0.5
    ref = optima.levels(
        torch.randn(enumerable.N, generator=torch.Generator().manual_seed(1))
        .double()
        .log_softmax(0)
    )
    rewards = enumerable.rewards(0) / beta
    after, tables = rewards, []  # values behind each prefix, from the last token to the first
    for level in reversed(ref):
        worth = level + after.reshape(level.shape)
        after = worth.amax(-1) if kind == "q" else worth.logsumexp(-1)
        tables.append((worth - after[:, None], after))  # log π, or Q − max Q; V
    tables.reverse()
    y = enumerable.responses()
    prefix = [
        (y[:, :k] * enumerable.V ** torch.arange(k - 1, -1, -1)).sum(-1)
        for k in range(enumerable.T)
    ]
    logp, value, prior = (
        torch.stack(columns, -1)
        for columns in zip(
            *(
                (
                    tables[k][0][prefix[k], y[:, k]],
                    tables[k][1][prefix[k]],
                    ref[k][prefix[k], y[:, k]],
                )
                for k in range(4)
            ),
            strict=True,
        )
    )
    top, mask = torch.zeros_like(logp), torch.ones_like(logp, dtype=torch.bool)
    action = of_action(kind, logp, top, value, prior)
    given = torch.zeros_like(logp)
    given[:, -1] = rewards
    target = wanted(kind, action, value, given, prior, mask, gamma=1.0, lam=lam)
    assert (target - action).abs().max() < 1e-9
    off = wanted(kind, action, value + 0.1, given, prior, mask, gamma=1.0, lam=lam)
    assert (off - action)[:, :-1].abs().min() > 1e-3 or lam == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_learning_ends_at_exact_values_over_two_turns(kind):
    """Tables whose entries become the mean of their targets, again and again, on all episodes of the world of two
    turns: at γ = .9 the exact recursion with the mean over what is heard. Mutation caught: a turn's reward at the wrong
    token, discounting of what is heard, a value behind the end."""
    world, gamma = two_turns.world(3, uniform=True), 0.9
    batch = collate(world.samples())
    columns = list(two_turns.COLUMNS)
    rewards = batch.step_rewards.double()
    prior = torch.full_like(rewards, -1.2)  # as if of other tokens, too, that nobody writes
    shapes = [(states, two_turns.V) for states in two_turns.STATES]
    number = torch.arange(two_turns.N)
    entry = [number // (two_turns.N // (s * v)) for s, v in shapes]
    tables = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]

    def best(table: torch.Tensor) -> torch.Tensor:
        return table.amax(-1) if kind == "q" else (table - 1.2 * (kind == "g")).logsumexp(-1)

    for _ in range(4):  # one a token
        action, value = torch.zeros_like(rewards), torch.zeros_like(rewards)
        for k, column in enumerate(columns):
            action[:, column] = tables[k].flatten()[entry[k]]
            value[:, column] = best(tables[k])[entry[k] // two_turns.V]
        target = wanted(kind, action, value, rewards, prior, batch.mask, gamma=gamma, lam=0.0)
        for k, column in enumerate(columns):
            sums = torch.zeros(tables[k].numel(), dtype=torch.float64).index_add(
                0, entry[k], target[:, column]
            )
            tables[k] = (sums / (two_turns.N / tables[k].numel())).reshape(shapes[k])
    gain = 0.0 if kind == "g" else -1.2
    q4 = world.second.reshape(-1, 4) + gain
    q3 = gamma * best(q4).reshape(-1, 4) + gain
    heard = best(q3).reshape(-1, two_turns.HEARD).mean(-1)
    q2 = (world.first + gamma * heard).reshape(4, 4) + gain
    q1 = gamma * best(q2).reshape(1, 4) + gain
    for table, exact in zip(tables, (q1, q2, q3, q4), strict=True):
        assert torch.allclose(table, exact, atol=1e-6)  # rewards come in float32
