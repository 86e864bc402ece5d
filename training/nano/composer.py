"""
Composes a piece: from a plan to codes.

The harmony has eight bars, two halves of four; the melody is made of motifs that return. Each voice is a function that
yields events by bar and sixteenth. `compose` writes them into the frames, over the silent codes that state where the
piece is. The order in which random numbers are drawn is part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from training.nano import codes
from training.nano.codes import LOUD, SOFT, Name
from training.nano.keys import PROGRESSIONS, pitch_classes, upper_triad
from training.nano.plan import Plan
from training.nano.pulse import BEATS_A_BAR, STEPS_A_BAR, frame_of
from training.nano.styles import GENRES, MOODS

Codes = NDArray[np.int16]
Event = tuple[int, int, Name]  # bar, sixteenth, meaning

# The sixteenths at which a chord is struck; one of the patterns is drawn.
CHORD_STYLES: dict[str, tuple[tuple[int, ...], ...]] = {
    "long": ((0,),),  # as "half" if a bar is so long that a pad would fade
    "half": ((0, 8),),
    "quarters": ((0, 4, 8, 12),),
    "strum": ((0, 4, 6, 8, 12, 14), (0, 4, 6, 10, 12, 14)),
    "offbeat": ((2, 6, 10, 14),),
    "stab": ((2, 6, 10, 14), (0, 3, 6, 10, 13), (0, 3, 6), (3, 6, 11, 14)),
    "comp": ((0, 6, 14), (3, 7, 11), (0, 7, 10), (6, 14), (0, 3, 10)),
    "chank": ((2, 5, 7, 10, 14), (1, 3, 6, 9, 14), (3, 6, 7, 11, 14)),
    "clave": ((0, 3, 6, 10, 13), (0, 3, 6, 10, 12)),
    "riff": (tuple(range(0, 16, 2)), (0, 3, 6, 8, 11, 14), (0, 2, 3, 6, 8, 10, 11, 14), (0, 4, 6, 8, 12, 14)),
    "broken8": (tuple(range(0, 16, 2)),),
    "broken16": (tuple(range(16)),),
}
# The sixteenth and the note: root, fifth, octave, third, or (n) a semitone beside the next root.
BASS_LINES = {
    "long": (("0r",),),
    "half": (("0r", "8f"),),
    "off": (("2r", "6r", "10r", "14r"),),
    "rolling": (tuple(f"{step}r" for step in range(STEPS_A_BAR) if step % 4),),
    "eighths": (tuple(f"{step}r" for step in range(0, 16, 2)),),
    "octaves": (tuple(f"{step}{'ro'[step // 2 % 2]}" for step in range(0, 16, 2)),),
    "syncopated": (("0r", "3r", "6o", "10r", "14f"), ("0r", "6r", "7o", "10r"), ("0r", "3r", "8f", "11r", "14o")),
    "lazy": (("0r", "10r"), ("0r", "6r", "10f"), ("0r", "7r"), ("0r", "11f")),
    "walking": (("0r", "4t", "8f", "12n"),),
    "tumbao": (("0r", "6f", "8r", "14f"),),
}
_RHYTHMS = (  # of motifs, by energy
    ((0, 8), (0, 6, 8), (0, 4, 8, 12), (4, 12), (0, 6, 12), (0, 4, 6, 8)),
    ((0, 4, 8, 12), (0, 3, 6, 8), (0, 6, 8, 12, 14), (0, 4, 6, 8, 12)),
    ((0, 2, 4, 8, 10, 12), (0, 3, 6, 8, 11, 14), (0, 2, 4, 6, 8, 12), (0, 4, 6, 8, 10, 12, 14)),
)
_FORMS = ("AABC", "ABAC", "AABA", "ABAB", "A-AB")  # motifs of four bars; the eighth bar ends early
_SPARSE_BELOW = 23  # frames a beat; from about 135 beats a minute on, sixteenths are too fast
_FADES_ABOVE = 33  # frames a beat; a bar is then longer than 2.6 s
_LOWEST_BASS = codes.BASS_PITCHES.start
_DROP_ORDER = "hHOPtTRSK"  # drums that a stroke can do without, the most dispensable first
_STROKES = {frozenset(drums): drums for drums in codes.STROKES}


@dataclass(frozen=True, slots=True)
class Song:
    """What all voices share."""

    plan: Plan
    degrees: tuple[str, ...]  # the harmony of each of eight bars
    energy: int  # 0-2

    def degree(self, bar: int) -> str:
        """Return the degree of a bar."""
        return self.degrees[bar % codes.BARS]

    @property
    def sparse(self) -> bool:
        """Whether sixteenths are too fast."""
        return self.plan.beat_frames < _SPARSE_BELOW


def compose(plan: Plan, seed: int, frames: int) -> Codes:
    """
    Compose a piece.

    Returns:
        Codes, shape ``(codes.STREAMS, frames)``.
    """
    rng = Random(seed)
    song = Song(plan, _harmony(plan, rng), _energy(plan))
    bars = frames // (BEATS_A_BAR * plan.beat_frames) + 1
    piece = _state(song, frames)
    swing = GENRES[plan.genre].swing
    tables = codes.ids()
    for stream, voice in enumerate((_drums, _bass, _chords, _melody)):
        for bar, step, name in voice(song, bars, rng):
            frame = frame_of(bar, step, plan.beat_frames, swing)
            if frame < frames:
                piece[stream, frame] = tables[stream][name]
                if name[0] == "lead":
                    piece[stream, frame + 1 :] = tables[stream]["last", name[2]]
    return piece


def _energy(plan: Plan) -> int:
    minimum = 1 if plan.genre in {"chiptune", "jazz", "funk", "techno"} else 0
    return 0 if plan.genre == "ambient" else max(minimum, MOODS[plan.mood].energy)


def _harmony(plan: Plan, rng: Random) -> tuple[str, ...]:
    mood = MOODS[plan.mood]
    if plan.key.mode == "major":
        progressions = "jazz" if GENRES[plan.flavour].sevenths else mood.major
    else:
        progressions = "jazz sad" if GENRES[plan.flavour].sevenths else mood.minor
    first = rng.choice(PROGRESSIONS[progressions])
    second = rng.choice(PROGRESSIONS[progressions]) if rng.random() < 0.5 else first
    return (*first.split(), *second.split())


def _state(song: Song, frames: int) -> Codes:
    """Return the silent codes: clock, bar, harmony, and no latest pitch of the melody."""
    clock, bar, harmony, last = codes.ids()
    plan, beat = song.plan, song.plan.beat_frames
    time = np.arange(frames)
    piece = np.empty((codes.STREAMS, frames), np.int16)
    piece[0] = np.array([clock["clock", beat, frame] for frame in range(beat)])[time % beat]
    beats = [bar["bar", n // BEATS_A_BAR, n % BEATS_A_BAR] for n in range(codes.BARS * BEATS_A_BAR)]
    piece[1] = np.array(beats)[time // beat % len(beats)]
    chords = [harmony["harmony", plan.key.name, degree] for degree in song.degrees]
    piece[2] = np.array(chords)[time // (BEATS_A_BAR * beat) % codes.BARS]
    piece[3] = last["last", None]
    return piece


def _level(step: int, energy: int, *, drums: bool) -> int:
    """Return the loudness of a note: accents are on beats, more of them with higher energy and without drums."""
    accents = (8, 4, 4)[energy] if drums else 4
    return LOUD if step % accents == 0 else SOFT


def _drums(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.kit is None:
        return
    pattern = rng.choice(GENRES[plan.genre].patterns)
    busy = rng.random() < 0.5
    fills = plan.genre not in {"ambient", "lofi", "jazz", "folk", "lullaby", "reggae"}
    crashes = plan.kit in {"acoustic", "taiko", "electronic"} and song.energy > 0
    for bar in range(bars):
        second_half = bar % codes.BARS >= 4
        for step in range(STEPS_A_BAR):
            drums = {drum for drum, line in pattern.items() if line[step] == "x"}
            drums |= {"h" for line in pattern.values() if line[step] == "h"}
            if song.sparse and step % 2:
                drums -= {"h"}
            if second_half and busy and "H" in drums and step % 4 == 2:
                drums = drums - {"H"} | {"O"}
            if fills and bar % 4 == 3 and step >= 12:
                drums = {"STtS"[step - 12]} if bar % 8 == 7 else drums | ({"S"} if step == 14 else set())
            if crashes and bar % 8 == 0 and step == 0 and bar:
                drums = {"K", "C"}
            if stroke := _stroke(drums):
                yield bar, step, ("drum", plan.kit, stroke)


def _stroke(drums: set[str]) -> str | None:
    """Return the stroke of these drums together, or else the first one that is left after dropping some of them."""
    for dropped in ("", *_DROP_ORDER):
        drums = drums - {dropped} if len(drums) > 1 else drums
        if frozenset(drums) in _STROKES:
            return _STROKES[frozenset(drums)]
    return None


def _bass(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.bass is None:
        return
    line = rng.choice(BASS_LINES["eighths" if song.sparse and plan.line == "rolling" else plan.line])
    for bar in range(bars):
        root, third, fifth = (
            _LOWEST_BASS + (note - _LOWEST_BASS) % 12 for note in pitch_classes(plan.key.triad(song.degree(bar)))
        )
        next_root = _LOWEST_BASS + (plan.key.triad(song.degree(bar + 1))[0] - _LOWEST_BASS) % 12
        approach = next_root + (1 if root > next_root else -1)
        pitches = {"r": root, "t": third, "f": fifth, "o": root + 12 if root + 12 in codes.BASS_PITCHES else root}
        pitches["n"] = approach if approach in codes.BASS_PITCHES else fifth
        for note in line:
            step = int(note[:-1])
            yield bar, step, ("bass", plan.bass, pitches[note[-1]], _level(step, 1, drums=plan.kit is not None))


def _chords(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.chord is None:
        return
    style = "broken8" if song.sparse and plan.style == "broken16" else plan.style
    if style == "long" and plan.beat_frames > _FADES_ABOVE:
        style = "half"
    steps = rng.choice(CHORD_STYLES[style])
    order = rng.choice(((0, 2, 1, 2), (0, 1, 2, 3), (0, 1, 2, 1), (0, 2, 3, 2)))
    sevenths = GENRES[plan.flavour].sevenths and plan.bass is not None
    for bar in range(bars):
        degree = song.degree(bar)
        triad = plan.key.triad(upper_triad(degree) if sevenths else degree)
        if style.startswith("broken"):
            notes = pitch_classes(triad)
            ladder = [pitch for pitch in codes.BROKEN_PITCHES if pitch % 12 in notes]
            base = next(n for n, pitch in enumerate(ladder) if pitch % 12 == notes[0])
            for count, step in enumerate(steps):
                pitch = ladder[min(base + order[count % 4], len(ladder) - 1)]
                yield bar, step, ("broken", plan.chord, pitch, _level(step, 1, drums=plan.kit is not None))
        elif plan.chord == codes.POWER_CHORD:
            for step in steps:
                yield bar, step, ("chord", plan.chord, triad[0], None)
        else:
            for step in steps:
                yield bar, step, ("chord", plan.chord, *triad)


def _melody(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.lead is None:
        return
    lowest = codes.LEADS[plan.lead]
    pitches = range(lowest, lowest + codes.LEAD_SPAN)
    rhythms = _RHYTHMS[min(song.energy, 1) if song.sparse else song.energy]
    motifs = {name: [(step, rng.choice((-1, 1, 1, -1, 2, -2, 0))) for step in rng.choice(rhythms)] for name in "ABC"}
    form = rng.choice(_FORMS)
    pitch = lowest + codes.LEAD_SPAN // 2 + rng.randint(-3, 3)
    for bar in range(rng.choice((0, 0, 0, 1)) if not plan.solo else 0, bars):
        part = form[bar % 4]
        if part == "-":
            continue
        chord = pitch_classes(plan.key.triad(song.degree(bar)))
        scale = plan.key.scale(song.degree(bar))
        steps = [pitch for pitch in pitches if pitch % 12 in scale]
        closing = bar % 8 == 7
        for count, (step, move) in enumerate(motifs[part]):
            if closing and step > 8:
                break
            place = min(range(len(steps)), key=lambda n: (abs(steps[n] - pitch), n))
            pitch = steps[max(0, min(len(steps) - 1, place + (move if count else 0)))]
            if step % 8 == 0:
                pitch = min((note for note in steps if note % 12 in chord), key=lambda note: (abs(note - pitch), note))
            yield bar, step, ("lead", plan.lead, pitch, _level(step, song.energy, drums=plan.kit is not None))
        if bar % 4 == 3:  # back to the middle of the range, or the melody would drift away
            pitch = (pitch + lowest + codes.LEAD_SPAN // 2) // 2
