"""
When notes are played: the rhythms of chords, basses, melodies and drums, and how each piece varies them.

A rhythm is usual in a genre, but hardly two pieces have the same: each draws its own variant, plays another one in
every other bar, and has fills of its own. The order in which random numbers are drawn is part of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from training.nano.pulse import STEPS_A_BAR

Steps = tuple[int, ...]

# The sixteenths at which a chord is struck; one of the patterns is drawn.
CHORD_STYLES: dict[str, tuple[Steps, ...]] = {
    "long": ((0,),),  # as "half" if a bar is so long that a chord would fade
    "half": ((0, 8), (0, 12), (0, 6)),
    "quarters": ((0, 4, 8, 12), (0, 4, 8), (0, 4, 8, 12, 14)),
    "strum": ((0, 4, 6, 8, 12, 14), (0, 4, 6, 10, 12, 14), (0, 6, 8, 14), (0, 3, 6, 8, 12)),
    "offbeat": ((2, 6, 10, 14), (2, 6, 7, 10, 14), (2, 6, 10, 13, 14)),
    "stab": ((2, 6, 10, 14), (0, 3, 6, 10, 13), (0, 3, 6), (3, 6, 11, 14), (0, 6, 12), (2, 5, 10), (0, 7, 10)),
    "comp": ((0, 6, 14), (3, 7, 11), (0, 7, 10), (6, 14), (0, 3, 10), (2, 8, 13), (0, 5, 12)),
    "chank": ((2, 5, 7, 10, 14), (1, 3, 6, 9, 14), (3, 6, 7, 11, 14), (2, 3, 6, 10, 11, 14)),
    "clave": ((0, 3, 6, 10, 13), (0, 3, 6, 10, 12), (0, 3, 7, 10, 12), (2, 4, 8, 11, 14)),
    "riff": (tuple(range(0, 16, 2)), (0, 3, 6, 8, 11, 14), (0, 2, 3, 6, 8, 10, 11, 14), (0, 4, 6, 8, 12, 14)),
    "broken8": (tuple(range(0, 16, 2)),),
    "broken16": (tuple(range(16)),),
}
SHORT_STYLES = frozenset({"stab", "comp", "chank", "clave", "offbeat"})  # a sustained chord is cut short in these
# The sixteenth and the note: root, fifth, octave, third, or (n) a semitone beside the next root.
BASS_LINES: dict[str, tuple[tuple[str, ...], ...]] = {
    "long": (("0r",), ("0r", "12f"), ("0r", "8r")),
    "half": (("0r", "8f"), ("0r", "6f", "8r"), ("0r", "8f", "12r")),
    "off": (("2r", "6r", "10r", "14r"), ("2r", "6r", "10r", "13r", "14r"), ("2r", "5r", "10r", "14o")),
    "rolling": (tuple(f"{step}r" for step in range(STEPS_A_BAR) if step % 4),),
    "eighths": (tuple(f"{step}r" for step in range(0, 16, 2)),),
    "octaves": (tuple(f"{step}{'ro'[step // 2 % 2]}" for step in range(0, 16, 2)),),
    "syncopated": (
        ("0r", "3r", "6o", "10r", "14f"),
        ("0r", "6r", "7o", "10r"),
        ("0r", "3r", "8f", "11r", "14o"),
        ("0r", "2r", "6f", "9r", "12o"),
    ),
    "lazy": (("0r", "10r"), ("0r", "6r", "10f"), ("0r", "7r"), ("0r", "11f"), ("0r", "3r", "10o")),
    "walking": (("0r", "4t", "8f", "12n"), ("0r", "4f", "8t", "12n"), ("0r", "4t", "8f", "10f", "12n")),
    "tumbao": (("0r", "6f", "8r", "14f"), ("0r", "6f", "12r"), ("0r", "6f", "8o", "12f")),
}
# Half bars of melodies, by energy.
_CELLS = (
    ("x.......", "x...x...", "x.....x.", "....x...", "x.x.x...", "..x...x.", "x...x.x."),
    ("x...x...", "x.x.x...", "x..x..x.", "x...x.x.", "x.x...x.", "..x.x.x.", "x.....x.", "x.x.x.x."),
    ("x.x.x.x.", "x..x..x.", "x.xxx.x.", "x...x.xx", "x.x..xx.", "xx..x.x.", "..x.x.xx", "x.xx..x."),
)
FORMS = ("AABC", "ABAC", "AABA", "ABAB", "ABCB", "ABCA", "A-AB", "AB-C")  # motifs of four bars
_FILLS = ("STtS", "SSTt", "S.St", "TTtt", ".SSS", "tTSS", "S.T.", "ttSS")
_DROP_ORDER = "hHOPtTRSK"  # drums that a stroke can do without, the most dispensable first


def melody_steps(rng: Random, energy: int) -> Steps:
    """Draw the sixteenths of one motif, at least two of them."""
    first, second = rng.choice(_CELLS[energy]), rng.choice(_CELLS[energy])
    steps = tuple(step for step, mark in enumerate(first + second) if mark == "x")
    return steps if len(steps) > 1 else (0, 8)


def chord_steps(rng: Random, style: str) -> tuple[Steps, Steps]:
    """Draw the sixteenths of a style in even and in odd bars."""
    steps = rng.choice(CHORD_STYLES[style])
    other = rng.choice(CHORD_STYLES[style]) if rng.random() < 0.5 else steps
    if style == "riff" or style.startswith("broken") or len(steps) < 3:
        return steps, other
    return _thinned(rng, steps), _thinned(rng, other)


def bass_lines(rng: Random, line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw the notes of a bass line in even and in odd bars."""
    notes = rng.choice(BASS_LINES[line])

    def variant() -> tuple[str, ...]:
        kept = [note for note in notes if note == notes[0] or len(notes) < 4 or rng.random() < 0.88]
        return tuple(_other_note(rng, note) if len(notes) > 4 else note for note in kept)

    first = variant()
    return first, variant() if rng.random() < 0.7 else first


