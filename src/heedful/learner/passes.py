"""Which rows a rank takes at once, and how many passes all ranks make."""

from __future__ import annotations

from torch import Tensor

from heedful.data.collate import microbatches
from heedful.ranks import Ranks
from heedful.types import Batch


def passes(batch: Batch, max_tokens: int, ranks: Ranks, *, alike: bool) -> list[tuple[Tensor, int]]:
    """The rows of this rank's micro-batches, and 1 for each. If the ranks must make `alike` many passes, who has fewer
    runs the shortest group of the batch again, which counts 0."""
    mine = [(rows, 1) for rows in microbatches(batch, max_tokens, (ranks.rank, ranks.world))]
    if not alike:
        return mine
    missing = max(ranks.gather(len(mine))) - len(mine)
    return [*mine, *[(_shortest(batch), 0)] * missing]


def _shortest(batch: Batch) -> Tensor:
    """The rows of the group with the fewest tokens."""
    _, group, counts = batch.group.unique_consecutive(return_inverse=True, return_counts=True)
    tokens = batch.lengths.new_zeros(len(counts)).index_add(0, group, batch.lengths)
    return (group == tokens.argmin()).nonzero().squeeze(1)
