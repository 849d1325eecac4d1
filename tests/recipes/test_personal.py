"""Personal rewards: what the answers of a user make of them, exactly, and the command end to end."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from transformers import AutoModelForSequenceClassification

import tiny
from changed import changed
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.data.sources import read_comparisons
from heedful.data.tokens import encode_group
from heedful.losses.kl import to_standard_normal
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.models.personal import (
    PersonalHeads,
    forward,
    heads_of,
    load_personal_heads,
    noise,
    posterior,
    states,
    told,
    user_of,
)
from heedful.recipes.personal_users import Users, by_user, of_users, targets
from heedful.rewards.model import SCALE, SHIFT, ModelReward
from heedful.rewards.personal import known_by
from heedful.training.kept import Judgment, Kept
from heedful.training.rankings import ranked
from heedful.types import Comparison

SIDES = ("short", "long")


def rows_of(user: int, number: int) -> list[dict]:
    """Every second user likes what the others do not."""
    rng, found = random.Random(user), []
    for _ in range(number):
        liked, other = (f"{side} {rng.randrange(9)}" for side in SIDES[:: 1 if user % 2 else -1])
        found.append({"prompt": f"say {rng.randrange(20)}", "chosen": liked, "rejected": other,
                      "rater": f"user {user}"})  # fmt: skip
    return found


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tok = tmp_path_factory.mktemp("personal"), tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder / "model")
    tok.save_pretrained(folder / "model")
    write_rows(folder / "rows.jsonl", [row for user in range(16) for row in rows_of(user, 8)])
    write_rows(folder / "others.jsonl", [r for user in range(100, 108) for r in rows_of(user, 8)])
    return folder


def train(folder: Path, name: str, *flags: str) -> int:
    words = [
        "train",
        "reward",
        "--personal",
        "--model",
        folder / "model",
        "--data",
        folder / "rows.jsonl",
    ]
    words += ["--out", folder / name, "--report-to", "none", "--quiet"]
    return main(changed(words, *flags))


@pytest.fixture(scope="module")
def trained(begun: Path) -> Path:
    flags = ["--eval-data", str(begun / "others.jsonl"), "--lr", "1e-2", "--epochs", "6"]
    assert train(begun, "run", *flags, "--batch-size", "8", "--dimensions", "3") == 0
    return begun / "run"


def heads(width: int = 6, size: int = 2) -> PersonalHeads:
    torch.manual_seed(0)
    return PersonalHeads(width, size)


def test_a_posterior_is_of_a_set():
    """No answers are the prior; their order is nothing; one counted twice is two; one turned round says the reverse, as
    surely; more answers are never less sure. Mutations caught: a mean in place of the sum, an evidence that is not odd,
    answers of one user counted for another, a bias that speaks without answers."""
    it, d = heads(), torch.randn(5, 6)
    zero = torch.zeros(5, dtype=torch.long)
    q = it.posterior(d, zero + 1, 3)
    assert not q.mean[[0, 2]].any() and not q.log_var[[0, 2]].any()
    again = it.posterior(d[[3, 1, 4, 0, 2]], zero, 1)
    torch.testing.assert_close(again.mean[0], q.mean[1])
    torch.testing.assert_close(again.log_var[0], q.log_var[1])
    twice = it.posterior(torch.cat([d, d[:1]]), zero[:1].repeat(6), 1)
    weighed = it.posterior(d, zero, 1, torch.tensor([2.0, 1, 1, 1, 1]))
    torch.testing.assert_close(twice.mean, weighed.mean)
    turned = it.posterior(-d, zero, 1)
    torch.testing.assert_close(turned.mean[0], -q.mean[1])
    torch.testing.assert_close(turned.log_var[0], q.log_var[1])
    assert (twice.log_var[0] < q.log_var[1]).all() and (q.log_var[1] < 0).all()
    assert not it.direction(torch.zeros(2)).any()


def test_kl_to_the_prior():
    """Against PyTorch's. Mutation caught: a standard deviation where a log-variance is meant."""
    mean, log_var = torch.randn(2, 4, 3, dtype=torch.float64)
    wanted = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(to_standard_normal(mean, log_var), wanted)


def judgment(*responses: int, rank: tuple[int, ...] = (1, 2)) -> Judgment:
    tok = tiny.tokenizer()
    words = tuple(f"word {r}" for r in responses)
    item = Comparison("p", words, rank)
    (made,) = ranked(item, encode_group(tok, "p", words))
    return made


