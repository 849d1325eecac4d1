"""Rewards from compared segments, and PPO on moves that differ in number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import interruptions as jobs
from heedful.cli import main
from heedful.control import segments
from heedful.control.comparing import by_return
from heedful.control.filming import moves_of
from heedful.control.games import Over, load_game, one_of_n
from heedful.control.players import load_player, save_player
from heedful.control.segments import (
    Compared,
    Learned,
    Optimiser,
    Played,
    disagreement,
    fit,
    play,
    preference_loss,
)
from heedful.control.tamer import Tamer
from heedful.data.clips import read
from heedful.data.files import read_rows, write_rows

P = 0.9 / (1 + math.exp(-2.0)) + 0.05  # that a segment worth 2 more is preferred, by people who err
LOSSES = [(2.0, 1.0, -math.log(P)), (2.0, 0.0, -math.log(1 - P)), (0.0, 0.5, math.log(2))]


@pytest.mark.parametrize("difference, preferred, loss", LOSSES)
def test_the_loss_by_hand(difference, preferred, loss):
    """Mutation caught: errors that are left out, a tie that counts twice."""
    got = preference_loss(torch.tensor([difference]), torch.tensor([preferred]))
    assert got.item() == pytest.approx(loss, abs=1e-6)
    plain = preference_loss(torch.tensor([difference]), torch.tensor([1.0]), by_chance=0.0)
    assert plain.item() == pytest.approx(math.log1p(math.exp(-difference)), abs=1e-6)


def test_sums_are_compared_not_means(monkeypatch):
    """Segments of equal moves, of which the longer is preferred: what a move is worth comes out positive, and as its
    feature says. Mutation caught: a mean over the segment, a segment's moves given to another one."""
    rng, compared = np.random.default_rng(0), []
    for _ in range(60):
        parts = [rng.integers(0, 2, size=(rng.integers(2, 9), 1)).astype(float) for _ in range(2)]
        worth = [(1 + 2 * part).sum() for part in parts]
        compared.append(
            Compared(
                parts[0], parts[1], 0.5 if worth[0] == worth[1] else float(worth[0] > worth[1])
            )
        )
    player = Learned(1)
    monkeypatch.setattr(segments, "FIT_STEPS", 100)
    assert fit(player, compared, 0) > 0.95
    plain, better = player.worth(torch.tensor([[0.0], [1.0]])).mean(0)
    assert 0 < plain < better


@pytest.mark.long
def test_answers_by_chance_are_not_learned():
    """What a member has not seen tells how much of it is so. Mutation caught: a fixed ℓ2 coefficient of .001, by which
    new segments are 4 apart in place of .5; a coefficient that is moved the wrong way."""
    rng, player = np.random.default_rng(0), Learned(8)
    parts = rng.normal(size=(60, 2, 5, 8))
    fit(player, [Compared(a, b, float(rng.random() < 0.5)) for a, b in parts], 0)
    new = torch.tensor(rng.normal(size=(200, 2, 5, 8)), dtype=torch.float32)
    sums = player.worth(new.view(-1, 8)).view(segments.MEMBERS, 200, 2, 5).sum(-1)
    assert (sums[..., 0] - sums[..., 1]).abs().mean() < 1


class Corridor:
    """Two steps; of the second's three moves, one is worth 1. Nobody earns anything with fewer moves."""

    ms = 100
    over: Over = ""

    def reset(self, seed: int) -> None:
        self.at, self.over = 0, ""

    def choices(self) -> np.ndarray:
        return one_of_n(np.array([float(self.at)]), 3)[: 2 + self.at]

    def step(self, move: int) -> float:
        earned = float(self.at == 1 and move == 2)
        self.at = min(self.at + 1, 1) if self.at == 0 else 2
        self.over = "truncated" if self.at == 2 else ""
        self.at = min(self.at, 1)
        return earned

    def advice(self) -> None:
        return None

    def frame(self) -> str:
        return "1"


def test_moves_that_differ_in_number():
    """Two of the first step, three of the second. Mutation caught: padding that is drawn, log-probs of other moves."""
    player, games = Learned(6, 1), [Corridor() for _ in range(64)]
    played = play(player, games, range(64), np.random.default_rng(0))
    assert played.mask.all() and played.real.sum(2).tolist() == [[2, 3]] * 64
    assert (played.move[:, 0] < 2).all() and set(played.move[:, 1].tolist()) == {0, 1, 2}
    logp = player.logits(played.choices[:, 1], played.real[:, 1]).log_softmax(1)
    assert torch.equal(played.logp[:, 1], logp.gather(1, played.move[:, 1:])[:, 0])
    assert played.features[:, 1].argmax(1).tolist() == (2 * played.move[:, 1]).tolist()
    rng, optimiser = np.random.default_rng(0), Optimiser(player)
    for _ in range(12):
        metrics = optimiser.step(play(player, games, range(64), rng), rng, learned=False)
    assert metrics["return"] > 0.9


def test_a_last_minibatch_of_one_move(monkeypatch):
    """Mutation caught: the variance of one return, which is no number and makes every weight none."""
    monkeypatch.setattr(segments, "MINIBATCH", 31)
    player, games, rng = Learned(6, 1), [Corridor() for _ in range(16)], np.random.default_rng(0)
    Optimiser(player).step(play(player, games, range(16), rng), rng, learned=False)
    assert all(torch.isfinite(weight).all() for weight in player.policy.parameters())


