"""The model of raters gives back what was planted, its gradients are right, and advice is given where it is due."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from heedful.cli import main
from heedful.data.sources import write_rows
from heedful.errors import UserError
from heedful.raters import reliability
from heedful.raters.advice import _advice, about, drifted
from heedful.raters.agreement import share
from heedful.raters.reliability import Estimate, collected
from heedful.raters.weights import fitted_to
from heedful.types import Comparison

VOCABULARY = [f"word{i}" for i in range(40)]


def world(
    people: Mapping[str, tuple[float, float, float]], each: int, seed: int, prompts: int = 150
) -> list[Comparison]:
    """Comparisons of people with (η, log-odds for the first, log-odds for a standard deviation more of length)."""
    rng = random.Random(seed)
    worth = {word: rng.gauss(0, 1.5) for word in VOCABULARY}
    texts = [
        [" ".join(rng.choices(VOCABULARY, k=rng.randint(3, 15))) for _ in range(2)]
        for _ in range(prompts)
    ]
    lengths = [math.log1p(len(a.split())) - math.log1p(len(b.split())) for a, b in texts]
    spread = math.sqrt(sum(x * x for x in lengths) / len(lengths))
    rows = []
    for name, (eta, first, longer) in people.items():
        for _ in range(each):
            p = rng.randrange(prompts)
            a, b = texts[p]
            place = rng.choice((1, -1))
            z = sum(worth[w] for w in a.split()) / math.sqrt(len(a.split()))
            z -= sum(worth[w] for w in b.split()) / math.sqrt(len(b.split()))
            z += first * place + longer * lengths[p] / spread
            prefers_a = (rng.random() < 1 / (1 + math.exp(-z))) == (rng.random() < eta)
            rows.append(
                Comparison(
                    f"prompt {p}",
                    (a, b),
                    (1, 2) if prefers_a else (2, 1),
                    rater=name,
                    order_shown=(0, 1) if place == 1 else (1, 0),
                    seconds=12.0,
                )
            )
    return rows


PEOPLE = {
    **{f"good{i}": (0.97, 0.0, 0.0) for i in range(12)},
    "first": (0.97, 2.5, 0.0),
    "long": (0.97, 0.0, 2.5),
    "guesses": (0.5, 0.0, 0.0),
    "reverse": (0.05, 0.0, 0.0),
}


def test_gradients_are_those_of_finite_differences():
    """Mutation caught: a sign or an index in z, in the mixture or in a prior (crowd-kit's were wrong)."""
    rows = world({"a": (0.9, 1.0, 0.0), "b": (0.4, 0.0, 1.0)}, 6, seed=0, prompts=4)
    rows.append(Comparison("p", ("x y", "z", "q r s"), (1, 2, None), rater="b"))
    pairs = collected(rows).pairs()
    pairs = replace(pairs, words=pairs.words.double())
    names = list(theta := reliability.start(pairs))
    torch.manual_seed(0)
    values = [torch.randn_like(theta[name]) for name in names]

    def f(*some: torch.Tensor) -> torch.Tensor:
        return reliability.objective(dict(zip(names, some, strict=True)), pairs)

    assert torch.autograd.gradcheck(f, [v.requires_grad_() for v in values], atol=1e-5)
    # P(i ≻ j) and P(j ≻ i) are one together.
    theta = dict(zip(names, values, strict=True))
    turned = replace(
        pairs, better=pairs.worse, worse=pairs.better, place=-pairs.place, length=-pairs.length
    )
    both = [reliability.log_likelihood(theta, p).exp() for p in (pairs, turned)]
    torch.testing.assert_close(sum(both), torch.ones_like(both[0]))


def test_a_ranking_counts_as_one_pair_less_than_it_has_responses():
    """Mutation caught: a ranking of four speaks six times as loudly as a pair; what nobody ordered becomes a pair."""
    four = Comparison("p", ("a", "b", "c", "d"), (1, 2, 3, 4), rater="x")
    best = Comparison("p", ("a", "b", "c"), (1, None, None), rater="x")
    tie = Comparison("p", ("a", "b"), (1, 1), rater="x")
    nobody = Comparison("p", ("a", "b"), (1, 2))
    pairs = collected([four, best, tie, nobody]).pairs()
    assert len(pairs.row) == 6 + 2 and pairs.weight.sum().item() == pytest.approx(3 + 2)
    assert not pairs.place.any()  # nobody knows what was shown first
    with pytest.raises(UserError, match="no comparison has both a rater and an order"):
        collected([tie, nobody]).pairs()


def test_what_was_planted_is_found():
    """Mutation caught: adversaries, guessers and people with habits are taken for one another."""
    people = {a.rater: a for a in about(collected(world(PEOPLE, 120, seed=1)))}
    assert people["reverse"].reliability.high < 0.5 and people["reverse"].weight == 0
    assert people["guesses"].reliability.low < 0.6 and people["guesses"].weight < 0.5
    assert people["first"].place.low > 0.5 and people["long"].length.low > 0.5
    good = [people[f"good{i}"] for i in range(12)]
    assert all(a.reliability.low > 0.6 and a.weight > 0.7 for a in good)
    inside = [e.low <= true <= e.high for a in good for e, true in ((a.reliability, 0.97), (a.place, 0.0))]  # fmt: skip
    assert sum(inside) >= 0.7 * len(inside)  # somewhat narrow: worth is taken as known
    assert "the reverse of the others" in people["reverse"].advice[0]
    assert any("what stands first" in s for s in people["first"].advice)
    assert any("long responses" in s for s in people["long"].advice)
    assert sum(bool(a.advice) for a in good) <= 1  # nobody is told of noise


@pytest.mark.long
def test_few_answers_flatter_nobody():
    """Mutation caught: worth and reliability are fitted to the same answers, which then explain themselves."""
    people = {"ada": (0.97, 0.0, 0.0), "bob": (0.97, 0.0, 0.0), "eve": (0.03, 0.0, 0.0)}
    for seed in range(3):
        fitted = {a.rater: a for a in about(collected(world(people, 40, seed, prompts=400)))}
        assert fitted["eve"].reliability.low < 0.6


def test_advice_needs_ground():
    """Mutation caught: somebody is blamed for five answers; two halves that differ by chance are a drift."""
    few = about(collected(world({"new": (0.02, 0.0, 0.0), **PEOPLE}, 5, seed=2)))
    assert all(len(a.advice) == 1 and "too few to tell" in a.advice[0] for a in few)
    fours = [
        Comparison(
            f"p{k}", ("a", "b", "c", "d"), (1, 2, 3, 4) if k % 3 else (2, 1, 4, 3), rater="new"
        )
        for k in range(6)
    ]
    (few_rankings,) = about(collected(fours))  # 36 pairs, of which three in a ranking are free
    assert "too few to tell" in few_rankings.advice[0]
    assert drifted(share(58, 60), share(40, 60)) and not drifted(share(50, 60), share(47, 60))
    assert not drifted(share(0, 0), share(3, 3))


def test_who_is_unknown_is_not_paused():
    """Mutation caught: a good rater whose interval is still wide is called a guesser; a guesser never is."""

    def told(low: float, value: float, high: float) -> str:
        nothing, none = Estimate(0.0, -1.0, 1.0), share(0, 0)
        sure = Estimate(value, low, high)
        said = _advice(
            40,
            reliability=sure,
            place=nothing,
            length=nothing,
            before=none,
            after=none,
            seconds=None,
        )
        return "; ".join(said)

    assert "pause" in told(0.4, 0.55, 0.7)
    assert "pause" not in told(0.3, 0.88, 0.99) and "more answers" in told(0.3, 0.88, 0.99)
    assert not told(0.6, 0.88, 0.99)


def test_the_command(tmp_path, capsys):
    """Mutation caught: a table that is not what the file says; a file without raters ends in a traceback."""
    rows = world({"ada": (0.97, 0, 0), "bob": (0.97, 0, 0), "eve": (0.03, 0, 0)}, 90, 3, prompts=30)
    rows.append(Comparison("p", ("a", "b"), (1, 2)))
    file, out = tmp_path / "c.jsonl", tmp_path / "raters.json"
    write_rows(
        file,
        (
            {
                "prompt": c.prompt,
                "responses": list(c.responses),
                "ranking": list(c.ranking),
                **({"rater": c.rater, "order_shown": list(c.order_shown or ())} if c.rater else {}),
            }
            for c in rows
        ),
    )
    assert main(["raters", str(file), "--out", str(out)]) == 0
    told, kept = capsys.readouterr().out, json.loads(out.read_text())
    assert "eve: says the reverse" in told and "without a rater are left out: 1" in told
    assert kept["weights"]["eve"] == 0 and kept["weights"]["ada"] > 0.5
    assert kept["raters"][0]["rater"] == "eve"
    write_rows(file, [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    assert main(["raters", str(file)]) == 2
    assert "no comparison has both a rater and an order" in capsys.readouterr().err


@pytest.mark.long
def test_gold_tells_a_majority_that_errs_together(tmp_path, capsys):
    """Six of ten say the reverse. Without gold they are taken for the truth; with the right answer to a seventh of the
    questions nobody is. Mutations caught: gold that the fit of worth never hears of, gold with its sides changed, one
    version for the weights of both."""
    people = {f"liar {k}": (0.05, 0.0, 0.0) for k in range(6)} | {
        f"good {k}": (0.95, 0.0, 0.0) for k in range(4)
    }
    rows = world(people, 50, seed=5)
    truth = world({"truth": (1.0, 0.0, 0.0)}, 400, seed=5)
    known = {c.prompt: c for c in truth if int(c.prompt.split()[1]) < 22}
    gold = [replace(c, rater=None) for c in known.values()]
    assert len(gold) > 15

    def of(kind: str, told: list) -> list[float]:
        return [a.reliability.value for a in told if a.rater.startswith(kind)]

    without, with_gold = about(collected(rows)), about(collected(rows, gold))
    assert min(of("liar", without)) > 0.5 > max(of("good", without))
    assert max(of("liar", with_gold)) < 0.5 < min(of("good", with_gold))
    for name, of_rows in (("rows", rows), ("gold", gold)):
        fields = ("prompt", "responses", "ranking", "rater", "order_shown")
        kept = [{f: getattr(c, f) for f in fields if getattr(c, f) is not None} for c in of_rows]
        write_rows(tmp_path / f"{name}.jsonl", kept)
    command = ["raters", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "o.json")]
    assert main([*command, "--gold", str(tmp_path / "gold.jsonl")]) == 0
    told = json.loads((tmp_path / "o.json").read_text())
    assert told["version"] != fitted_to(rows).version
    assert told["weights"]["liar 0"] == 0 < told["weights"]["good 0"]
    assert all(r["gold"]["n"] > 0 for r in told["raters"]) and " of " in capsys.readouterr().out
    write_rows(tmp_path / "other.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    command = ["raters", str(tmp_path / "gold.jsonl"), "--gold", str(tmp_path / "other.jsonl")]
    write_rows(tmp_path / "gold.jsonl", [row | {"rater": "ada"} for row in kept[:5]])
    assert main(command) == 2
    assert "nobody has compared any two of its responses" in capsys.readouterr().err
