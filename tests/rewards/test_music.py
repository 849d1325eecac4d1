"""Rules of melodies against hand-worked tables; each rule has something it loves and something it hates."""

from __future__ import annotations

import math

import pytest

from heedful.rewards import music

C, D, E, F, G, A, B = 60, 62, 64, 65, 67, 69, 71


def test_simple_rules_by_hand():
    """A rest between notes is no interval of its own; a word that is none counts for nothing. Mutation caught: steps
    over a rest lost, the tonic of one octave only, whole tones and semitones exchanged."""
    tune = "C4:2 D4 z F#4 C5 what B4"
    assert music.music_key()("", tune) == -1 and music.music_key(penalty=2)("", tune) == -2
    assert music.music_step()("", tune) == 2  # C D, C B
    assert music.music_step(most=4)("", tune) == 3
    assert music.music_tonic()("", tune) == 2
    assert music.music_step()("", "C4 C4 C4") == 2 and music.music_step()("", "") == 0


@pytest.mark.parametrize(
    ("rule", "pitches", "worth"),
    [
        ("key", [C, C + 1, F + 1, B], -2),
        ("tonic", [C, D, C + 12], 6),
        ("tonic", [C], 3),
        ("tonic", [D, C, E], 0),
        ("repeats", [C] * 5, 0),  # four before it
        ("repeats", [C] * 7, -200),
        ("repeats", [C] * 5 + [D] + [C] * 5, 0),
        ("autocorrelation", [C], 0),
        ("autocorrelation", [C, D, C, D, C, D], -9),
        ("motifs", [C, D, E, F, C, D, E, F], (3 + 0.3) / 8),
        ("motifs", [C, D] * 4, 0),
        ("repeated_motifs", [C, D, E, F, G, F, E, D] * 2, (4 + 5 - 3) / 8),
        ("repeated_motifs", [C, D, E] * 5, 0),  # the same bar, but one that is not over yet
        ("intervals", [C, G, C], 5 * (0.1 + 0.1)),
        ("intervals", [D, A, D - 12], 5 * (0.02 - 1.0)),
        ("intervals", [C, E, C, C], 5 * (0.15 + 0.15)),
        ("leaps", [C, G, F, E, D, C], 5),
        ("leaps", [C, G, A, A + 8], -5),
        ("leaps", [G, C, D, E, F, G], 5),
        ("leaps", [C, A, B, A], 0),
        ("unique_ends", [C, E, D], 6),
        ("unique_ends", [C, E, E], 3),
        ("unique_ends", [], 0),
    ],
)  # fmt: skip
def test_sequence_tutors_rules_by_hand(rule, pitches, worth):
    assert math.isclose(music.RULES[rule](pitches), worth, abs_tol=1e-9)


def test_their_sum():
    """Mutation caught: a rule left out, the scale applied twice."""
    tune = "C4 D4 E4 F4 G4 F4 E4 D4 C4"
    pitches = music.pitches_of(tune)
    parts = [rule(pitches) for rule in music.RULES.values()]
    assert len(parts) == 9 and math.isclose(music.sequence_tutor(scale=2)("", tune), 2 * sum(parts))
