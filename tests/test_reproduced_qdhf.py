"""The pieces of `heedful reproduce qdhf`, against what is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.reproductions import qdhf


def test_the_arm_and_its_cells():
    """Mutations caught: angles that are not relative to the link before, cells outside the square, a link too long."""
    straight, up, folded = (
        np.zeros(10),
        np.eye(1, 10)[0] * np.pi / 2,
        np.resize([np.pi, -np.pi], 10),
    )
    hands = qdhf.hand(np.stack([straight, up, folded]))
    assert hands == pytest.approx(np.array([[1, 0], [0, 1], [0, 0]]), abs=1e-9)
    assert qdhf.coverage(np.stack([straight, straight + 1e-6, up, folded])) == 3 / 2500
    corners = qdhf.cell_of(np.array([[-9.0, -9.0], [9.0, 9.0]]), -1.0, 1.0)
    assert corners.tolist() == [0, 2499]


def test_the_archive_keeps_the_best_of_each_cell():
    """Mutations caught: the last of a cell, the worse of two at once, a worse one that comes later."""
    rng = np.random.default_rng(0)
    all_solutions = rng.uniform(-1, 1, (400, 10))
    archive = qdhf.Archive(qdhf.hand, all_solutions[:200])
    archive.add(all_solutions[200:])
    cells = qdhf.cell_of(qdhf.hand(all_solutions), archive.low, archive.high)
    best = {c: float(-all_solutions[cells == c].std(1).min()) for c in set(cells.tolist())}
    assert len(archive.elites()) == len(best)
    assert {c: archive.quality[c] for c in best} == pytest.approx(best)


def test_triplets_are_ordered_and_learned():
    """Mutation caught: near and far exchanged, in the drawing or in the loss."""
    rng = np.random.default_rng(0)
    solutions = rng.uniform(-0.3, 0.3, (300, 10))  # nearly straight: about linear
    drawn = qdhf.triplets(solutions, 300, rng)
    assert (qdhf.closer(qdhf.hand, drawn) >= 0).all()
    held = qdhf.triplets(solutions, 300, rng)
    assert (qdhf.closer(qdhf.fitted(drawn, 0), held) > 0).mean() > 0.85
