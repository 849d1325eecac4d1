"""Clips as text, the games they are of, and where a press at one falls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heedful.control.filming import cut, filmed
from heedful.control.games import load_game
from heedful.control.players import advised, by_chance, played
from heedful.control.tetris import Tetris
from heedful.data import clips
from heedful.errors import UserError
from heedful.web.episodes import response_html

CLIP = clips.Clip("tetris(pieces=3)", 3, 1, (4, 1, 0), 700, ("./1", "1/1"))
STROKES = replace(CLIP, frames=([[0, 0, 1.5, 2, 3, 1]], []))


@pytest.mark.parametrize("clip", [CLIP, STROKES])
def test_a_clip_is_its_text_and_back(clip):
    text = clips.as_text(clip)
    assert clips.read(text) == clip and clips.is_clip(text)
    lines = text.split("\n")
    assert clips.frame_of(text, 0) is None
    assert clips.frame_of(text, len(lines[0]) + 1) == 0
    assert clips.frame_of(text, len(lines[0]) + len(lines[1]) + 2) == 1


WRONG = [
    ("Lima.", "begins with 'clip '"),
    ("clip {}\n", "cannot be read"),
    ("clip [1]", "cannot be read"),
    (clips.as_text(replace(CLIP, frames=("./1",))), "one for each move"),
    (clips.as_text(replace(CLIP, frames=("./1", "1/11"))), "neither cells nor strokes"),
    (clips.as_text(replace(CLIP, frames=("./1", "<b>"))), "neither cells nor strokes"),
    (clips.as_text(replace(CLIP, frames=("./1", [[0, 0, 1e9, 0, 1, 1]]))), "neither cells nor"),
    (clips.as_text(replace(CLIP, ms=0)), "milliseconds"),
    (clips.as_text(replace(CLIP, moves=(4, 1, -1))), "first line"),
]


@pytest.mark.parametrize("text, words", WRONG)
def test_what_is_no_clip_is_told(text, words):
    """And shown as the text that it is. Mutation caught: a page that draws whatever a model writes."""
    with pytest.raises(UserError, match=f"line 3: .*{words}"):
        clips.read(text, "line 3")
    assert "data-clip" not in response_html(text)


def test_a_clip_on_a_page_is_escaped():
    """Mutation caught: a quote in a game's name that ends the attribute."""
    html = response_html(clips.as_text(replace(CLIP, game='"><img src=x onerror=alert(1)>')))
    assert html.count("<") == 2 and "data-clip=" in html and html.count('"') == 4


def test_tetris_by_hand():
    """Three wide is not allowed, four is: an O twice fills two rows. Mutation caught: a piece that hangs in the air,
    a row that stays, columns in the wrong order."""
    game = Tetris(pieces=2, width=4, height=4)
    seed = next(s for s in range(999) if pieces_of(game, s) == [1, 1])  # two of the shape O
    game.reset(seed)
    assert game.choices().shape == (3, 4 + 3 + 9)  # where an O may lie, and features
    assert game.step(0) == 0 and game.frame() == "..../..../22../22.."
    assert game.step(2) == 2 and game.frame() == "..../..../3333/3333"
    assert game.over == "truncated"
    with pytest.raises(UserError, match="width and height 4 to 40"):
        load_game("tetris(width=3)")


def pieces_of(game: Tetris, seed: int) -> list[int]:
    game.reset(seed)
    first = game.piece
    game.step(0)
    return [first, game.piece]


def test_tetris_features_by_hand():
    """A board with one hole. Mutation caught: a hole that counts as height, a well that is none."""
    from heedful.control.tetris import SCALE, _features

    board = np.zeros((1, 4, 4), dtype=np.int8)
    board[0, 0] = [1, 0, 1, 0]
    board[0, 1] = [1, 1, 0, 0]  # the second column has a hole below
    features, advice = _features(board, np.array([1.0]), np.array([0]))
    heights, steps = [2, 2, 1, 0], [0, 1, 1]
    # The highest, holes, changes row by row between walls, column by column from the floor up, the well of depth 1 at
    # the right, landing height, rows times cells that vanished, how deep the hole is, rows with holes.
    several = [2, 1, 4 + 2 + 2 + 2, 1 + 3 + 1 + 1, 1, 1, 0, 2, 1]
    assert (features[0] * SCALE).round(9).tolist() == heights + steps + several
    assert advice[0] == -1.0 - 10 - 6 - 4 - 1


@pytest.mark.parametrize(
    "spec", ["tetris(pieces=30)", "cartpole", "minatar(name=freeway, steps=40)"]
)
def test_the_same_seed_and_moves_are_the_same_game(spec):
    """What a clip is replayed by. Mutation caught: random numbers, or a last move, kept from the game before."""
    if not spec.startswith("tetris"):
        pytest.importorskip("gymnasium" if spec == "cartpole" else "minatar")
    game, other = load_game(spec), load_game(spec)
    clip, score = filmed(game, spec, by_chance, 5)
    assert clips.read(clips.as_text(clip)) == clip
    played(other, by_chance, 9)  # has another game behind it
    other.reset(clip.seed)
    scored = 0.0
    for move, frame in zip(clip.moves, clip.frames, strict=True):
        assert not other.over
        scored += other.step(move)
        assert other.frame() == frame
    assert other.over and scored == score
    short = cut(clip, 7, np.random.default_rng(0))
    assert short.frames == clip.frames[short.first : short.first + len(short.frames)]
    assert clips.read(clips.as_text(short)) == short


def test_the_player_that_was_written_by_hand_is_good():
    assert played(load_game("tetris(pieces=60)"), advised, 0) > 15
