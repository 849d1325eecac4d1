"""The maze, the word games and the bargain: what moves cost, and that scripted players are as good as is said."""

from __future__ import annotations

import asyncio
import json
import random
from statistics import fmean

import pytest

from changed import changed
from heedful import cli
from heedful.envs import bargaining, load_env, rehearse
from heedful.envs.maze import MOVES, made, move_in, shortest
from heedful.envs.plain import played_by
from heedful.envs.specs import tasks_of
from heedful.envs.twenty_questions import QUESTIONS, THINGS, guess_of
from heedful.envs.twenty_questions import remaining as left_of
from heedful.envs.words import WORDS, remaining, score
from heedful.errors import UserError


def returns(spec: str, player: str, n: int, turns: int = 40) -> list[float]:
    env = load_env(spec)
    rows, total = tasks_of(env, "train", 0), []
    for i in range(n):
        row = rows[i % len(rows)]
        said = env.players[player](row, random.Random(i))
        total.append(asyncio.run(played_by(env, row, said, turns=turns)).score)
    return total


@pytest.mark.parametrize("world", range(3))
@pytest.mark.parametrize("size", [2, 5])
def test_every_cell_has_a_way(size, world):
    """Mutation caught: walls that part the maze, ways that are open from one side only."""
    maze = made(size, world)
    assert set(maze.distances()) == set(maze.cells) and len(maze.cells) == size * size
    assert all((there, at) in maze.ways for at, there in maze.ways)
    for cell, away in maze.distances().items():
        nearest = min(maze.distances()[maze.step(cell, move)] for move in MOVES)
        assert away == 0 if cell == maze.goal else away == 1 + nearest


def test_the_shortest_way_is_the_best():
    """Every move costs one, a wall too. Mutation caught: a free move, another distance than one plays."""
    env = load_env("maze")
    rows = tasks_of(env, "train", 0)
    best = returns("maze", "shortest", len(rows))
    assert best == [-float(shortest(5, 0, row)) for row in rows]
    row, maze = rows[0], made(5, 0)
    at = (row["row"], row["column"])
    wall = next(move for move in MOVES if maze.step(at, move) == at)
    told = rehearse(env, row, [wall, "up, please", "north"])
    assert told["rewards"] == [-1, -1, -1] and told["ended"] == "truncated"
    assert told["messages"][0]["content"].endswith(told["messages"][2]["content"])  # it stood still
    assert told["counts"]["wrong_moves"] == 1 and maze.told(at) in told["messages"][4]["content"]


@pytest.mark.parametrize(
    "text, move",
    [("north", "north"), ("Go NORTH.", "north"), ("north or south", None), ("northern", None)],
)
def test_a_move_is_one_direction(text, move):
    assert move_in(text) == move


def test_its_own_limit_truncates():
    """Mutation caught: an episode that is given up counted as one that is over."""
    told = rehearse(load_env("maze(moves=2)"), {"prompt": "?", "row": 1, "column": 1}, ["?"] * 9)
    assert (told["ended"], told["reward"], told["turns"]) == ("truncated", -2, 2)


@pytest.mark.parametrize(
    "guess, secret, marks",
    [("cat", "cat", "+++"), ("act", "cat", "??+"), ("egg", "leg", "?-+"), ("bee", "elm", "-?-"),
     ("dog", "cat", "---")],
)  # fmt: skip
def test_letters_are_scored(guess, secret, marks):
    """By hand. Mutation caught: a letter that is there once marked twice."""
    assert score(guess, secret) == marks


def test_words_left():
    assert len(set(WORDS)) == len(WORDS) and {len(w) for w in WORDS} == {3}
    assert remaining([("act", "??+")], WORDS) == ["cat"]


def test_a_guess_costs_one_but_the_right_one():
    env = load_env("words")
    row = {"prompt": "act: ??+", "secret": "cat"}
    assert rehearse(env, row, ["cat"])["rewards"] == [0]
    told = rehearse(env, row, ["dog", "axe", "cat"])
    assert told["rewards"] == [-1, -1, 0] and told["messages"][2]["content"] == "dog: ---"
    assert told["messages"][4]["content"] == "That is none of the words."
    lost = rehearse(env, row, ["dog"] * 9)
    assert (lost["reward"], lost["ended"], lost["turns"]) == (-6, "terminated", 6)


@pytest.mark.parametrize(
    "spec, best", [("maze", "shortest"), ("words", "best"), ("twenty_questions", "best")]
)
def test_players_are_of_different_quality(spec, best):
    """Mutation caught: a mixed player who is as good as the best, from whom nothing better could be learned."""
    good, mixed, chance = (fmean(returns(spec, p, 120)) for p in (best, "mixed", "random"))
    assert good > mixed + 0.5 > chance + 0.5


def test_twenty_questions_by_hand():
    """Mutation caught: an answer to another question, a guess that costs although it is right, things that nothing
    tells apart."""
    assert len({frozenset(yes.split()) for yes in THINGS.values()}) == len(THINGS)
    row = {"prompt": "Is it alive? Yes. Can it fly? Yes.", "secret": "bee"}
    told = rehearse(
        load_env("twenty_questions"),
        row,
        ["Has it legs?", "Is it an eagle?", "Well?", "is it a bee?"],
    )
    assert told["rewards"] == [-1, -1, -1, 0] and told["counts"] == {"wrong_moves": 1, "solved": 1}
    assert [m["content"] for m in told["messages"][2::2]] == ["No.", "No.", "I cannot answer that."]
    lost = rehearse(load_env("twenty_questions(questions=3)"), row, ["?"] * 9)
    assert (lost["reward"], lost["ended"]) == (-3, "terminated")


