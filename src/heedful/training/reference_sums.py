"""What a frozen reference says of responses: the log-prob of each, once, however many judgments it is part of."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import numpy as np
from transformers import PreTrainedModel

from heedful.data.collate import collate
from heedful.learner.local import Forward, predict
from heedful.ranks import ALONE, Ranks
from heedful.training.kept import in_parts
from heedful.training.reference_cache import cached
from heedful.types import Sample

TOGETHER = 16  # responses to one prompt that the reference reads at once
AT_ONCE = 4096  # responses in memory as tokens; the batches of a model are far smaller
KEY = "S16"  # a digest of tokens and mask


class Sums(Protocol):
    """The reference's log-prob of each sample's response."""

    def get(self, sample: Sample, default: float, /) -> float: ...

    def __getitem__(self, sample: Sample, /) -> float: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Known(Sums):
    """`Sums` in 24 bytes a response, `keys` in order."""

    keys: np.ndarray
    values: np.ndarray

    def get(self, sample: Sample, default: float, /) -> float:
        key = np.frombuffer(_digest(sample), KEY)[0]
        place = int(np.searchsorted(self.keys, key))
        there = place < len(self.keys) and self.keys[place] == key
        return float(self.values[place]) if there else default

    def __getitem__(self, sample: Sample, /) -> float:
        if (found := self.get(sample, np.nan)) != found:
            raise KeyError(sample)
        return found

    def __len__(self) -> int:
        return len(self.keys)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Known)
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.values, other.values)
        )

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which of the keys are there."""
        return np.isin(keys, self.keys)

    def with_more(self, keys: np.ndarray, values: np.ndarray) -> Known:
        """These too, none of which was there."""
        keys, values = np.concatenate([self.keys, keys]), np.concatenate([self.values, values])
        order = np.argsort(keys, kind="stable")
        return Known(keys[order], values[order])


NOTHING = Known(np.empty(0, KEY), np.empty(0))


def reference_sums(
    reference: PreTrainedModel,
    forward: Forward,
    samples: Iterable[Sample],
    max_tokens: int,
    known: Known = NOTHING,
    *,
    keep: bool = False,
    ranks: Ranks = ALONE,
) -> Known:
    """`known` and the samples that are not among them; these are gone through several times and never all in memory.

    With `keep` also once for all runs on the same weights and responses, see `training.reference_cache`.
    """
    keys = np.frombuffer(b"".join(map(_digest, samples)), KEY)
    new = np.zeros(len(keys), bool)
    new[np.unique(keys, return_index=True)[1]] = True
    new &= ~known.has(keys)
    if not new.any():
        return known
    asked = _Some(samples, new)

    def compute() -> np.ndarray:
        sums = []
        for part in in_parts(asked, AT_ONCE):
            batch = collate(_by_prompt(part))
            sums.append(predict(reference, forward, batch, max_tokens, ranks).logp.sum(1))
        return np.concatenate([s.double().numpy() for s in sums])

    sums = cached(reference, asked, compute, max_tokens, ranks) if keep else compute()
    return known.with_more(keys[new], sums)


@dataclass(frozen=True)
class _Some(Iterable[Sample]):
    """The samples that are `wanted` `[n]`, as often as they are asked for."""

    samples: Iterable[Sample]
    wanted: np.ndarray

    def __iter__(self) -> Iterator[Sample]:
        return (s for s, want in zip(self.samples, self.wanted, strict=True) if want)

    def __len__(self) -> int:
        return int(self.wanted.sum())


def _digest(sample: Sample) -> bytes:
    asked = array("i", sample.tokens).tobytes() + bytes(sample.mask)
    return hashlib.blake2b(asked, digest_size=16).digest()


def _by_prompt(samples: Sequence[Sample]) -> list[Sample]:
    """Neighbours that answer the same prompt in one group, which is never parted, so that it is computed once."""
    grouped: list[Sample] = []
    for _, same in groupby(samples, key=lambda s: s.tokens[: (*s.mask, True).index(True)]):
        for i, sample in enumerate(same):
            grouped.append(replace(sample, group=len(grouped) - i % TOGETHER))
    return grouped
