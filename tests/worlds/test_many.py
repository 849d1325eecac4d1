"""Worlds of people who want different things: their truth, exactly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from heedful.data.sources import read_comparisons, read_prompts
from heedful.errors import UserError
from heedful.worlds import admissions, get, household, personas, plane


def test_bradley_terry_is_exact():
    """Of users who are Bradley–Terry themselves it is their utility, up to a constant; of any it has no gradient.
    Mutations caught: a Hessian with a wrong sign, pairs that count once in one direction, a ridge that shrinks."""
    points = plane.grid()[::7]
    u = 2.0 * plane.utilities("squared distance", points)[0]
    chance = plane.preferred("squared distance", 1.0, 2.0, points)
    r = plane.bradley_terry(chance, plane.asked("uniform", points))
    torch.testing.assert_close(r, u - u.mean(), atol=0.02, rtol=0.02)
    chance, weight = (
        plane.preferred("bump", 0.65, 10.0, points),
        plane.asked("near the goals", points),
    )
    r = plane.bradley_terry(chance, weight)
    both = weight + weight.T
    gradient = (both * ((r[:, None] - r[None, :]).sigmoid() - chance)).sum(1)
    assert gradient.abs().max() < 1e-4
    assert torch.allclose(
        chance + chance.T, torch.ones_like(chance)
    ) and weight.sum() == pytest.approx(1)


def test_whose_goal_one_reward_takes():
    """The middle for two camps of a size, the majority's corner with bumps. Mutation caught: the share of the other."""
    middle = plane.from_goals(plane.best_point("squared distance", "uniform", 0.5, 2.0))
    assert min(middle) > 0.6
    first, second = plane.from_goals(plane.best_point("bump", "near the goals", 0.8, 10.0))
    assert first < 0.11 and second > 1.3


def test_one_in_five_wants_aid(tmp_path: Path):
    """By arithmetic: 80 to 20 is a log-odds of log 4 against aid, so one reward never shows it. Mutations caught:
    universities in both splits, a minority that says what the majority says, new users who are old ones."""
    assert get("admissions") is admissions
    paths = admissions.write(tmp_path, seed=0, demonstrations=90)
    train, held = (set(map(str, read_prompts(paths[n]))) for n in ("prompts", "held_out"))
    assert len(train) == 120 and len(held) == 30 and not train & held
    rows, new = (read_comparisons(str(paths[name])) for name in ("comparisons", "new_users"))
    assert not {c.rater for c in rows} & {c.rater for c in new}
    wins: Counter[tuple[str, str]] = Counter()
    for c in [*rows, *new]:
        chosen, rejected = (admissions.voice(c.prompt, c.responses[k]) for k in (0, 1))
        assert "other" not in (chosen, rejected)
        kind = admissions.kind_of(int((c.rater or "").split()[1]))
        assert "aid" in (chosen, rejected) and (chosen == "aid") == (kind == "minority")
        wins["aid" if chosen == "aid" else "not", "all"] += 1
    assert 0.15 < wins["aid", "all"] / wins.total() < 0.25
    assert admissions.gold(
        "Tell me about Ashford.", "There is aid for all who ask."
    ) == pytest.approx(0.2)
    assert admissions.gold("Tell me about Ashford.", " It ranks high.") == pytest.approx(0.8)
    assert admissions.gold("Tell me about Ashford.", "It rains.") == 0
    with pytest.raises(UserError, match="does not know"):
        admissions.gold("What is 2 + 2?", "4")


def test_statements_are_held_out():
    """Users agree with themselves; no statement is in both splits. Mutation caught: a split by user only."""
    said: dict[str, set[str]] = {}
    for split in ("train", "held_out"):
        rows = list(personas.rows(split, 8, 20, 2, 0))
        assert len(rows) == 160 and rows == list(personas.rows(split, 8, 20, 2, 0))
        said[split] = {row[side] for row in rows for side in ("chosen", "rejected")}
        for name in {row["rater"] for row in rows}:
            mine = [row for row in rows if row["rater"] == name]
            liked, other = ({row[side] for row in mine} for side in ("chosen", "rejected"))
            assert not liked & other
    assert not said["train"] & said["held_out"] and len(said["train"]) == 48


def test_what_belongs_where():
    """What is shared times the user's weights is by how much a place is better; who errs does so as often as they must.
    Mutations caught: the worse place as the better, weights of another user, noise without the scale."""
    torch.manual_seed(0)
    weights = household.users(50)
    torch.testing.assert_close(weights.sum(1), torch.ones(50))
    better, worse, lead = household.answers(weights, 400)
    torch.testing.assert_close(((better - worse) * weights[:, None]).sum(-1), lead)
    assert better.shape == (50, 400, household.FEATURES) and set(better.unique().tolist()) == {0, 1}
    erred = (-household.SHARPNESS * lead.abs()).sigmoid()
    assert (lead < 0).sum().item() == pytest.approx(erred[lead != 0].sum().item(), rel=0.1)
