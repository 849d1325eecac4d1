"""Which texts are alike, as people see it, and a few that are not: quality diversity from human feedback.

People say of three texts whether the first is closer to the second or to the third. A map of the texts' words, or of
a language model's states, into a few dimensions is fitted to that (Ding et al. 2024, QDHF; the likelihood is that of
van der Maaten and Weinberger 2012). In these dimensions texts fall into cells, of which each keeps its best: MAP-Elites
(Mouret and Clune 2015) with cells around centres (Vassiliades et al. 2018), whose only variation is another sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from zlib import crc32

import torch
from torch import Tensor

BUCKETS = 1 << 12  # of hashed words and pairs of words
DIMENSIONS, STEPS, RATE, DECAY = 8, 150, 0.05, 1e-3
WORD = re.compile(r"\w+|[^\w\s]")
Triplet = tuple[str, str, str]  # a text, the one that is closer to it, the other
Features = Callable[[Sequence[str]], Tensor]  # of N texts `[N, width]`, dense or sparse


class Similarity:
    """A linear map from features of texts, `width` of them, to a few dimensions; as it begins, distances are about
    those of the features."""

    def __init__(self, features: Features | None = None, width: int = BUCKETS, *, seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        self.features = features or words
        self.table = torch.randn(width, DIMENSIONS, generator=draw) / DIMENSIONS**0.5

    def places(self, texts: Sequence[str]) -> Tensor:
        """`[N, dimensions]` of N texts; by words texts of the same ones have the same place, however often they say
        them."""
        return self.features(texts) @ self.table

    def right(self, triplets: Sequence[Triplet]) -> int:
        """Of how many triplets the closer text is closer here."""
        return int((closer(*(x @ self.table for x in self._sides(triplets))) > 0).sum())

    def fit(self, triplets: Sequence[Triplet]) -> Similarity:
        """By the logistic loss of how much closer the closer text is, squared distances; returns itself."""
        sides = self._sides(triplets)
        table = self.table.clone().requires_grad_(True)
        adam = torch.optim.Adam([table], lr=RATE)
        for _ in range(STEPS):
            adam.zero_grad()
            loss = triplet_loss(*(x @ table for x in sides)).mean()
            (loss + DECAY * table.square().sum() / DIMENSIONS).backward()
            adam.step()
        self.table = table.detach()
        return self

    def _sides(self, triplets: Sequence[Triplet]) -> list[Tensor]:
        return [self.features([t[k] for t in triplets]) for k in range(3)]


def words(texts: Sequence[str]) -> Tensor:
    """`[N, BUCKETS]`, sparse and of length 1: which words and pairs of words each text has."""
    bags = [sorted(buckets(text)) for text in texts]
    places = [[k for k, bag in enumerate(bags) for _ in bag], [b for bag in bags for b in bag]]
    weights = [len(bag) ** -0.5 for bag in bags for _ in bag]
    size = len(bags), BUCKETS
    told = torch.tensor(places), torch.tensor(weights)
    return torch.sparse_coo_tensor(*told, size, check_invariants=True)


def closer(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """`[N]`, of places `[N, d]`: how much closer to the anchor the second is than the third, in squared distance."""
    return (anchor - negative).square().sum(1) - (anchor - positive).square().sum(1)


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """`[N]`: −log of the chance, logistic in squared distances, that somebody says so (van der Maaten and Weinberger
    2012, STE with equal scales)."""
    return torch.nn.functional.softplus(-closer(anchor, positive, negative))


def buckets(text: str) -> set[int]:
    """Hashed words and pairs of neighbours; an empty text has one of its own."""
    words = ["<", *WORD.findall(text.lower()), ">"]
    pairs = (f"{a} {b}" for a, b in pairwise(words))
    return {crc32(w.encode("utf-8", "surrogatepass")) % BUCKETS for w in (*words[1:-1], *pairs)}


def elites(places: Tensor, quality: Sequence[float], count: int, *, rounds: int = 10) -> list[int]:
    """Of N texts at `places` `[N, d]` at most `count` in different cells, each the best of its cell, in their order.

    Centres begin at the best text and then ever at the text that is farthest from all, and move as k-means does. Fewer
    come out where fewer places differ.
    """
    centres = [max(range(len(quality)), key=lambda k: quality[k])]
    while len(centres) < count:
        distance = torch.cdist(places, places[centres]).min(1).values
        if float(distance.max()) <= 1e-6:
            break
        centres.append(int(distance.argmax()))
    middle = places[centres]
    cell = torch.cdist(places, middle).argmin(1)
    for _ in range(rounds):
        middle = torch.stack([
            places[cell == c].mean(0) if bool((cell == c).any()) else middle[c]
            for c in range(len(middle))
        ])  # fmt: skip
        cell = torch.cdist(places, middle).argmin(1)
    of = {int(c): [k for k in range(len(quality)) if cell[k] == c] for c in cell.unique()}
    return sorted(max(members, key=lambda k: quality[k]) for members in of.values())
