"""Where tunes come from: folk tunes that music21 ships, files of one's own, or a seed; all in C major at one height."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from heedful.data.melody import Note
from heedful.errors import UserError
from heedful.worlds.music import abc, midi

CORPUS = "music21"
LOWEST, HIGHEST, MIDDLE = (
    55,
    86,
    71,
)  # pitches that are kept, and the height that a tune's mean is moved to
IN_KEY, SHORTEST = 0.9, 8  # share of a tune's notes in its scale; notes of a tune


def of_source(source: Path | None, seed: int, count: int) -> list[tuple[Note, ...]]:
    """Different tunes: of `music21`, of a file or folder, or `count` from the seed where there is no source."""
    if source is None:
        made = (generated(random.Random(f"music/{seed}/{i}")) for i in range(count))
        return list(dict.fromkeys(made))
    files = _corpus() if str(source) == CORPUS else _files(source)
    found = list(dict.fromkeys(t for file in files for t in _of_file(file)))
    if not found:
        raise UserError(
            f"--source {source}: no tune in major of {SHORTEST} notes or more was found in it"
        )
    return found


def _corpus() -> list[Path]:
    """The folk tunes of music21's Essen collection, read where it is installed and copied nowhere."""
    spec = importlib.util.find_spec(CORPUS)  # not imported, which takes seconds
    if spec is None or not spec.submodule_search_locations:
        raise UserError("--source music21 needs music21: pip install 'heedful[music]'")
    folder = Path(spec.submodule_search_locations[0]) / "corpus" / "essenFolksong"
    return sorted(folder.glob("*.abc"))


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise UserError(
            f"--source {source} does not exist; a file or folder of .abc or .mid, or music21"
        )
    kinds = (".abc", ".mid", ".midi")
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    return [f for f in files if f.suffix.lower() in kinds]


def _of_file(file: Path) -> Iterator[tuple[Note, ...]]:
    if file.suffix.lower() == ".abc":
        for tune in abc.tunes(file.read_text(encoding="utf-8", errors="replace")):
            yield from in_c(tune.notes, tune.tonic)
        return
    try:
        notes = midi.melody(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    yield from in_c(notes, midi.tonic_of(notes))


def in_c(notes: Iterable[Note], tonic: int) -> Iterator[tuple[Note, ...]]:
    """A tune with its tonic on C, its mean near `MIDDLE`; nothing where it is short, not in major or too wide."""
    notes = tuple(notes)
    pitches = [n.pitch for n in notes if n.pitch is not None]
    if len(pitches) < SHORTEST:
        return
    if sum((p - tonic) % 12 in midi.MAJOR for p in pitches) < IN_KEY * len(pitches):
        return
    height = round((MIDDLE - sum(pitches) / len(pitches) + tonic) / 12) * 12 - tonic
    if min(pitches) + height < LOWEST or max(pitches) + height > HIGHEST:
        return
    yield tuple(
        Note(None if n.pitch is None else n.pitch + height, min(n.length, midi.LONGEST))
        for n in notes
    )


def generated(rng: random.Random) -> tuple[Note, ...]:
    """Four phrases of six or seven notes, A A′ B A′: mostly steps, some leaps and repeats; A′ ends on the tonic."""
    rhythm = [rng.choice((2, 4, 4, 4, 8)) for _ in range(rng.choice((5, 6)))]
    first, other = (_walk(rng, len(rhythm)) for _ in range(2))
    phrases = [[*first, rng.choice((1, 4))], [*first, 0], [*other, rng.choice((1, 4))], [*first, 0]]
    lengths = [*rhythm, 8]
    return tuple(
        Note(72 + 12 * (degree // 7) + midi.MAJOR[degree % 7], length)
        for phrase in phrases
        for degree, length in zip(phrase, lengths, strict=True)
    )


def _walk(rng: random.Random, size: int) -> list[int]:
    """Degrees of the scale, 0 the tonic, from −3 to 6."""
    walk = [rng.choice((0, 2, 4))]
    while len(walk) < size:
        move = rng.choices((0, 1, -1, 2, -2, 4, -4), (18, 26, 26, 10, 10, 5, 5))[0]
        if -3 <= walk[-1] + move <= 6:
            walk.append(walk[-1] + move)
    return walk
