"""What to ask next, against enumeration and closed forms."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch
from sqlalchemy import select

import tiny
from databases import new_store
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError
from heedful.models.load import new_reward_model
from heedful.models.save import save_model
from heedful.raters.choosing import (
    answered,
    bald,
    belief,
    chosen,
    disagreement,
    double_thompson,
    entropy,
    in_turn,
    most_likely,
    pair_and_rater,
    propensity,
)
from heedful.store.project import projects
from heedful.store.tables import schema
from workspace import make_project, make_task


def test_the_belief_is_laplaces():
    """The gradient is 0 at the most likely weights, the precision is the loss's Hessian, and draws have its inverse as
    their covariance. Mutations caught: better and worse exchanged, a ridge that is not in the Hessian, the Cholesky
    factor in place of its inverse, weights that are not read."""
    torch.manual_seed(0)
    d, weight = torch.randn(30, 3).double() + 0.3, torch.rand(30).double()

    def loss(w: torch.Tensor) -> torch.Tensor:
        return 0.25 * w @ w - (weight * torch.nn.functional.logsigmoid(d @ w)).sum()

    w, precision = most_likely(d, 0.5, weight)
    assert torch.autograd.functional.jacobian(loss, w).abs().max() < 1e-6
    torch.testing.assert_close(precision, torch.autograd.functional.hessian(loss, w))
    draws = belief(d, ridge=0.5, draws=20000, weight=weight)
    torch.testing.assert_close(draws.mean(0), w)
    torch.testing.assert_close(draws.T.cov(), torch.linalg.inv(precision), rtol=0.1, atol=0.02)


def test_what_an_answer_tells():
    """BALD is the mutual information of answer and draw, by its definition from the joint table; nothing where
    all draws agree, ln 2 where they are sure of opposites; disagreement is ½ there. Mutation caught: E H for H E."""
    margin = torch.tensor([[40.0, 0.0, 1.0], [-40.0, 0.0, -2.0]]).double()
    told = bald(margin)
    assert told[0] == pytest.approx(math.log(2)) and told[1] == pytest.approx(0)
    p = margin.sigmoid()[:, 2].tolist()
    mean = sum(p) / 2
    joint = sum(
        0.5 * q * math.log(q / m)
        for one in p
        for q, m in ((one, mean), (1 - one, 1 - mean))
    )  # fmt: skip
    assert told[2] == pytest.approx(joint)
    assert disagreement(margin).tolist() == pytest.approx([0.5, 0, (p[0] - p[1]) / 2])
    assert entropy(torch.tensor([0.0, 1.0, 0.5])).tolist() == pytest.approx([0, 0, math.log(2)])


def test_the_same_question_twice_tells_little_more():
    """What is left of two margins after an answer about one is the Gaussian posterior: Σ − Σ_k Σ_kᵀ/(Σ_kk + 1/w). So of
    three questions, two of which are one, the other comes second, though it tells less alone. Mutations caught: the
    most telling ones whatever was asked, the answered question alone made smaller, a variance for its root, and an
    order in which what was not asked comes before what was."""
    torch.manual_seed(0)
    mixed = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.8]])
    away = torch.randn(500, 3).double() @ mixed.double()
    away = away - away.mean(0)
    before = away.T @ away / len(away)
    after = answered(away, 0, 0.2)
    expected = before - before[:, :1] @ before[:1] / (before[0, 0] + 1 / 0.2)
    torch.testing.assert_close(after.T @ after / len(after), expected)
    assert torch.equal(answered(0 * away, 1, 0.2), 0 * away)
    margin = torch.stack([away[:, 0], away[:, 0], away[:, 2], 0 * away[:, 0]], 1)
    alone, told = bald(margin), in_turn(margin, 3, bald)
    assert alone[0] == alone[1] > alone[2] > told[1] > told[3] == 0
    assert told[0] == alone[0] > told[2] > told[1]
    assert torch.equal(in_turn(margin, 1, bald).argsort(descending=True)[:1], torch.tensor([0]))


def test_a_guesser_tells_nothing():
    """Who is surely a guesser tells neither; a sure friend and a sure foe tell as much as BALD; of whom nothing is
    known one learns from a pair that is known, and that only. Mutations caught: η taken for 2η − 1, raters and pairs
    exchanged, curiosity for the wrong term."""
    margin = torch.tensor([[40.0, 40.0, 0.5], [-40.0, 40.0, -1.0]]).double()
    reliability = torch.tensor([[0.5, 1.0, 0.0, 1.0], [0.5, 1.0, 0.0, 0.0]]).double()
    told = pair_and_rater(margin, reliability)
    assert told[:, 0].abs().max() < 1e-12
    torch.testing.assert_close(told[:, 1], bald(margin))
    torch.testing.assert_close(told[:, 2], bald(margin))
    assert told[1, 3] == pytest.approx(math.log(2)) and told[0, 3] == pytest.approx(0, abs=1e-9)
    assert pair_and_rater(margin, reliability, 0.0)[1, 3] == pytest.approx(0, abs=1e-9)


def test_double_thompson_asks_about_two():
    """Each response as often as it is the best of a draw, two different ones always. Mutation caught: the second
    best of one draw, which is never asked about here."""
    scores = torch.tensor([[3.0, 2.0, 0.0], [0.0, 2.0, 3.0]])
    asked = Counter(double_thompson(scores, random.Random(i)) for i in range(200))
    assert set(asked) == {(0, 2), (2, 0)} and min(asked.values()) > 70
    sure = torch.tensor([[3.0, 2.0, 0.0]] * 2)
    assert {double_thompson(sure, random.Random(i))[0] for i in range(20)} == {0}


def test_propensities_are_exact():
    """Over all sets that chance may draw; and over many seeds. Mutations caught: 1 for all of the best, u/N for all of
    the others, one off in the rank."""
    questions, number, by_chance = 7, 4, 2
    counts: Counter[int] = Counter()
    sets = list(combinations(range(questions), by_chance))
    for drawn in sets:
        rest = [i for i in range(questions) if i not in drawn][: number - by_chance]
        counts.update((*drawn, *rest))
    for rank in range(questions):
        wanted = counts[rank] / len(sets)
        assert propensity(questions, number, by_chance, rank) == pytest.approx(wanted)
    values = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.4]
    seen: Counter[int] = Counter()
    for seed in range(400):
        asked = chosen(values, number, uniform=0.5, seed=seed)
        assert len({a.number for a in asked}) == number and sum(a.by_chance for a in asked) == 2
        seen.update(a.number for a in asked)
    for a in asked:
        assert seen[a.number] / 400 == pytest.approx(a.propensity, abs=0.08)
    assert [a.number for a in chosen(values, 3, uniform=0.0)] == [1, 4, 2]
    assert all(a.propensity == 1 for a in chosen(values, 3, uniform=0.0))
    for number, share in ((8, 0.1), (2, 1.5)):
        with pytest.raises(UserError):
            chosen(values, number, uniform=share)


def test_samples_to_questions(tmp_path: Path, capsys):
    """The command: what people have answered a hundred times is not asked again, what nobody has seen is. Mutations
    caught: the least telling first, pairs of equal texts, a propensity of the prompt for that of the pair."""
    model, tok = tmp_path / "model", tiny.tokenizer()
    model.mkdir()
    tiny.policy(tok).save_pretrained(tmp_path / "base")
    tok.save_pretrained(tmp_path / "base")
    save_model(new_reward_model(str(tmp_path / "base"), seed=0), tok, model)
    known = {"prompt": "well known?", "chosen": "yes", "rejected": "no"}
    write_rows(tmp_path / "answered.jsonl", [known] * 100)
    texts = {
        "well known?": ["yes", "no", "no"],
        "new?": ["green", "blue", "odd"],
        "dull?": ["one", "one"],
    }
    rows = [{"prompt": p, "completion": r} for p, of in texts.items() for r in of]
    write_rows(tmp_path / "samples.jsonl", rows)
    words = ["choose", "--reward", model, "--answered", tmp_path / "answered.jsonl"]
    words += ["--data", tmp_path / "samples.jsonl", "--out", tmp_path / "asked.jsonl"]
    for strategy in ("bald", "disagreement", "double_thompson"):
        flags = ["--number", "1", "--uniform", "0", "--strategy", strategy]
        assert main([*map(str, words), *flags]) == 0
        asked = [row for _, row in read_rows(tmp_path / "asked.jsonl")]
        assert [row["prompt"] for row in asked] == ["new?"] * 2 and len(
            {r["completion"] for r in asked}
        ) == 2
        assert all(row["strategy"] == strategy and row["propensity"] == 1 for row in asked)
    assert main([*map(str, words), "--number", "2", "--uniform", "1"]) == 0
    asked = [row for _, row in read_rows(tmp_path / "asked.jsonl")]
    share = {"well known?": 1.0, "new?": pytest.approx(1 / 3, abs=1e-5)}
    assert len(asked) == 4 and all(row["propensity"] == share[row["prompt"]] for row in asked)
    assert main([*map(str, words), "--number", "3"]) == 2
    assert "has 2 prompts with two different" in capsys.readouterr().err
    # The same of a workspace: what was asked long ago comes last, also for whoever is past its place.
    (tmp_path / "work").mkdir()
    store = new_store(tmp_path / "work" / "heedful.db")
    project = make_project(store)
    old = make_task(store, project, question="well known?", responses=("yes", "no"), overlap=2)
    new = make_task(store, project, question="new?", responses=("green", "blue"))
    make_task(store, project, question="equal?", kind="thumbs", responses=("one",))
    with store.write() as connection:
        connection.execute(schema.task_slot.update().values(position=-5.0))
    order = ["choose", "--reward", str(model), "--workspace", str(tmp_path / "work")]
    assert main([*order, "--answered", str(tmp_path / "answered.jsonl")]) == 0
    assert "2 questions of capitals" in capsys.readouterr().out
    with store.read() as connection:
        slots = connection.execute(select(schema.task_slot)).all()
        changed = projects.settings_of(connection, project)
    place = {slot.task: slot.position for slot in slots}
    assert place[new] < place[old] <= 0 and len(slots) == 4
    assert (changed.order, changed.order_by_chance) == ("priority", 0.15)
    assert main(order) == 2
    assert "no rankings to export" in capsys.readouterr().err
    assert main([*order, "--data", "samples.jsonl"]) == 2
    assert "orders its own questions" in capsys.readouterr().err
    store.close()
