"""Rankings as what losses read: pairs, liked-or-not rows, ranks."""

from heedful.training.judgments import judgments
from heedful.types import Sample

ROWS = [Sample((5, n), (False, True), (0.0, 0.0)) for n in range(4)]


def test_the_best_of_several_orders_nobody_else():
    """One of four was chosen. Mutation caught: a pair of two that nobody compared; a rank for those without one."""
    made = {
        reads: judgments(reads, ROWS, (None, 1, None, None), 1.0, "all")
        for reads in ("PairLogps", "LabelledLogps", "RankedLogps")
    }
    assert [tuple(s.tokens[1] for s in j.samples) for j in made["PairLogps"]] == [(1, 0), (1, 2), (1, 3)]  # fmt: skip
    liked = {j.samples[0].tokens[1]: j.labels[0] for j in made["LabelledLogps"]}
    assert liked == {0: 0.0, 1: 1.0, 2: 0.0, 3: 0.0}
    (whole,) = made["RankedLogps"]
    ranks = {s.tokens[1]: label for s, label in zip(whole.samples, whole.labels, strict=True)}
    assert ranks == {0: -1, 1: 1, 2: -1, 3: -1}
