"""TAMER: whose credit a press is, the fit, and the same player live and from clips."""

from __future__ import annotations

import json
import os
import pty
import sys
from dataclasses import replace

import numpy as np
import pytest

import interruptions as jobs
from heedful.cli import main
from heedful.control import terminal
from heedful.control.filming import replayed
from heedful.control.games import load_game
from heedful.control.players import LOG, load_player, played
from heedful.control.tamer import Moment, Press, Tamer, credits, relative
from heedful.control.trainers import Simulated, again, taught
from heedful.data import clips
from heedful.data.files import write_rows
from heedful.errors import UserError

X = np.eye(3)
MOMENTS = [Moment(0.0, 1.0, X[0]), Moment(1.0, 1.5, X[1]), Moment(1.5, 3.0, X[2])]
CREDITS = [  # the time of a press, and the shares of a delay from .2 to .8 s
    (0.1, [0, 0, 0]),
    (0.5, [0.5, 0, 0]),
    (0.9, [1, 0, 0]),
    (1.5, [0.5, 0.5, 0]),
    (2.0, [0, 0.5, 0.5]),
    (3.5, [0, 0, 0.5]),
    (9.0, [0, 0, 0]),
]


@pytest.mark.parametrize("time, shares", CREDITS)
def test_credit_by_hand(time, shares):
    """Mutation caught: a press that is about what comes after it, a window turned round."""
    assert credits(MOMENTS, time, (0.2, 0.8)) == pytest.approx(shares)


def test_a_delay_that_is_always_the_same():
    assert credits(MOMENTS, 1.2, (0.2, 0.2)) == [0, 1, 0]


def test_press_by_press_it_is_ridge_regression():
    """Against the closed form. Mutation caught: an inverse that is updated before the weights, a ridge forgotten."""
    rng, ridge = np.random.default_rng(0), 0.7
    player, rows, values = Tamer(4, ridge=ridge), [], []
    for _ in range(12):
        moments = [Moment(i, i + 1, rng.normal(size=4)) for i in range(3)]
        press = Press(rng.uniform(1, 3), rng.choice([-1.0, 1.0]))
        shares = np.array(credits(moments, press.time, player.delay))
        assert player.learn(moments, press)
        rows.append(shares @ np.stack([m.features for m in moments]) / shares.sum())
        values.append(press.value)
        x, h = np.stack(rows), np.array(values)
        want = np.linalg.solve(x.T @ x + ridge * np.eye(4), x.T @ h)
        assert player.weights == pytest.approx(want)
    assert not player.learn(moments, Press(50.0, 1.0)) and player.presses == 12


def test_what_all_moves_share_is_nothing_to_choose_by():
    choices = np.random.default_rng(0).normal(size=(5, 4))
    assert relative(choices + 3) == pytest.approx(relative(choices))


def lesson(most: int = 60):
    game = load_game("tetris(pieces=40)")
    player = Tamer(game.choices().shape[1])
    return game, player, taught(game, player, Simulated(0), 7, most=most)


def test_live_and_at_a_clip_it_learns_the_same():
    """A game that was taught live, replayed as a clip with the same presses. Mutation caught: a frame that is one move
    too early or late, a press that is learned twice."""
    game, player, told = lesson()
    assert len(told.presses) == player.presses > 5
    clip = clips.Clip(
        "tetris(pieces=40)", told.seed, 0, told.moves, game.ms, ("1",) * len(told.moves)
    )
    later = Tamer(len(player.weights))
    again(game, later, clip, told.presses)
    assert later.weights == pytest.approx(player.weights, abs=1e-9)
    with pytest.raises(UserError, match="none of that game's"):
        again(game, later, replace(clip, moves=(10**6, *told.moves[1:])), ())


