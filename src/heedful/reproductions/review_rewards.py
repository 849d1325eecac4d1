"""Rewards on words, quick to fit: of three sizes, which `overoptimisation` maximises, and one that watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from torch import Tensor

BUCKETS = 1 << 15  # of hashed words and word pairs
SIZES = ("words", "word pairs", "network")
WATCHING = "words, damped"  # what is said again counts ever less
READS = ((False, False), (True, False), (False, True))  # pairs of words, too; damped
HIDDEN = 8
STEPS, RATE, DECAY = 200, 0.05, 1e-3
# Of texts: all their buckets in one row, where each text begins, how much each bucket counts.
Bags = tuple["Tensor", "Tensor", "Tensor"]


def features(text: str, pairs: bool) -> Counter[int]:
    """Buckets of a text's words, and of pairs of neighbours, and how often each is there."""
    words = text.lower().split()
    found = Counter(crc32(w.encode("utf-8", "surrogatepass")) % BUCKETS for w in words)
    if pairs:
        ends = zip(["<", *words], [*words, ">"], strict=True)
        found.update(crc32(f"{a} {b}".encode("utf-8", "surrogatepass")) % BUCKETS for a, b in ends)
    return found or Counter([0])


def bags(texts: Sequence[str], pairs: bool, damped: bool) -> Bags:
    """What is there n times counts n, or damped 1 + log n (Manning et al. 2008, section 6.4.1)."""
    import torch

    rows = [features(text, pairs) for text in texts]
    offsets = torch.tensor([0, *(len(row) for row in rows[:-1])]).cumsum(0)
    buckets = torch.tensor([bucket for row in rows for bucket in row])
    counts = torch.tensor([float(n) for row in rows for n in row.values()])
    return buckets, offsets, 1 + counts.log() if damped else counts


class Reward:
    """A score of texts: a sum of weights of their buckets, or a small network on such sums of vectors."""

    def __init__(self, size: str, seed: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(seed)
        self.reads = (size in SIZES[1:], size == WATCHING)
        self.top = None
        self.table = torch.zeros(BUCKETS, 1)
        if size == "network":
            self.table = 0.3 * torch.randn(BUCKETS, HIDDEN, generator=draw)
            self.top = torch.randn(HIDDEN, generator=draw) / HIDDEN**0.5

    def score(self, found: Bags, table: Tensor) -> Tensor:
        """`bags` of B texts → `[B]`, with the rows of `table`."""
        import torch

        buckets, offsets, counts = found
        sums = torch.nn.functional.embedding_bag(
            buckets, table, offsets, mode="sum", per_sample_weights=counts
        )
        return sums[:, 0] if self.top is None else sums.tanh() @ self.top


def fitted(size: str, pairs: Sequence[tuple[str, str]], seed: int) -> Reward:
    """Bradley–Terry on (better, worse), with a penalty on the weights. Rows that no text uses stay as they are."""
    import torch

    reward = Reward(size, seed)
    texts = [text for side in range(2) for text in (pair[side] for pair in pairs)]
    buckets, offsets, counts = bags(texts, *reward.reads)
    used, places = buckets.unique(return_inverse=True)
    table = reward.table[used].requires_grad_(True)
    weights = [table] if reward.top is None else [table, reward.top.requires_grad_(True)]
    adam = torch.optim.Adam(weights, lr=RATE)
    for _ in range(STEPS):
        adam.zero_grad()
        better, worse = reward.score((places, offsets, counts), table).chunk(2)
        loss = torch.nn.functional.softplus(worse - better).mean()
        (loss + DECAY * table.square().sum()).backward()
        adam.step()
    reward.table[used] = table.detach()
    return reward


def worth(reward: Reward, found: Bags) -> Tensor:
    """A reward's scores `[B]` of B texts, of which `bags` have been made."""
    import torch

    with torch.no_grad():
        return reward.score(found, reward.table)


def save(reward: Reward, texts: Sequence[str], file: Path) -> str:
    """A spec of `--reward`; its scores have mean 0 and standard deviation 1 over these texts."""
    import torch

    scores = worth(reward, bags(texts, *reward.reads))
    told = {"reads": reward.reads, "table": reward.table, "top": reward.top, "scores": scores}
    torch.save({k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in told.items()}, file)
    return f"{__name__}:score(file='{file}')"


def score(prompt: str, responses: Sequence[str], file: str = "") -> list[float]:
    """As `--reward` asks for it."""
    reward, mean, std = _loaded(file)
    values = worth(reward, bags(responses, *reward.reads))
    return ((values - mean) / std).tolist()


@cache
def _loaded(file: str) -> tuple[Reward, float, float]:
    import torch

    told = torch.load(file, weights_only=True)
    reward = Reward("words", 0)
    reward.reads, reward.table, reward.top = told["reads"], told["table"], told["top"]
    return reward, float(told["scores"].mean()), float(told["scores"].std())