def _other_note(rng: Random, note: str) -> str:
    """Return a root sometimes as its octave or fifth."""
    if note[-1] != "r" or note == "0r" or rng.random() > 0.12:
        return note
    return note[:-1] + rng.choice("of")


def _thinned(rng: Random, steps: Steps) -> Steps:
    """Leave out one chord sometimes, but not the first."""
    if rng.random() < 0.4:
        dropped = rng.choice(steps[1:])
        return tuple(step for step in steps if step != dropped)
    return steps


def drum_bars(rng: Random, pattern: Mapping[str, str], *, busy: bool) -> tuple[list[set[str]], list[set[str]]]:
    """
    Draw the drums of each sixteenth in even and in odd bars.

    Args:
        busy: Add strokes; otherwise the pattern loses some of its soft ones.
    """
    plain: list[set[str]] = [set() for _ in range(STEPS_A_BAR)]
    for drum, line in pattern.items():
        for step, mark in enumerate(line):
            if mark != ".":
                plain[step].add("h" if mark == "h" else drum)
    on_every_beat = all("K" in plain[step] for step in (0, 4, 8, 12))

    def variant() -> list[set[str]]:
        bar = [set(drums) for drums in plain]
        if not on_every_beat and any("K" in drums for drums in plain) and rng.random() < 0.6:
            bar[rng.choice((3, 6, 7, 10, 11, 14))].add("K")
        if busy and rng.random() < 0.6:
            bar[rng.choice((7, 9, 13, 15))].add("h" if rng.random() < 0.6 else "P")
        if busy and rng.random() < 0.4:
            bar[rng.choice((2, 6, 10, 14))].add("O")
        if not busy:
            for step in range(1, STEPS_A_BAR, 2):
                bar[step] -= {"h"} if rng.random() < 0.5 else set()
        return bar

    first = variant()
    return first, variant() if rng.random() < 0.7 else first


def fill(rng: Random) -> str:
    """Draw the drums of the last four sixteenths of a section; `.` is none."""
    return rng.choice(_FILLS)


def strokes_without(drums: set[str]) -> list[frozenset[str]]:
    """Return these drums, and then with ever more of them left out, the most dispensable first."""
    options = [frozenset(drums)]
    for dropped in _DROP_ORDER:
        if len(options[-1]) > 1:
            options.append(options[-1] - {dropped})
    return options