@pytest.mark.long
def test_a_teacher_teaches():
    """150 presses of a teacher who slips. Mutation caught: a sign, a press credited to the move after it."""
    game = load_game("tetris(pieces=80)")
    player, trainer, seed = Tamer(game.choices().shape[1]), Simulated(1), 0
    while player.presses < 150:
        taught(game, player, trainer, seed := seed + 1, most=150)
    assert np.mean([played(game, player, s) for s in range(900, 904)]) > 8  # by chance .1


def tamer(*words) -> int:
    return main(["train", "tamer", *map(str, words)])


@pytest.mark.parametrize("about", ["[]", "{}", '{"player": "tamer"}', "no JSON"])
def test_a_folder_that_holds_no_player(about, tmp_path):
    """Mutation caught: a traceback of safetensors for weights that were cut off."""
    (tmp_path / "player.json").write_text(about)
    for weights in (b"", b"cut off"):
        (tmp_path / "player.safetensors").write_bytes(weights)
        with pytest.raises(UserError, match="no player that"):
            load_player(tmp_path)


def test_the_command_teaches_and_goes_on(tmp_path, capsys):
    """Two games, then one more in the same folder, are three games in one go, bit for bit. Mutation caught: a run begun
    anew, a simulated trainer whose chances depend on when the run was begun, a player of a game that plays another."""
    ways = ["--game", "tetris(pieces=20)", "--trainer", "simulated"]
    assert tamer(*ways, "--out", tmp_path / "a", "--games", 2) == 0
    assert tamer("--trainer", "simulated", "--out", tmp_path / "a", "--games", 1) == 0
    player, about = load_player(tmp_path / "a")
    assert about["game"] == "tetris(pieces=20)" and player.presses > 5
    games = [json.loads(line) for line in (tmp_path / "a" / "games.jsonl").read_text().splitlines()]
    assert [g["seed"] for g in games] == [0, 1, 2]
    assert sum(len(g["presses"]) for g in games) == player.presses
    assert tamer(*ways, "--out", tmp_path / "whole", "--games", 3) == 0
    whole, _ = load_player(tmp_path / "whole")
    assert (whole.weights == player.weights).all()
    capsys.readouterr()
    assert tamer("--game", "cartpole", "--out", tmp_path / "a") == 2
    assert "choose another folder" in capsys.readouterr().err
    assert tamer("--game", "tetris", "--out", tmp_path / "b") == 2  # no terminal here
    assert "no terminal" in capsys.readouterr().err and not (tmp_path / "b").exists()
    filmed = ["clips", "--model", str(tmp_path / "a"), "--out", str(tmp_path / "c.jsonl")]
    assert main([*filmed, "--count", "1"]) == 0
    assert (
        clips.read(json.loads((tmp_path / "c.jsonl").read_text())["completion"]).game
        == about["game"]
    )
    assert main([*filmed, "--count", "1", "--game", "tetris(pieces=9)"]) == 0
    assert main([*filmed, "--game", "tetris(pieces=20, width=8)"]) == 2  # other features
    assert "the player in" in capsys.readouterr().err


def test_a_person_plays_a_game(tmp_path, monkeypatch, capsys):
    """By keys at a terminal; the same task is the same game for a program, so that both are a pair. Mutations caught:
    an arrow turned round, a key that swallows those behind it, another game of the same number, a game lost by q."""
    ours, theirs = pty.openpty()
    at = open(theirs)  # noqa: SIM115 (sys.stdin is put back before it is closed)
    monkeypatch.setattr(sys, "stdin", at)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    keys = iter((b"ll", b"", b"\x1b[D", b"\n", b"3", b"\x1b[D ", b"", b"q"))
    drawn = terminal.drawn

    def seen(frame):  # nobody types before there is something to see
        os.write(ours, next(keys))
        return drawn(frame)

    monkeypatch.setattr(terminal, "drawn", seen)
    plays = tmp_path / "plays.jsonl"
    play = ["play", "--game", "tetris(pieces=5)", "--out", str(plays), "--task", "2"]
    assert main(play) == 0
    assert main([*play, "--player", "advised"]) == 0
    mine, other = [json.loads(line) for line in plays.read_text().splitlines()]
    clip, by_program = clips.read(mine["completion"]), clips.read(other["completion"])
    assert clip.moves[:2] == (1, 2) and len(clip.moves) == 3 and mine["model"] == "person"
    assert mine["prompt"] == other["prompt"] and clip.seed == by_program.seed
    game = load_game("tetris(pieces=5)")
    assert [choices[move].tolist() for choices, move in replayed(game, clip)]
    assert clip.moves[2] == len([*replayed(game, clip)][2][0]) - 1
    assert len(by_program.moves) == 5
    assert main(["play", "--game", "tetris", "--env", "maze"]) == 2
    monkeypatch.undo()
    at.close()
    os.close(ours)