def test_what_a_ranking_tells():
    """Of K responses C(K, 2) pairs that count as K − 1; a tie tells nothing; targets are not looked at. Mutations
    caught: pairs across comparisons, the worse taken for the better, those that are to be predicted."""
    items = [
        judgment(1, 2),
        judgment(3, 4, 5, rank=(2, 1, 3)),
        judgment(6, 7, rank=(1, 1)),
        judgment(8, 9),
    ]
    batch = of_users(items, [(0, True, 0), (0, True, 0), (0, True, 0), (0, False, 0)])
    better, worse, weight = told(batch, batch.context)
    pairs = dict(
        zip(zip(better.tolist(), worse.tolist(), strict=True), weight.tolist(), strict=True)
    )
    third = pytest.approx(2 / 3)
    assert pairs == {(0, 1): 1.0, (3, 2): third, (3, 4): third, (2, 4): third}
    table, rank, _, user = targets(batch, torch.arange(9.0))
    assert table.tolist() == [[7.0, 8.0]] and rank.tolist() == [[1, 2]] and user.tolist() == [0]


def test_nothing_that_is_predicted_is_told(tmp_path: Path):
    """The same pair again, and turned round, is on the same side, for every turn of every unit. Mutation caught:
    answers parted one by one; the unit's own questions among the context; questions that are never predicted."""
    users = Users(Kept(tmp_path))
    rng = random.Random(0)
    for k in range(40):
        two = (2 * k % 11, 2 * k % 11 + 20)
        users.add("ann", judgment(*(two if rng.random() < 0.5 else two[::-1])))
    questions = users.answers(0)
    assert len(questions) == 11 and sorted(i for q in questions for i in q) == list(range(40))
    seen, sizes = set[int](), set[int]()
    for unit in users.units():
        for step in range(20):
            turn = users.turn(unit, 4, f"{step}")
            sides = [{q for q, of in enumerate(questions) for i in side if i in of}
                     for side in (turn.context, turn.targets)]  # fmt: skip
            assert not sides[0] & sides[1] and sides[1]
            seen |= set(turn.targets)
            sizes.add(len(sides[0]))
    assert seen == set(range(40)) and sizes == {0, 1, 2, 3, 4}


def test_gradients_are_those_of_differences(begun: Path):
    """The loss of a step, of one small case with fixed noise, against central differences in every kind of
    weight. Mutation caught: a posterior that is detached, noise that is drawn anew, a state of another row."""
    from heedful.models.load import new_reward_model
    from heedful.models.personal import add_personal_heads

    model = new_reward_model(str(begun / "model"), seed=0)
    add_personal_heads(model, 0, 2)
    items = [judgment(1, 2), judgment(3, 4), judgment(5, 6), judgment(7, 8)]
    batch = of_users(items, [(0, True, 5), (0, False, 5), (1, True, 6), (1, False, 6)])

    def loss() -> torch.Tensor:
        out = forward(model, batch)
        table, _, _, _ = targets(batch, out.score)
        nll = -torch.nn.functional.logsigmoid(table[:, 0] - table[:, 1]).sum()
        return nll + 0.1 * (out["kl_0"] + out["kl_1"]).sum()

    names = dict(model.named_parameters())
    loss().backward()
    for name in ("personal_heads.told.0.weight", "personal_heads.taste.2.weight", "score.weight",
                 "model.layers.0.mlp.up_proj.weight"):  # fmt: skip
        parameter = names[name]
        assert parameter.grad is not None
        place, step = int(parameter.grad.abs().argmax()), 5e-3
        wanted = float(parameter.grad.flatten()[place])
        around = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[place] += sign * step
                around.append(float(loss()))
                parameter.view(-1)[place] -= sign * step
        # Float32: 3e-7 of a loss of 3 over a step of 1e-2, and what is of the third order in it.
        assert (around[0] - around[1]) / (2 * step) == pytest.approx(wanted, rel=2e-2, abs=2e-3)


def test_noise_is_the_users_own():
    """Mutation caught: noise by place in the micro-batch, which would change with its size."""
    items = [judgment(1, 2), judgment(3, 4), judgment(5, 6)]
    batch = of_users(items, [(0, False, 5), (1, False, 6), (2, False, 5)])
    drawn = noise(batch, 3)
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    alone = of_users(items[1:2], [(0, False, 6)])
    assert torch.equal(noise(alone, 3)[0], drawn[1])
    assert by_user(torch.ones(6), user_of(batch), 3).tolist() == [2, 2, 2]


def test_unseen_users_are_known_by_their_answers(trained: Path):
    """Two camps, users who were not trained on. Mutations caught: z that is not used or of another user; a context that
    is not there at evaluation; targets that leak."""
    found = json.loads((trained / "evaluation.json").read_text())
    after = {int(n): of["accuracy"] for n, of in found["answers"].items()}
    assert set(after) == {0, 1, 2, 4} and all(of["users"] == 8 for of in found["answers"].values())
    assert after[4] > 0.9 and after[1] > 0.8 and after[0] < 0.65
    assert found["accuracy_of_others"] < 0.1 and len(found["kl"]) == 3 and max(found["kl"]) > 0.1
    *_, (_, last) = read_rows(trained / "metrics.jsonl")
    assert last["kl/z"] == pytest.approx(sum(last[f"kl/{i}"] for i in range(3)), abs=1e-4)


