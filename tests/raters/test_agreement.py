"""Agreement: α against published tables, intervals that cover, and undefined where it is undefined."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from heedful.raters.agreement import (
    alpha,
    difference,
    position,
    share,
    swaps,
    with_others,
)

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units.
TABLE = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}


def long(table: dict[str, list]) -> tuple[list, list, list]:
    cells = [(u, r, x) for r, row in table.items() for u, x in enumerate(row) if x is not None]
    units, raters, values = zip(*cells, strict=True)
    return list(units), list(raters), list(values)


def by_definition(table: dict[str, list], distance) -> float:
    """α from the coincidence matrix, written out: the slow second implementation."""
    columns = [[x for x in column if x is not None] for column in zip(*table.values(), strict=True)]
    columns = [c for c in columns if len(c) > 1]
    pooled = [x for c in columns for x in c]
    n = len(pooled)
    observed = sum(
        distance(a, b, pooled) / (len(c) - 1) for c in columns for a, b in permutations(c, 2)
    )
    expected = sum(distance(a, b, pooled) for a, b in permutations(pooled, 2)) / (n - 1)
    return 1 - observed / expected


def nominal(a, b, _):
    return float(a != b)


def interval(a, b, _):
    return float((a - b) ** 2)


def ordinal(a, b, pooled):
    low, high = min(a, b), max(a, b)
    between = sum(1 for x in pooled if low <= x <= high)
    return float((between - (pooled.count(a) + pooled.count(b)) / 2) ** 2) if a != b else 0.0


@pytest.mark.parametrize(
    "level, value", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_the_published_example(level, value):
    """Missing data, and unit 12 with one rating, which must not count."""
    found = alpha(*long(TABLE), level=level, draws=0)
    assert found.value == pytest.approx(value, abs=0.0005)
    assert (found.units, found.raters, found.values) == (11, 4, 40)
    assert (found.low, found.high) == (None, None)


def test_two_observers_two_categories():
    """Section A of the same text: ten units, α = 0.095; agreement hardly better than chance."""
    table = {"Meg": [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], "Owen": [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]}
    assert alpha(*long(table), level="nominal", draws=0).value == pytest.approx(0.095, abs=0.0005)


@pytest.mark.parametrize(
    "level, distance", [("nominal", nominal), ("ordinal", ordinal), ("interval", interval)]
)
def test_random_tables_against_the_definition(level, distance):
    rng = np.random.default_rng(3)
    for _ in range(20):
        shape = (int(rng.integers(2, 6)), int(rng.integers(3, 15)))
        grid = rng.integers(0, 4, shape).tolist()
        table = {
            f"r{i}": [x if rng.random() < 0.8 else None for x in row] for i, row in enumerate(grid)
        }
        found = alpha(*long(table), level=level, draws=0)
        if found.value is not None:
            assert found.value == pytest.approx(by_definition(table, distance))


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_undefined_on_unanimous_data_and_says_so(level):
    """0/0; a 1.0 here would praise raters of whom nothing is known."""
    found = alpha([1, 1, 2, 2], ["a", "b", "a", "b"], [0.1, 0.1, 0.1, 0.1], level=level)
    assert found.value is None and "always said the same" in (found.why or "")
    nobody = alpha([1, 2], ["a", "b"], [1, 2], level=level)
    assert nobody.value is None and nobody.units == 0 and "no two" in (nobody.why or "")
    assert alpha([], [], [], level=level).value is None


def test_perfect_and_opposite():
    units, raters = [0, 0, 1, 1, 2, 2, 3, 3], ["a", "b"] * 4
    assert alpha(units, raters, list("xxyyxxyy"), level="nominal").value == 1.0
    opposite = alpha(units, raters, list("xyyxxyyx"), level="nominal").value
    assert opposite is not None and opposite < -0.1


def test_names_and_order_of_the_ratings_do_not_matter():
    units, raters, values = long(TABLE)
    mixed = np.random.default_rng(0).permutation(len(units))
    again = alpha(
        [f"unit {units[i]}" for i in mixed],
        [raters[i].lower() for i in mixed],
        [str(values[i]) for i in mixed],
        level="nominal",
        draws=0,
    )
    assert again.value == pytest.approx(0.743, abs=0.0005)


def test_interval_is_blind_to_scale_and_ordinal_to_stretching():
    units, raters, values = long(TABLE)
    far = alpha(units, raters, [1e6 + 1e-3 * v for v in values], level="interval", draws=0).value
    assert far == pytest.approx(0.849, abs=0.0005)
    stretched = alpha(units, raters, [float(v) ** 5 for v in values], level="ordinal", draws=0)
    assert stretched.value == pytest.approx(0.815, abs=0.0005)


def simulate(rng, items: int, skills) -> tuple[list, list, list]:
    """Raters who know the truth of two equally frequent values with chances of their own, else guess."""
    truth = rng.integers(0, 2, items)
    units, raters, values = [], [], []
    for k, skill in enumerate(skills):
        knows = rng.random(items) < skill
        said = np.where(knows, truth, rng.integers(0, 2, items))
        units += list(range(items))
        raters += [k] * items
        values += said.tolist()
    return units, raters, values


def test_the_interval_covers_what_other_items_and_other_raters_would_give():
    """Skills differ between raters: an interval from items alone misses the mean far too often."""
    rng = np.random.default_rng(0)
    mean_skill, hits, trials = 0.65, 0, 60
    for trial in range(trials):
        skills = rng.uniform(0.3, 1.0, 12)
        found = alpha(*simulate(rng, 80, skills), level="nominal", draws=150, seed=trial)
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low < found.value < found.high
        # α of a pair is the product of their chances to know; over raters at large its mean is 0.65².
        hits += found.low <= mean_skill**2 <= found.high
    assert hits / trials >= 0.85


def test_more_items_narrow_the_interval():
    rng = np.random.default_rng(1)
    widths = []
    for items in (40, 640):
        found = alpha(*simulate(rng, items, [0.7] * 8), level="nominal", draws=200)
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_units_that_hang_together_are_drawn_together():
    """Ten copies of each rating as one cluster know no more than one copy."""
    rng = np.random.default_rng(2)
    units, raters, values = simulate(rng, 30, [0.7] * 5)
    one = alpha(units, raters, values, level="nominal")
    copies = [
        (f"{u}/{k}", r, v, u)
        for u, r, v in zip(units, raters, values, strict=True)
        for k in range(10)
    ]
    many_units, many_raters, many_values, clusters = (list(c) for c in zip(*copies, strict=True))
    apart = alpha(many_units, many_raters, many_values, level="nominal")
    together = alpha(many_units, many_raters, many_values, level="nominal", clusters=clusters)
    width = [a.high - a.low for a in (one, apart, together)]  # type: ignore[operator]
    assert width[2] == pytest.approx(width[0], rel=0.15)
    assert width[1] < width[0] * 0.9


def test_two_raters_still_get_an_interval():
    """Half of the draws take one of two raters twice, where nothing can be compared."""
    found = alpha(*simulate(np.random.default_rng(4), 60, [0.8, 0.8]), level="nominal")
    assert found.low is not None and found.low < (found.value or 0) < (found.high or 0)


def test_the_same_seed_gives_the_same_interval():
    data = simulate(np.random.default_rng(5), 30, [0.6] * 4)
    assert alpha(*data, level="nominal", seed=1) == alpha(*data, level="nominal", seed=1)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="twice"):
        alpha([1, 1, 1], ["a", "a", "b"], [1, 2, 3], level="nominal")
    with pytest.raises(ValueError, match="length"):
        alpha([1, 1], ["a"], [1, 2], level="nominal")


def test_shares_of_nothing_and_of_everything():
    assert share(0, 0).value is None and share(3, 3).high == 1.0


def test_with_others_by_hand():
    """a and b agree on both; c agrees with nobody on 1 and was alone on 3."""
    found = with_others([1, 1, 1, 2, 2, 3], list("abcabc"), list("xxyzzz"))
    assert {k: (s.count, s.n) for k, s in found.items()} == {"a": (2, 3), "b": (2, 3), "c": (0, 2)}
    assert with_others([1, 2], ["a", "b"], [0, 0]) == {}


def test_places_and_swaps_by_hand():
    assert position([0, 0, 1, 0]).value == 0.75 and position([]).value is None
    # the same response (other place), kept to the first place, kept to the second, tie twice, tie then not
    found = swaps([0, 0, 1, None, None], [1, 0, 1, None, 0])
    assert (found.consistent.count, found.consistent.n) == (2, 5)
    assert (found.first.count, found.first.n) == (1, 2)


def test_a_difference_of_shares():
    """Newcombe (1998), table II, method 10; the sign follows the order, and nothing is said of an empty share.

    Mutations caught: the halves swapped (0.3339 would be 0.3350), Wald's interval, the sides confused."""
    found = difference(share(56, 70), share(48, 80))
    assert found and (found.value, found.low, found.high) == pytest.approx(
        (0.2, 0.0524, 0.3339), abs=5e-5
    )
    other = difference(share(48, 80), share(56, 70))
    assert other and (other.low, other.high) == pytest.approx((-found.high, -found.low))
    extreme = difference(share(10, 10), share(0, 10))
    assert extreme and extreme.low < extreme.value == extreme.high == 1.0
    assert difference(share(0, 0), share(1, 2)) is None
