"""Tunes: as words, from ABC and MIDI, in one key; and a model that writes them from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.data.melody import Note, is_melody, read, written
from heedful.errors import UserError
from heedful.worlds import music
from heedful.worlds.music import abc, midi, tunes

# As in the books: G major, a sharp that is cancelled until the bar's end, a tie over the bar, a rest.
ABC = """X:1
T:By hand
M:4/4
L:1/8
K:G
G2 F=F F/2F/2 | F2 c'-|c' z B,3/2A,/ ^c |
X:2
L:1/8
K:Am
(3abc
X:3
T:no key
"""
DEGREES = (0, 2, 4, 0, 0, 4, 5, 6, 6, 5)


def tune(*degrees: int) -> str:
    """Notes of C, D, E … by their number, in ABC."""
    return f"X:1\nL:1/8\nK:C\n{' '.join('CDEFGAB'[d % 7] for d in degrees)}|\n"


def test_words_round_trip():
    """Mutation caught: an octave too far (C4 is 60), a length of one that is written, rests with a pitch."""
    notes = [Note(60), Note(73, 4), Note(None, 16), Note(None)]
    assert written(notes) == "C4 C#5:4 z:16 z" and read(written(notes)) == notes
    assert read("E#4 B#4 C5") == [Note(65), Note(72), Note(72)]
    assert read("C4 H4 C4:0 c4 C") == [Note(60)] and not is_melody("C4 H4")
    assert is_melody("C4 z") and not is_melody("z z") and not is_melody("")


def test_abc_by_hand():
    """Mutation caught: signatures not applied, accidentals beyond their bar, ties as two notes, thirds of a length."""
    (one,) = abc.tunes(ABC)
    assert one.tonic == 7 and one.major
    assert written(one.notes) == "G4:4 F#4:2 F4:2 F4 F4 F#4:4 C6:4 z:2 B3:3 A3 C#5:2"


@pytest.mark.parametrize(
    ("key", "tonic", "sharps"),
    [("Bb", 10, -2), ("F#m", 6, 3), ("D dor", 2, 0), ("Gmix", 7, 0), ("C", 0, 0)],
)
def test_signatures(key, tonic, sharps):
    """F, C and B as the signature has them. Mutation caught: modes in the wrong direction, flats from the wrong end."""
    (one,) = abc.tunes(f"X:1\nL:1/16\nK:{key}\nFcB\n")
    assert one.tonic == tonic and one.major == (key in ("Bb", "C"))
    expected = 65 + (sharps > 0), 72 + (sharps > 1), 71 - (sharps < 0)
    assert tuple(n.pitch for n in one.notes) == expected


def varied(n: int) -> bytes:
    """MIDI's number of variable length."""
    return bytes([0x80 | n >> 7, n & 0x7F]) if n > 127 else bytes([n])


def midi_file(*events: bytes) -> bytes:
    track = b"".join(events)
    head = b"MThd\0\0\0\x06\0\0\0\x01" + (96).to_bytes(2, "big")
    return head + b"MTrk" + len(track).to_bytes(4, "big") + track


def test_midi_by_hand():
    """96 ticks a quarter, running status, a chord, a pause, drums, a tempo. Mutation caught: note-on of velocity 0 as a
    note, the lowest of a chord, time of what is left out lost."""
    data = midi_file(
        varied(0) + b"\xff\x51\x03\x07\xa1\x20",
        varied(0) + b"\x90\x3c\x40", varied(0) + b"\x43\x40",  # C and G at once
        varied(24) + b"\x99\x24\x40", varied(0) + b"\x89\x24\x00",
        varied(72) + b"\x90\x3c\x00", varied(0) + b"\x43\x00",
        varied(96) + b"\x90\x40\x40", varied(48) + b"\x80\x40\x00",
    )  # fmt: skip
    assert written(midi.melody(data)) == "G4:4 z:4 E4:2"
    for torn in (b"", data[:-2], b"RIFF" + data[4:]):
        with pytest.raises(ValueError, match=r"begin as a MIDI|in the middle"):
            midi.melody(torn)
    assert midi.tonic_of([Note(p) for p in (62, 64, 66, 67, 69, 71, 73, 62)]) == 2


def test_tunes_come_to_one_key_and_height(tmp_path):
    """Those that are short, chromatic or reach too far stay away. Mutation caught: up where it should go down."""
    (tmp_path / "a.abc").write_text(tune(*DEGREES) + ABC)
    (found,) = tunes.of_source(tmp_path, 0, 1)
    assert written(found[:4]) == "C4:2 E4:2 G4:2 C4:2"
    assert abs(sum(n.pitch for n in found) / len(found) - tunes.MIDDLE) <= 6
    up = [Note(n.pitch + 2) for n in found]
    assert [n.pitch for n in next(tunes.in_c(up, 2))] == [n.pitch for n in found]
    assert not list(tunes.in_c(found[:7], 0)) and not list(
        tunes.in_c([Note(60 + i) for i in range(12)], 0)
    )
    with pytest.raises(UserError, match="no tune in major"):
        tunes.of_source(_file(tmp_path), 0, 1)
    with pytest.raises(UserError, match="does not exist"):
        tunes.of_source(tmp_path / "b", 0, 1)


def _file(folder: Path) -> Path:
    path = folder / "short.abc"
    path.write_text(tune(0, 2, 4))
    return path


def test_music21s_folk_tunes_where_they_are_installed():
    pytest.importorskip("music21")
    assert len(tunes.of_source(Path("music21"), 0, 1)) > 5000


def test_runs_and_voices():
    """Rests do not end a run. Mutation caught: runs of two, a run that the end cuts off."""
    assert music.in_runs("C4 C4 z C4 D4 D4 E4 E4 E4") == 6 / 8
    assert music.in_runs("") == 0
    voices = [music.voice("", r) for r in ("C4 D4 E4", "C4 C4 C4 E4", "C4 what")]
    assert voices == ["melody", "repeats", "broken"]
    assert music.gold("", "C4 D4 E4 F4") == 2 and music.gold("", "C4 C4 C4 C4") == 1


@pytest.mark.long
def test_a_model_writes_tunes_from_nothing(tmp_path, monkeypatch):
    """`world music`, pre-training with a start token, an empty prompt, Ψ-learning: notes come, the reward rises, what
    is saved is a policy. Mutation caught: an empty prompt that is refused, texts without a start, a tokenizer that
    joins notes, a policy that the values do not move."""
    monkeypatch.setattr(music, "MADE", 100)
    world, prior, out = tmp_path / "world", tmp_path / "prior", tmp_path / "psi"
    assert main(["world", "music", "--out", str(world), "--seed", "1"]) == 0
    again = music.write(tmp_path / "again", source=None, seed=1)
    assert again["text"].read_bytes() == (world / "text.jsonl").read_bytes()
    texts = [json.loads(line)["text"] for line in again["text"].open()]
    assert all(is_melody(t) and len(t.split()) <= music.WORDS for t in texts)
    common = ["--quiet", "--report-to", "none", "--lr", "1e-2"]
    size = [
        "--hidden-size",
        "32",
        "--layers",
        "1",
        "--heads",
        "2",
        "--context",
        "32",
        "--pack-length",
        "32",
    ]
    made = [
        "--tokenizer",
        str(world / "tokenizer"),
        "--start-token",
        "--steps",
        "80",
        "--batch-size",
        "32",
        "--out",
        str(prior),
    ]
    assert (
        main(["train", "pretrain", "--data", str(world / "text.jsonl"), *size, *made, *common]) == 0
    )

    def sampled(model: Path) -> list[str]:
        rows = tmp_path / "rows.jsonl"
        words = [
            "sample",
            "--model",
            model,
            "--data",
            world / "prompts.jsonl",
            "--n",
            40,
            "--out",
            rows,
            "--quiet",
        ]
        assert main(list(map(str, [*words, "--max-tokens", 24]))) == 0
        return [json.loads(line)["completion"] for line in rows.open()]

    first = sampled(prior)
    assert sum(map(is_melody, first)) >= 32
    begins = [t.split()[:1] for t in texts]
    assert sum(t.split()[:1] in begins for t in first) >= 24
    learn = [
        "--model",
        prior,
        "--data",
        world / "prompts.jsonl",
        "--out",
        out,
        "--reward",
        "music_tonic",
    ]
    learn += [
        "--max-tokens",
        24,
        "--steps",
        12,
        "--batch-size",
        32,
        "--beta",
        0.3,
        "--missing-eos-penalty",
        0,
    ]
    assert main(["train", "psi_learning", *map(str, learn), *common]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    assert rows[-1]["reward"] > rows[0]["reward"] + 1 and rows[-1]["kl/seq"] > 0.5 > abs(
        rows[0]["kl/seq"]
    )
    tonics = [
        sum(t.count(f"C{i}") for t in texts) / len(texts)
        for texts in (first, sampled(out))
        for i in (4, 5)
    ]
    assert sum(tonics[2:]) > sum(tonics[:2])
