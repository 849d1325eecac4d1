"""Rewards of three sizes on words, quick to fit: what `overoptimisation` maximises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from torch import Tensor

BUCKETS = 1 << 15  # of hashed words and word pairs
SIZES = ("words", "word pairs", "network")
HIDDEN = 8
STEPS, RATE, DECAY = 200, 0.05, 1e-3


def features(text: str, pairs: bool) -> list[int]:
    """Buckets of a text's words, and of pairs of neighbours."""
    words = text.lower().split()
    found = [crc32(w.encode("utf-8", "surrogatepass")) % BUCKETS for w in words]
    if pairs:
        ends = zip(["<", *words], [*words, ">"], strict=True)
        found += [crc32(f"{a} {b}".encode("utf-8", "surrogatepass")) % BUCKETS for a, b in ends]
    return found or [0]


def bags(texts: Sequence[str], pairs: bool) -> tuple[Tensor, Tensor]:
    """All texts' buckets in one row, and where each text begins."""
    import torch

    rows = [features(text, pairs) for text in texts]
    offsets = torch.tensor([0, *(len(row) for row in rows[:-1])]).cumsum(0)
    return torch.tensor([bucket for row in rows for bucket in row]), offsets


class Reward:
    """A score of texts: a sum of weights of their buckets, or a small network on such sums of vectors."""

    def __init__(self, size: str, seed: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(seed)
        self.pairs, self.top = size != "words", None
        self.table = torch.zeros(BUCKETS, 1)
        if size == "network":
            self.table = 0.3 * torch.randn(BUCKETS, HIDDEN, generator=draw)
            self.top = torch.randn(HIDDEN, generator=draw) / HIDDEN**0.5

    def score(self, buckets: Tensor, offsets: Tensor, table: Tensor) -> Tensor:
        """`bags` of B texts → `[B]`, with the rows of `table`."""
        import torch

        sums = torch.nn.functional.embedding_bag(buckets, table, offsets, mode="sum")
        return sums[:, 0] if self.top is None else sums.tanh() @ self.top


def fitted(size: str, pairs: Sequence[tuple[str, str]], seed: int) -> Reward:
    """Bradley–Terry on (better, worse), with a penalty on the weights. Rows that no text uses stay as they are."""
    import torch

    reward = Reward(size, seed)
    texts = [text for side in range(2) for text in (pair[side] for pair in pairs)]
    buckets, offsets = bags(texts, reward.pairs)
    used, places = buckets.unique(return_inverse=True)
    table = reward.table[used].requires_grad_(True)
    weights = [table] if reward.top is None else [table, reward.top.requires_grad_(True)]
    adam = torch.optim.Adam(weights, lr=RATE)
    for _ in range(STEPS):
        adam.zero_grad()
        better, worse = reward.score(places, offsets, table).chunk(2)
        loss = torch.nn.functional.softplus(worse - better).mean()
        (loss + DECAY * table.square().sum()).backward()
        adam.step()
    reward.table[used] = table.detach()
    return reward


def worth(reward: Reward, found: tuple[Tensor, Tensor]) -> Tensor:
    """A reward's scores `[B]` of B texts, of which `bags` have been made."""
    import torch

    with torch.no_grad():
        return reward.score(*found, reward.table)