def test_a_users_reward_is_a_plain_one(trained: Path, begun: Path, capsys):
    """`--reward RUN(user=FILE)` scores as the heads do with the user's z, in a second way; without a user, and for
    plain transformers, it is the reward at z = 0. Mutations caught: z folded in with another
    sign, weights of the heads in the model's file, a posterior of the command that is not that of training."""
    answers = rows_of(3, 3)
    write_rows(begun / "mine.jsonl", answers)
    tok = load_tokenizer(trained)
    model = load_reward_model(str(trained))
    load_personal_heads(model, str(trained))
    items = read_comparisons(str(begun / "mine.jsonl"))
    kept = [ranked(c, encode_group(tok, c.prompt, c.responses))[0] for c in items]
    batch = of_users(kept, [(0, True, 0)] * 3)
    with torch.no_grad():
        h = states(model, batch.tokens, batch.lengths)
        q = posterior(heads_of(model), h, batch, batch.context)
        torch.testing.assert_close(known_by(model, tok, items).mean, q.mean, atol=1e-4, rtol=1e-4)
        moved = model.score.weight[0] + heads_of(model).direction(q.mean)[0]
        wanted = (h @ moved - getattr(model.config, SHIFT)) / getattr(model.config, SCALE)
    rows = [{"prompt": c.prompt, "completion": r} for c in items for r in c.responses]
    write_rows(begun / "samples.jsonl", rows)

    def scored(reward: str) -> list[float]:
        words = ["score", "--reward", reward, "--data", begun / "samples.jsonl"]
        assert main([*map(str, words), "--out", str(begun / "scored.jsonl"), "--quiet"]) == 0
        return [row["reward"] for _, row in read_rows(begun / "scored.jsonl")]

    mine = scored(f"{trained}(user={begun / 'mine.jsonl'})")
    assert mine == pytest.approx(wanted.tolist(), abs=1e-3)
    plain = AutoModelForSequenceClassification.from_pretrained(trained)
    ids = torch.tensor([encode_group(tok, rows[0]["prompt"], [rows[0]["completion"]])[0].tokens])
    at_zero = (plain(ids).logits[0].item() - plain.config.heedful_reward_shift) / (
        plain.config.heedful_reward_scale
    )
    assert scored(str(trained))[0] == pytest.approx(at_zero, abs=1e-3) and mine[0] != at_zero
    assert (
        main(["score", "--reward", f"{begun / 'model'}(user=x)", "--data", "x", "--out", "y"]) == 2
    )
    assert isinstance(ModelReward.load(str(trained)), ModelReward)


def test_profiles_and_answers_as_people_have_them(tmp_path: Path, capsys):
    """Mutation caught: a traceback for answers in two files, or in a file that is no UTF-8; the words of a JSON reader
    where the file of profiles is another."""
    profiles, out = tmp_path / "profiles.json", tmp_path / "out.txt"
    (tmp_path / "none.jsonl").write_text("\n")
    spoken = json.dumps(rows_of(1, 1)[0]).encode("utf-16")
    (tmp_path / "spoken.jsonl").write_bytes(spoken)

    def profile(*data: str) -> int:
        files = [str(tmp_path / name) for name in data]
        words = ["--reward", str(tmp_path / "nowhere"), "--profiles", str(profiles)]
        return main(["profile", *words, "--data", *files, "--out", str(out)])

    for wrong in ("a: b", "3", "{}", '[{"sentence": "s"}]', '[{"sentence": "s", "z": 1}]', "[]"):
        profiles.write_text(wrong)
        assert profile("none.jsonl") == 2
        said = capsys.readouterr().err
        assert f"--profiles {profiles} holds no profiles; `heedful pluralism` writes" in said
    profiles.write_text(json.dumps([{"sentence": "Be brief.", "z": [0.0]}]))
    assert profile("none.jsonl", "none.jsonl") == 0 and out.read_text() == "Be brief.\n"
    capsys.readouterr()
    assert profile("none.jsonl", "spoken.jsonl") == 2  # read, so that the model is asked for
    assert "nowhere" in capsys.readouterr().err


def test_what_makes_no_sense_is_refused(begun: Path, capsys):
    """Exit code 2 and no run. Mutation caught: comparisons of nobody taken for those of one."""
    for flags, why in (
        (("--weights", "raters"), "--weights would have no effect"),
        (("--kl-weight", "-1"), "--kl-weight"),
    ):
        assert train(begun, "none", *flags) == 2
        assert why in capsys.readouterr().err
    rows = [{k: v for k, v in row.items() if k != "rater"} for row in rows_of(1, 2)]
    write_rows(begun / "nobodys.jsonl", rows)
    assert train(begun, "none", "--data", str(begun / "nobodys.jsonl")) == 2
    assert "has no rater" in capsys.readouterr().err
    write_rows(begun / "one.jsonl", rows_of(1, 4))
    assert train(begun, "none", "--data", str(begun / "one.jsonl")) == 2
    assert "two raters at least" in capsys.readouterr().err
    assert not (begun / "none").exists()
