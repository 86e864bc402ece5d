"""
What each code means. There are four streams, and each frame of 20 ms has one code of each.

Most codes are silent and state where the piece is, so that a small language model can read it instead of counting:

    stream 0    ("clock", frames a beat, frame in the beat)     or a drum stroke
    stream 1    ("bar", bar of eight, beat)                      or a bass note
    stream 2    ("harmony", key, degree)                         or a chord, or a note of a broken chord
    stream 3    ("last", pitch of the melody's latest note)      or a note of the melody

A note has its code in the frame in which it starts; the codec lets it decay, or sustains it until the next note of its
stream or a ("rest",). Pitches are absolute, as the codec only adds and can't transpose. Notes of the bass and the
melody have three levels, all others two.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from training.nano import timbres
from training.nano.keys import DEGREES, KEYS, Triad, pitch_classes
from training.nano.pulse import BEAT_FRAMES, BEATS_A_BAR
from training.nano.timbres import FloatArray

STREAMS = 4
CODES = 1022  # in each stream; the last few are unused
BARS = 8  # with codes of their own, after which they repeat

SILENT = frozenset({"clock", "bar", "harmony", "last"})  # meanings that state where the piece is

SOFT, LOUD, ACCENT = 0, 1, 2
_GAINS = (0.62, 0.79, 1.0)  # -4.2, -2 and 0 dB

BASSES = ("ubass", "ebass", "sbass", "sub", "cbass", "pbass")
BASS_PITCHES = range(33, 53)
CHORDS = ("piano", "epiano", "pad", "strings", "choir", "guitar", "organ", "saw", "chip", "brass", "pluck")
POWER_CHORD = "dist"  # root, fifth and octave: distortion would make a third harsh
BROKEN = ("piano", "guitar", "harp", "pluck", "chip", "mbox")
BROKEN_PITCHES = range(48, 73)
TRIADS: tuple[Triad, ...] = tuple((root, quality) for quality in ("major", "minor") for root in range(12))
LEAD_SPAN = 19  # semitones of a melody instrument
LEADS = {  # the lowest pitch of each
    "piano": 62,
    "epiano": 60,
    "vibes": 64,
    "mbox": 72,
    "flute": 67,
    "violin": 60,
    "guitar": 52,
    "dist": 52,
    "saw": 60,
    "pluck": 60,
    "chip": 62,
    "brass": 57,
    "sax": 52,
    "choir": 57,
    "marimba": 60,
    "organ": 60,
}
MELODY_PITCHES = range(min(LEADS.values()), max(LEADS.values()) + LEAD_SPAN)
STROKES = (  # drums that are struck together, by the letters of timbres.KITS
    "K",
    "S",
    "H",
    "h",
    "O",
    "R",
    "C",
    "T",
    "t",
    "P",
    "KH",
    "Kh",
    "KO",
    "KR",
    "SH",
    "Sh",
    "SO",
    "SR",
    "KC",
    "KS",
    "HP",
    "OP",
    "KP",
    "hP",
    "KSH",
    "RP",
    "HT",
    "Ht",
)

Name = tuple[str | int | None, ...]

GAIN = 0.82  # of every code, so that the loudness of a piece is about -16 LUFS


@cache
def names() -> tuple[tuple[Name, ...], ...]:
    """Return the meaning of each code of each stream, in order."""
    two, three = (SOFT, LOUD), (SOFT, LOUD, ACCENT)
    rest: list[Name] = [("rest",)]
    clock: list[Name] = [("clock", frames, frame) for frames in BEAT_FRAMES for frame in range(frames)]
    drums: list[Name] = [("drum", kit, stroke, level) for kit in timbres.KITS for stroke in STROKES for level in two]
    bars: list[Name] = [("bar", bar, beat) for bar in range(BARS) for beat in range(BEATS_A_BAR)]
    bass: list[Name] = [("bass", name, pitch, level) for name in BASSES for pitch in BASS_PITCHES for level in three]
    harmony: list[Name] = [("harmony", key.name, degree) for key in KEYS for degree in DEGREES[key.mode]]
    chords: list[Name] = [("chord", name, *triad, level) for name in CHORDS for triad in TRIADS for level in two]
    power: list[Name] = [("chord", POWER_CHORD, root, None, level) for root in range(12) for level in two]
    broken: list[Name] = [
        ("broken", name, pitch, level) for name in BROKEN for pitch in BROKEN_PITCHES for level in two
    ]
    last: list[Name] = [("last", None), *(("last", pitch) for pitch in MELODY_PITCHES)]
    lead: list[Name] = [
        ("lead", name, pitch, level)
        for name, lowest in LEADS.items()
        for pitch in range(lowest, lowest + LEAD_SPAN)
        for level in three
    ]
    streams = (clock + drums, bars + bass, harmony + rest + chords + power + broken, last + rest + lead)
    return tuple(tuple(stream) for stream in streams)


@cache
def ids() -> tuple[dict[Name, int], ...]:
    """Return the codes by meaning, for each stream."""
    return tuple({name: code for code, name in enumerate(stream)} for stream in names())


def vectors() -> FloatArray:
    """Return the vector of each code over the axes of the timbres, shape ``(STREAMS, CODES, len(AXES))``."""
    table = np.zeros((STREAMS, CODES, len(timbres.AXES)))
    for stream, meanings in enumerate(names()):
        for code, name in enumerate(meanings):
            table[stream, code] = GAIN * _sound(name) + _release(stream, name)
    return table


def _sound(name: Name) -> FloatArray:
    match name:
        case ("drum", str(kit), str(stroke), int(level)):
            return timbres.stroke(kit, stroke) * _GAINS[level + 1]
        case ("bass", str(instrument), int(pitch), int(level)):
            return timbres.note(instrument, pitch, timbres.TIMBRES[instrument].lead * _GAINS[level])
        case ("lead", str(instrument), int(pitch), int(level)):
            amplitude = timbres.TIMBRES[instrument].lead * _GAINS[level]
            return timbres.note(instrument, pitch, amplitude, sustained="line")
        case ("broken", str(instrument), int(pitch), int(level)):
            return timbres.note(instrument, pitch, 1.2 * timbres.TIMBRES[instrument].chord * _GAINS[level + 1])
        case ("chord", str(instrument), int(root), quality, int(level)):
            pitches = voicing(instrument, (root, str(quality)) if quality else root)
            amplitude = timbres.TIMBRES[instrument].chord * np.sqrt(3 / len(pitches)) * _GAINS[level + 1]
            return np.asarray(np.sum([timbres.note(instrument, pitch, amplitude) for pitch in pitches], axis=0))
        case _:
            return timbres.silence()


def _release(stream: int, name: Name) -> FloatArray:
    """Return the release in a code: a rest, or a sustained note or chord, ends the previous one of its stream."""
    if name[0] == "rest" or (name[0] in {"lead", "chord"} and name[1] in timbres.HELD):
        return timbres.release("held" if stream == 2 else "line")
    return timbres.silence()


def voicing(instrument: str, chord: Triad | int) -> list[int]:
    """
    Return the pitches of a chord, close together around middle C.

    Some instruments repeat the lowest pitch an octave higher. A chord that is just a root is a power chord.
    """
    if isinstance(chord, int):
        root = 40 + (chord - 40) % 12
        return [root, root + 7, root + 12]
    lowest = 48 if instrument in {"guitar", "organ"} else 52
    pitches = sorted(lowest + (note - lowest) % 12 for note in pitch_classes(chord))
    return [*pitches, pitches[0] + 12] if instrument in {"guitar", "piano", "strings"} else pitches