def test_a_member_to_whom_all_moves_are_alike_is_no_louder_than_the_others():
    """Rewards have a root mean square of 1, however little they differ. Mutation caught: division by the standard
    deviation, by which a member near 1 for all moves is worth hundreds, so that PPO forgets what it could."""
    player, games = Learned(6, 1), [Corridor() for _ in range(16)]
    with torch.no_grad():
        player.rewards[0][4].weight.mul_(1e-3)  # type: ignore[union-attr, operator]
        player.rewards[0][4].bias.fill_(1.0)  # type: ignore[union-attr, operator]
    played = play(player, games, range(16), np.random.default_rng(0))
    player.rewards = player.rewards[:1] * 3
    rewards = Optimiser(player)._learned(played)[played.mask]
    assert rewards.square().mean().sqrt().item() == pytest.approx(1.0, abs=1e-5)
    assert rewards.mean() > 0.99


def test_who_sees_returns_ties_and_errs():
    """Mutation caught: a tie that is turned round, errors at other shares."""
    reward = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    fields = {"mask": torch.tensor([[True, True, True, False]]), "reward": reward}
    empty = torch.zeros(1, 4)
    games = Played(
        empty, empty, empty, empty, last=empty, features=torch.arange(4.0).view(1, 4, 1), **fields
    )
    rng = np.random.default_rng(0)
    compared = by_return(games, 2000, 2, 0.1, rng)
    lengths = [(len(c.first), len(c.second)) for c in compared]
    assert {n for pair in lengths for n in pair} == {1, 2}
    ties = [c.preferred for c, (a, b) in zip(compared, lengths, strict=True) if a == b]
    assert set(ties) == {0.5}
    told = [
        (c.preferred == 1) == (a > b) for c, (a, b) in zip(compared, lengths, strict=True) if a != b
    ]
    assert 0.87 < np.mean(told) < 0.93


def test_what_is_disputed_is_asked(tmp_path):
    """Members that differ by feature 0 alone. Mutation caught: segments of which all are unsure, an average in place of
    sums, the least disputed ones, fewer or more than `--count`."""
    player, (a, b) = Learned(2), np.eye(2)
    for sign, net in zip((-1, 0, 1), player.rewards, strict=True):
        for parameter in net.parameters():
            parameter.data.zero_()
        net[0].weight.data[0, 0] = net[2].weight.data[0, 0] = 1.0
        net[4].weight.data[0, 0] = 1.0 * sign
    first, second = np.stack([a, a]), np.stack([b, b])
    worth = 2 * math.tanh(math.tanh(1.0))
    sure = np.array([1 / (1 + math.exp(-s * worth)) for s in (-1, 0, 1)])
    assert disagreement(player, first, second) == pytest.approx(sure.var())
    assert disagreement(player, first, first) == 0
    spec = "tetris(pieces=6)"
    known, game = Learned(28, 1), load_game(spec)
    with torch.no_grad():  # as after fitting: of some size
        for net in known.rewards:
            net[4].weight.mul_(100)
    save_player(tmp_path / "a", "segments", spec, known)
    words = ["clips", "--model", str(tmp_path / "a"), "--pairs", "--count"]
    for name, more in (("all", ["6"]), ("disputed", ["2", "--candidates", "3"])):
        assert main([*words, *more, "--out", str(tmp_path / f"{name}.jsonl")]) == 0
    every, some = (
        [row["completion"] for _, row in read_rows(tmp_path / f"{name}.jsonl")]
        for name in ("all", "disputed")
    )
    pairs = [tuple(every[k : k + 2]) for k in range(0, 12, 2)]
    doubts = {
        pair: disagreement(known, *(moves_of(game, read(text)) for text in pair)) for pair in pairs
    }
    best = sorted(pairs, key=lambda pair: -doubts[pair])[:2]
    assert some == [text for pair in pairs if pair in best for text in pair]
    assert (
        main(
            [
                *words,
                "2",
                "--candidates",
                "2",
                "--model",
                "random",
                "--game",
                spec,
                "--out",
                "x.jsonl",
            ]
        )
        == 2
    )
    save_player(tmp_path / "t", "tamer", spec, Tamer(28))
    assert (
        main([*words, "2", "--candidates", "2", "--model", str(tmp_path / "t"), "--out", "x.jsonl"])
        == 2
    )


def test_the_command(tmp_path, capsys, monkeypatch):
    """Compared clips in a file → a player that clips can be made of. Mutation caught: a tie that is left out, a run
    that overwrites another one."""
    monkeypatch.setattr(segments, "FIT_STEPS", 20)  # how well is asked above
    spec = "tetris(pieces=6)"
    rows = jobs.compared_clips(spec, 4)
    write_rows(tmp_path / "c.jsonl", rows)
    words = ["train", "segments", "--data", str(tmp_path / "c.jsonl"), "--iterations", "2"]
    words += ["--episodes", "2", "--report-to", "none"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert f"4 comparisons of {spec}, 2 of them ties" in capsys.readouterr().out
    player, about = load_player(tmp_path / "a")
    assert (about["player"], about["game"]) == ("segments", spec)
    assert [row["step"] for row in jobs.rows(tmp_path / "a")] == [1, 2]
    again = Learned.of(*player.state())
    moves = torch.randn(5, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.worth(moves), player.worth(moves))
    assert main([*words, "--out", str(tmp_path / "a")]) == 2
    assert "finished model" in capsys.readouterr().err
    write_rows(tmp_path / "c.jsonl", [rows[0] | {"responses": ["Lima.", "Cusco."]}])
    assert main([*words, "--out", str(tmp_path / "b")]) == 2
    assert "expected a clip" in capsys.readouterr().err
    pairs = ["clips", "--model", str(tmp_path / "a"), "--pairs", "--steps", "3", "--count", "2"]
    assert main([*pairs, "--out", str(tmp_path / "d.jsonl")]) == 0