def test_nothing_need_be_told():
    """Mutation caught: a beginning where nothing is told that one of the splits has not, one that tells another number
    of answers than was asked for."""
    for split in ("train", "held_out"):
        rows = tasks_of(load_env("twenty_questions(count=8, told=0)"), split, 0)
        assert sorted(row["secret"] for row in rows) == sorted(list(THINGS)[:8])
        assert {row["prompt"][0]["content"] for row in rows} == {"I am thinking of something."}
        one = tasks_of(load_env("twenty_questions(count=8, told=1)"), split, 0)
        assert {row["prompt"][0]["content"].count("?") for row in one} == {1}
    with pytest.raises(UserError, match="told 0 to 2"):
        load_env("twenty_questions(told=3)")


def test_a_stubborn_player_says_again_what_was_wrong():
    """By counting, of 400 games: after a wrong guess the same mostly follows, what it guesses anew is always what it
    may still be. Mutations caught: a question that is asked again, a guess that the answers exclude."""
    env = load_env("twenty_questions(count=8, told=0)")
    rows, again, guesses = tasks_of(env, "train", 0), 0, 0
    for i in range(400):
        row = rows[i % 8]
        said = env.players["stubborn"](row, random.Random(i))
        episode = asyncio.run(played_by(env, row, said, turns=20))
        said, heard = ([m.content for m in episode.messages[k::2]] for k in (1, 2))
        told = []
        for before, text in zip(["", *said], said, strict=False):
            if before.startswith(("Is it a ", "Is it an ")) and before not in QUESTIONS:
                guesses, again = guesses + 1, again + (text == before)
            else:
                assert text != before
            if text != before and text not in QUESTIONS:
                assert text in map(guess_of, left_of(told, list(THINGS)[:8]))
            told += [(text, heard[len(told)] == "Yes.")] if len(told) < len(heard) else []
    assert 0.5 < again / guesses < 0.85


OFFERS = [
    ("I take 1 book 0 hats 2 balls.", (1, 0, 2)),
    ("2 balls for me", (0, 0, 2)),
    ("3 balls", None),  # there are two
    ("1 book, 2 books", None),
    ("Everything!", None),
]


@pytest.mark.parametrize("text, deal", OFFERS)
def test_an_offer_is_what_is_taken(text, deal):
    assert bargaining.offer_in(text, (1, 1, 2)) == deal


def test_a_bargain_by_hand():
    """The partner wants .7, then .6 of its 10. Mutation caught: a deal at the policy's own values, an offer that is
    taken before there is one, an agreement that keeps what both have."""
    env = load_env("bargaining(partner=fair, rounds=3)")
    row = {"prompt": "?", "counts": [1, 1, 2], "mine": [8, 2, 0], "theirs": [2, 4, 2]}
    told = rehearse(env, row, ["Deal", "I take 1 book 1 hat", "I take 1 book"])
    # It wants 7: hat and two balls are 8. Leaving it two balls, 4, is not enough in the second round.
    assert [m["content"] for m in told["messages"][2:5:2]] == [
        "I take 0 books 1 hat 2 balls.",
        "No. I take 0 books 1 hat 1 ball.",
    ]
    assert told["reward"] == 0.8 and told["counts"] == {
        "wrong_moves": 1,
        "deals": 1,
        "partner": 0.8,
    }
    assert (
        rehearse(env, row, ["?", "deal."])["reward"] == 0.8
    )  # the book, of what the partner leaves
    assert rehearse(env, row, ["I take 1 book 1 hat 2 balls"] * 3)["reward"] == 0


def test_who_concedes_gets_more_than_who_does_not():
    """Mutation caught: players who are told what the other values, partners who give in to anybody."""
    expert, mixed, greedy = (
        fmean(returns("bargaining", p, 120)) for p in ("expert", "mixed", "greedy")
    )
    assert 1 > expert > mixed + 0.05 > greedy + 0.1


def test_a_script_writes_transcripts(tmp_path, capsys):
    """`play --player`: the same seed the same episodes, rewards a turn. Mutation caught: one player for all episodes,
    a file that is begun anew."""
    words = ["play", "--env", "maze", "--player", "mixed", "--limit", "25", "--max-turns", "40"]
    out = tmp_path / "walks.jsonl"
    for _ in range(2):
        assert cli.main([*words, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[:25] == rows[25:] and len({json.dumps(r["messages"]) for r in rows}) > 20
    assert all(sum(r["rewards"]) == r["reward"] == -r["turns"] for r in rows)
    assert rows[0]["model"] == "mixed" and "mean return -" in capsys.readouterr().out
    assert cli.main(changed(words, "--out", out, "--player", "nobody")) == 2
    assert "has no such player" in capsys.readouterr().err


def test_wanderers_turn_back_at_dead_ends_only():
    """Mutation caught: a wanderer who bumps into walls, or who goes to and fro where there is another way."""
    env, maze = load_env("maze(moves=30)"), made(5, 0)
    for i, row in enumerate(tasks_of(env, "train", 0)):
        rng = random.Random(i)
        rng.choice = lambda options, draw=rng: (
            options[-1] if options == (0.6, 0.8, 1.0) else draw.sample(options, 1)[0]
        )
        episode = asyncio.run(played_by(env, row, env.players["mixed"](row, rng), turns=30))
        at, before = (row["row"], row["column"]), None
        for move in (m.content for m in episode.messages if m.role == "assistant"):
            there = maze.step(at, move)
            ways = [c for c in (maze.step(at, m) for m in MOVES) if c != at]
            assert there != at and (there != before or ways == [before])
            at, before = there, at
