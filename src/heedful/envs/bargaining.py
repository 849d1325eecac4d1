"""`bargaining`: two share out books, hats and balls, whose worth to the other neither knows (the game of Lewis et al.
2017, "Deal or no deal?").

An offer names what one takes, the other gets the rest: `I take 1 book 0 hats 2 balls`; `Deal` takes the other's last
offer. Without a deal nobody gets anything.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.specs import Environment, Player, Split
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Message, Task

ITEMS = ("book", "hat", "ball")
WORTH = 10  # of everything together, to each of the two
MOST, HELD_OUT = 4, 0.15  # of one thing; of what there may be, by its hash
# What the partner wants for itself in each round, of all that it might get; the last counts from then on.
PARTNERS: Mapping[str, Sequence[float]] = {
    "fair": (0.7, 0.6, 0.5, 0.4),
    "stubborn": (0.9, 0.8, 0.8, 0.7),
    "soft": (0.5, 0.4, 0.3, 0.2),
}
TAKES = re.compile(r"(\d{1,2}) (book|hat|ball)s?", re.IGNORECASE)
Deal = tuple[int, ...]  # how many of each of ITEMS


def worth(deal: Sequence[int], values: Sequence[int]) -> int:
    """What somebody gets who takes these."""
    return sum(n * v for n, v in zip(deal, values, strict=True))


def offer_in(text: str, counts: Sequence[int]) -> Deal | None:
    """What is taken; None where nothing is named, one thing twice, or more than there is."""
    named = [(item.lower(), int(n)) for n, item in TAKES.findall(text)]
    if not named or len(dict(named)) != len(named):
        return None
    deal = tuple(dict(named).get(item, 0) for item in ITEMS)
    return deal if all(n <= c for n, c in zip(deal, counts, strict=True)) else None


def wanted(counts: Sequence[int], values: Sequence[int], least: float) -> Deal:
    """The fewest things that are worth at least so much of everything: what one can ask for and leave most."""
    every = list(product(*(range(c + 1) for c in counts)))
    enough = [deal for deal in every if worth(deal, values) >= least * worth(counts, values)]
    return min(enough, key=lambda deal: (sum(deal), worth(deal, values), deal))


def rest(counts: Sequence[int], deal: Sequence[int]) -> Deal:
    """What the other one gets."""
    return tuple(c - n for c, n in zip(counts, deal, strict=True))


def told(counts: Sequence[int], of: str = "") -> str:
    """`1 book 0 hats 2 balls`."""
    return " ".join(
        f"{n} {item}{'' if n == 1 else 's'}{of}" for n, item in zip(counts, ITEMS, strict=True)
    )


@register(
    "environment",
    "bargaining",
    help="a deal with somebody whose values are not known",
    source="Lewis et al. 2017",
)
def bargaining(*, partner: str = "mixed", rounds: int = 5) -> Env:
    """At a deal the policy gets what its things are worth to it, at most 1. `partner` is fair, stubborn, soft, or
    mixed, one of these by chance; after so many `rounds` there is no deal."""
    if partner not in (*PARTNERS, "mixed") or rounds < 1:
        raise UserError(f"bargaining: partner is {', '.join(PARTNERS)} or mixed, rounds at least 1")

    async def play(task: Task, chat: Chat) -> float | None:
        counts, mine, theirs = (tuple(task.facts[name]) for name in ("counts", "mine", "theirs"))
        wants = PARTNERS[chat.rng.choice(list(PARTNERS)) if partner == "mixed" else partner]
        offered: Deal | None = None  # what the partner would take
        for number in range(rounds):
            said = (await chat.say()).text
            least = wants[min(number, len(wants) - 1)]
            if offered is not None and re.fullmatch(r"\W*deal\W*", said, re.IGNORECASE):
                return _closed(chat, rest(counts, offered), counts, mine, theirs)
            taken = offer_in(said, counts)
            if taken is None:
                chat.count("wrong_moves", 1)
            elif worth(rest(counts, taken), theirs) >= least * WORTH:
                return _closed(chat, taken, counts, mine, theirs)
            offered = wanted(counts, theirs, least)
            if number < rounds - 1:
                chat.hear("user", f"{'No. ' if taken else ''}I take {told(offered)}.")
        return 0.0

    players = {
        "expert": _haggler(lambda rng: (0.9, 0.8, 0.7, 0.5, 0.3)),
        "greedy": _haggler(lambda rng: (1.0,)),
        "soft": _haggler(lambda rng: (0.5, 0.3, 0.1)),
        "mixed": _haggler(
            lambda rng: rng.choice(((1.0,), (0.5, 0.3, 0.1), (0.9, 0.8, 0.7, 0.5, 0.3)))
        ),
    }
    return Environment(play, _tasks, "bargaining", players)


def _closed(chat: Chat, mine: Deal, counts: Deal, values: Deal, theirs: Deal) -> float:
    chat.count("deals", 1)
    chat.count("partner", worth(rest(counts, mine), theirs) / WORTH)
    return worth(mine, values) / WORTH


def _tasks(split: Split, seed: int) -> list[dict[str, Any]]:
    """Everything that there may be and be worth to the policy, split by what it is told; what it is worth to the other
    is drawn."""
    rng, rows = random.Random(f"bargaining/{split}/{seed}"), []
    for counts in product(range(1, MOST + 1), repeat=len(ITEMS)):
        each = [
            v for v in product(range(WORTH + 1), repeat=len(ITEMS)) if worth(counts, v) == WORTH
        ]
        for mine in each:
            words = (
                f"There are {told(counts)}. To you they are worth {' '.join(map(str, mine))} each."
            )
            held = hashlib.sha256(words.encode()).digest()[0] < HELD_OUT * 256
            if held == (split == "held_out"):
                facts = {
                    "counts": list(counts),
                    "mine": list(mine),
                    "theirs": list(rng.choice(each)),
                }
                rows.append({"prompt": [{"role": "user", "content": words}]} | facts)
    rng.shuffle(rows)
    return rows


def _haggler(asks: Callable[[random.Random], Sequence[float]]) -> Player:
    """Asks for a share of its worth that falls from round to round, and takes any offer that leaves it as much."""

    def player(row: Mapping[str, Any], rng: random.Random) -> Any:
        counts, mine, shares = tuple(row["counts"]), tuple(row["mine"]), list(asks(rng))
        number = -1

        async def haggle(heard: Sequence[Message], tools: Any) -> str:
            nonlocal number
            number += 1
            least = shares[min(number, len(shares) - 1)]
            offered = offer_in(heard[-1].content, counts) if number else None
            if offered and worth(rest(counts, offered), mine) >= least * WORTH:
                return "Deal"
            return f"I take {told(wanted(counts, mine, least))}"

        return haggle

    return player
