"""Judgments in tokens, kept in a file without a name: a million of them take eight bytes each of memory.

What is trained on is read, checked and turned into tokens once, row by row, before the first step. From then on
training asks for rows by number. The file is one that its folder does not list (it is gone with the process, whatever
ends that), and it is read, not mapped, so that what has been read is the system's to forget. Beside the states of an
unfinished run it has a name: who goes on reads no source again.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, TypeVar, overload

from heedful.disk import DiskError, disk_errors, write_folder
from heedful.types import Sample, Step, Task

HEAD = struct.Struct("<iiii")  # samples, labels, tokens of the prompt, rater
NOBODY = -1
NOT_SAID = float("nan")
ABOUT = "about.json"
log = logging.getLogger("heedful")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Judgment:
    """Samples of one prompt, and for each the number that the batch holds: p, 1 for liked and 0, or the rank, as
    `losses.reward` reads it; none where nothing was judged. `strength` is how much better the best one is, where told;
    `rater` the number of who judged, and `weight` what the row itself says it counts (`training.trust`).
    """

    samples: tuple[Sample, ...]
    labels: tuple[float, ...]
    strength: float | None = None
    rater: int = NOBODY
    weight: float = 1.0


class Numbered(Sequence[Item]):
    """A sequence whose `item` makes what is asked for, of a number from 0; a slice is a list of them."""

    def item(self, number: int) -> Item:
        raise NotImplementedError

    @overload
    def __getitem__(self, which: int) -> Item: ...
    @overload
    def __getitem__(self, which: slice) -> list[Item]: ...
    def __getitem__(self, which: int | slice) -> Item | list[Item]:
        there = range(len(self))[which]
        return self.item(there) if isinstance(there, int) else [self.item(i) for i in there]


class OnDisk(Numbered[Item]):
    """A list on disk, of items that `pack` makes bytes of and `unpack` makes of bytes."""

    def __init__(
        self, folder: Path, pack: Callable[[Item], bytes], unpack: Callable[[bytes], Item]
    ):
        """The file is made in `folder`, or in the nearest of its parents that is there."""
        self.place = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
        with disk_errors(self.place):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=self.place, buffering=1 << 20)  # noqa: SIM115
        self._pack, self._unpack = pack, unpack
        self._ends = array("q", [0])
        self._written = True

    def append(self, item: Item) -> None:
        """DiskError where there is no room."""
        packed = self._pack(item)
        with disk_errors(self.place):
            self._file.write(packed)
        self._written = False
        self._ends.append(self._ends[-1] + len(packed))

    def extend(self, items: Iterable[Item]) -> None:
        """Append each."""
        for item in items:
            self.append(item)

    def write(self, path: Path) -> None:
        """All of it into a file, where it is read from now on: the items, then where each ends."""
        self._flush()
        with open(path, "wb") as file, open(self._file.fileno(), "rb", closefd=False) as whole:
            whole.seek(0)
            shutil.copyfileobj(whole, file, 1 << 20)
            self._ends.tofile(file)
        self.read(path, len(self))

    def read(self, path: Path, count: int) -> None:
        """What `write` has written of so many items, in place of what is here. ValueError if it is not whole."""
        ends, file = array("q"), open(path, "rb")  # noqa: SIM115
        size = (count + 1) * ends.itemsize
        start = os.fstat(file.fileno()).st_size - size
        ends.frombytes(os.pread(file.fileno(), size, max(0, start)))
        if len(ends) != count + 1 or ends[-1] != start:
            file.close()
            raise ValueError(f"{path} is not whole")
        self._file.close()
        self._file, self._ends = file, ends

    def _flush(self) -> None:
        if not self._written:
            self._file.flush()
            self._written = True

    def __len__(self) -> int:
        return len(self._ends) - 1

    def item(self, number: int) -> Item:
        with disk_errors(self.place):
            self._flush()
            start, end = self._ends[number], self._ends[number + 1]
            return self._unpack(os.pread(self._file.fileno(), end - start, start))


class Kept(OnDisk[Judgment]):
    """Judgments. Of each sample the tokens are kept, where its one response begins and whether it ended; the samples of
    a judgment have the same prompt."""

    def __init__(self, folder: Path):
        super().__init__(folder, _packed, _unpacked)
        self.samples = self.strengths = 0  # how many there are; how many judgments have a strength

    def append(self, item: Judgment) -> None:
        super().append(item)
        self.samples += len(item.samples)
        self.strengths += item.strength is not None


@dataclass(frozen=True)
class Parts:
    """What is trained on and what is held out; a few of the items, evenly from the whole; what to record. `key` is a
    hash of all that they depend on; empty where nobody knows it, or they are kept."""

    train: Kept
    held: Kept
    some: list[Any]
    notes: list[dict[str, Any]]
    key: str = ""

    def keep(self, folder: Path) -> None:
        """In a folder, for `kept`; where there is no room for it nothing is lost but the time of who goes on."""
        parts = {"train": self.train, "held": self.held}
        if self.train is self.held:
            del parts["held"]

        def write(folder: Path) -> None:
            counts = {n: (len(k), k.samples, k.strengths) for n, k in parts.items()}
            about = {"key": self.key, "notes": self.notes, "parts": counts}
            (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
            for name, part in parts.items():
                part.write(folder / name)

        if self.key:
            try:
                write_folder(folder, write)
            except DiskError as error:
                log.warning("rows in tokens are not kept, who goes on reads all again: %s", error)


def kept(folder: Path, key: str, place: Path) -> Parts | None:
    """What `Parts.keep` has written under this key, without `some`; None where that is not there, or not whole."""
    about, parts = _about(folder), {}
    if not key or about.get("key") != key:
        return None
    for name, (count, samples, strengths) in about["parts"].items():
        part = parts[name] = Kept(place)
        try:
            part.read(folder / name, count)
        except (OSError, ValueError):
            return None
        part.samples, part.strengths = samples, strengths
    return Parts(parts["train"], parts.get("held", parts["train"]), [], about["notes"])


def _about(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


class KeptEpisodes(OnDisk[Sample]):
    """Episodes of one branch each. Of each the tokens are kept, the policy's turns with their rewards, and whether a
    limit ended it."""

    def __init__(self, folder: Path):
        super().__init__(folder, _packed_episode, _unpacked_episode)


class KeptTexts(OnDisk[str]):
    """Texts."""

    def __init__(self, folder: Path):
        super().__init__(folder, str.encode, bytes.decode)


class KeptIds(OnDisk[Sequence[int]]):
    """Tokens of texts, four bytes each."""

    def __init__(self, folder: Path):
        super().__init__(
            folder, lambda ids: array("i", ids).tobytes(), lambda packed: array("i", packed)
        )


class KeptTasks(OnDisk[Task]):
    """Prompts to answer, pickled, since the other columns of their rows may be anything; so it is given no name."""

    def __init__(self, folder: Path):
        super().__init__(folder, _packed_task, _unpacked_task)


def _packed_task(task: Task) -> bytes:
    return pickle.dumps(replace(task, facts=dict(task.facts)))


def _unpacked_task(packed: bytes) -> Task:
    task: Task = pickle.loads(packed)
    return replace(task, facts=MappingProxyType(dict(task.facts)))


def _packed_episode(sample: Sample) -> bytes:
    numbers = [sample.stop_reason == "length", len(sample.steps)]
    numbers += [place for step in sample.steps for place in (step.start, step.stop)]
    rewards = array("d", [step.reward for step in sample.steps])
    return rewards.tobytes() + array("i", [*numbers, *sample.tokens, len(sample.steps)]).tobytes()


def _unpacked_episode(packed: bytes) -> Sample:
    rewards, numbers = array("d"), array("i")
    (count,) = struct.unpack("<i", packed[-4:])
    rewards.frombytes(packed[: 8 * count])
    numbers.frombytes(packed[8 * count : -4])
    cut, _, *rest = numbers
    places, tokens = rest[: 2 * count], tuple(rest[2 * count :])
    pairs = zip(places[::2], places[1::2], rewards, strict=True)
    steps = tuple(Step(start, stop, reward) for start, stop, reward in pairs)
    own = {i for step in steps for i in range(step.start, step.stop)}
    return Sample(
        tokens,
        tuple(i in own for i in range(len(tokens))),
        (0.0,) * len(tokens),
        stop_reason="length" if cut else "stop",
        steps=steps,
    )


def _packed(judgment: Judgment) -> bytes:
    samples, labels = judgment.samples, judgment.labels
    start = samples[0].mask.index(True)
    prompt = samples[0].tokens[:start]
    strength = NOT_SAID if judgment.strength is None else judgment.strength
    numbers = array("d", [*labels, strength, judgment.weight])
    tokens = array("i", prompt)
    for s in samples:
        alike = s.tokens[:start] == prompt and s.mask == _mask(start, len(s.tokens))
        assert alike, "the samples of a judgment answer one prompt, in one turn each"
        tokens.extend((len(s.tokens) - start, s.stop_reason == "length", *s.tokens[start:]))
    head = HEAD.pack(len(samples), len(labels), start, judgment.rater)
    return head + numbers.tobytes() + tokens.tobytes()


def _unpacked(packed: bytes) -> Judgment:
    count, labelled, start, rater = HEAD.unpack_from(packed)
    numbers, tokens = array("d"), array("i")
    end = HEAD.size + 8 * (labelled + 2)
    numbers.frombytes(packed[HEAD.size : end])
    tokens.frombytes(packed[end:])
    prompt, samples, place = tuple(tokens[:start]), [], start
    for _ in range(count):
        length, cut = tokens[place], tokens[place + 1]
        written = tokens[place + 2 : place + 2 + length]
        place += 2 + length
        samples.append(
            Sample(
                tokens=(*prompt, *written),
                mask=_mask(start, start + length),
                logprobs=(0.0,) * (start + length),
                stop_reason="length" if cut else "stop",
            )
        )
    *labels, strength, weight = numbers
    told = None if strength != strength else strength
    return Judgment(tuple(samples), tuple(labels), told, rater, weight)


def _mask(start: int, length: int) -> tuple[bool, ...]:
    return (False,) * start + (True,) * (length - start)


@dataclass(frozen=True)
class Samples(Iterable[Sample]):
    """The samples of judgments, and others after them, as often as they are asked for."""

    judged: Iterable[Judgment]
    others: Iterable[Sample] = ()

    def __iter__(self) -> Iterator[Sample]:
        for judgment in self.judged:
            yield from judgment.samples
        yield from self.others


@dataclass(frozen=True)
class Singles(Numbered[Sample]):
    """The samples of judgments that have one each, by number."""

    judged: Sequence[Judgment]

    def __len__(self) -> int:
        return len(self.judged)

    def item(self, number: int) -> Sample:
        (sample,) = self.judged[number].samples
        return sample


@dataclass(frozen=True)
class Chosen(Numbered[Item]):
    """Some items of a sequence, by their numbers."""

    items: Sequence[Item]
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def item(self, number: int) -> Item:
        return self.items[self.numbers[number]]


def in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size`, one after the other."""
    stream = iter(items)
    while part := list(islice(stream, size)):
        yield part