def test_a_play_is_a_demonstration(tmp_path, capsys):
    """Clips without presses are imitated. Mutation caught: a move that is taken for bad, or for another one."""
    plays, out = tmp_path / "plays.jsonl", tmp_path / "player"
    spec = "tetris(pieces=60)"
    assert (
        main(["play", "--game", spec, "--player", "advised", "--limit", "4", "--out", str(plays)])
        == 0
    )
    assert tamer("--data", plays, "--out", out) == 0
    assert "4 of them demonstrations" in capsys.readouterr().out
    player, about = load_player(out)
    assert player.presses == 240 and about["game"] == spec
    assert sum(played(load_game(spec), player, seed) for seed in range(3)) > 30


@pytest.mark.long
def test_killed_and_gone_on_it_learns_the_same(tmp_path):
    """Four games, and four of which two processes die on the way into saving one. Mutation caught: a trainer, or a
    game's seed, that begins anew with the process; a game that is kept without what was learned in it."""
    ways = ["train", "tamer", "--game", "tetris(pieces=10)", "--trainer", "simulated"]
    assert tamer(*ways[2:], "--out", tmp_path / "whole", "--games", 4) == 0
    out, save = tmp_path / "killed", "heedful.recipes.tamer:save_player"
    for left, call in ((4, 2), (3, 3), (1, 0)):  # of the games; in which the process dies
        words = [*ways, "--out", str(out), "--games", str(left)]
        assert jobs.call(words, die=(save, call) if call else None) == (9 if call else 0)
    assert jobs.weights(out) == jobs.weights(tmp_path / "whole")
    assert (out / LOG).read_text() == (tmp_path / "whole" / LOG).read_text()


def test_presses_in_a_file(tmp_path, capsys):
    """Rows as `heedful export critiques` writes them are what was pressed. Mutation caught: seconds from the
    clip's beginning, a press put to the next frame."""
    game, player, told = lesson()
    clip = clips.Clip(
        "tetris(pieces=40)", told.seed, 0, told.moves, game.ms, ("1",) * len(told.moves)
    )
    text, shown, rows = clips.as_text(clip), game.ms / 1000, []
    starts = [i + 1 for i, c in enumerate(text) if c == "\n"]
    for press in told.presses:
        frame = min(int(press.time / shown), len(starts) - 1)
        words = f"{'good' if press.value > 0 else 'bad'} after {press.time - frame * shown:.3f} s"
        rows.append({"prompt": "?", "completion": text, "start": starts[frame], "critique": words})
    write_rows(tmp_path / "presses.jsonl", rows)
    assert tamer("--data", tmp_path / "presses.jsonl", "--out", tmp_path / "a") == 0
    fitted, _ = load_player(tmp_path / "a")
    assert fitted.weights == pytest.approx(player.weights, abs=0.02)  # times have milliseconds
    write_rows(tmp_path / "presses.jsonl", [rows[0] | {"critique": "nice"}])
    assert tamer("--data", tmp_path / "presses.jsonl", "--out", tmp_path / "b") == 2
    assert "presses.jsonl:1: expected a press" in capsys.readouterr().err
