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

from training.nano import codes, endings, rhythms
from training.nano.codes import ACCENT, LOUD, SOFT, Name
from training.nano.keys import PROGRESSIONS, pitch_classes, upper_triad
from training.nano.plan import Plan
from training.nano.pulse import BEATS_A_BAR, STEPS_A_BAR, frame_of
from training.nano.styles import GENRES, MOODS
from training.nano.timbres import HELD

Codes = NDArray[np.int16]
Event = tuple[int, int, Name]  # bar, sixteenth, meaning

# How loud the bars of a section are: 1 makes each note a level louder.
_ARCS = ("00001111", "00110110", "00111110", "11110011", "01110111", "11001111", "00000110", "11111001")
_UNEVEN = 0.3  # the share of notes whose loudness is a level off
_SPARSE_BELOW = 23  # frames a beat; from about 135 beats a minute on, sixteenths are too fast
_FADES_ABOVE = 33  # frames a beat; a bar is then longer than 2.6 s
_LOWEST_BASS = codes.BASS_PITCHES.start
_STROKES = {frozenset(drums): drums for drums in codes.STROKES}
_CRASHING = frozenset({"acoustic", "taiko", "electronic"})  # kits
_WITHOUT_FILLS = frozenset({"ambient", "lofi", "jazz", "folk", "lullaby", "reggae", "classical"})


@dataclass(frozen=True, slots=True)
class Song:
    """What all voices share."""

    plan: Plan
    degrees: tuple[str, ...]  # the harmony of each of eight bars
    energy: int  # 0-2
    arc: str  # of _ARCS

    def degree(self, bar: int) -> str:
        """Return the degree of a bar."""
        return self.degrees[bar % codes.BARS]

    def level(self, bar: int, step: int, levels: int, rng: Random) -> int:
        """
        Return the loudness of a note.

        Accents are on beats, more of them with higher energy and without drums. Some notes are a level off, as those of
        a player are.
        """
        accents = (8, 4, 4)[self.energy] if self.plan.kit else 4
        level = (step % accents == 0) + int(self.arc[bar % codes.BARS])
        if rng.random() < _UNEVEN:
            level += 1 if level == 0 or rng.random() < 0.5 else -1
        return min(level, levels - 1)

    @property
    def sparse(self) -> bool:
        """Whether sixteenths are too fast."""
        return self.plan.beat_frames < _SPARSE_BELOW


def compose(plan: Plan, seed: int, frames: int, *, start: int = 0) -> Codes:
    """
    Compose a piece.

    Args:
        start: Leave out the first frames.

    Returns:
        Codes, shape ``(codes.STREAMS, frames)``.
    """
    rng = Random(seed)
    energy = _energy(plan)
    song = Song(plan, _harmony(plan, rng), energy, _ARCS[plan.hues[2]] if rng.random() < 0.7 else rng.choice(_ARCS))
    end = start + frames
    bars = end // (BEATS_A_BAR * plan.beat_frames) + 1
    piece = _state(song, end)
    swing = GENRES[plan.genre].swing
    tables = codes.ids()
    for stream, voice in enumerate((_drums, _bass, _chords, _melody)):
        events = voice(song, bars, Random(f"{seed} {stream}"))
        if plan.jingle:
            events = endings.close(plan, stream, events)
        for bar, step, name in events:
            frame = frame_of(bar, step, plan.beat_frames, swing)
            if frame < end:
                piece[stream, frame] = tables[stream][name]
                if name[0] == "lead":
                    piece[stream, frame + 1 :] = tables[stream]["last", name[2]]
    return piece[:, start:]


def _energy(plan: Plan) -> int:
    minimum = 1 if plan.genre in {"chiptune", "jazz", "funk", "techno"} or plan.solo or plan.jingle else 0
    return 0 if plan.genre == "ambient" and not plan.solo else max(minimum, MOODS[plan.mood].energy)


def _harmony(plan: Plan, rng: Random) -> tuple[str, ...]:
    mood, tonic = MOODS[plan.mood], "I" if plan.key.mode == "major" else "i"
    if plan.drone:
        return (tonic,) * codes.BARS
    if plan.key.mode == "major":
        progressions = PROGRESSIONS["jazz" if GENRES[plan.flavour].sevenths else mood.major]
    else:
        progressions = PROGRESSIONS["jazz sad" if GENRES[plan.flavour].sevenths else mood.minor]
    usual = progressions[plan.hues[1] % len(progressions)]
    first = (usual if rng.random() < 0.7 else rng.choice(progressions)).split()
    second = rng.choice(progressions).split() if rng.random() < 0.5 else first
    if plan.jingle:
        return endings.harmony(plan.jingle, first, tonic)
    if rng.random() < 0.5:  # a cadence, which leads back to the beginning or ends the piece
        second = [*second[:2], "V", tonic]
    return (*first, *second)


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


def _drums(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.kit is None:
        return
    patterns = rng.sample(GENRES[plan.genre].patterns, k=min(2, len(GENRES[plan.genre].patterns)))
    drum_solo = plan.solo
    busy = drum_solo or rng.random() < 0.5
    kinds = [rhythms.drum_bars(rng, pattern, busy=busy) for pattern in (patterns if drum_solo else patterns[:1])]
    fills = [rhythms.fill(rng) for _ in range(3)]
    filled = drum_solo or plan.genre not in _WITHOUT_FILLS
    opened = busy and rng.random() < 0.6
    crashes = plan.kit in _CRASHING and song.energy > 0
    for bar in range(bars):
        pattern = kinds[bar // 2 % len(kinds)][bar % 2]
        for step in range(STEPS_A_BAR):
            drums = set(pattern[step])
            if song.sparse and step % 2:
                drums -= {"h"}
            if bar % codes.BARS >= 4 and opened and "H" in drums and step % 4 == 2:
                drums = drums - {"H"} | {"O"}
            if filled and step >= 12 and (bar % 4 == 3 or (drum_solo and bar % 2)):
                struck = fills[bar // 4 % 2 if not drum_solo else bar // 2 % 3][step - 12]
                drums = set(struck) - {"."} if bar % 8 == 7 or drum_solo else drums | ({"S"} if step == 14 else set())
            if crashes and bar % 8 == 0 and step == 0 and bar:
                drums = {"K", "C"}
            level = LOUD if step % 4 == 0 or "S" in drums else song.level(bar, step, 2, rng)
            if stroke := _stroke(drums):
                yield bar, step, ("drum", plan.kit, stroke, level)


def _stroke(drums: set[str]) -> str | None:
    """Return the stroke of these drums together, or else the first one that is left after dropping some of them."""
    return next((_STROKES[option] for option in rhythms.strokes_without(drums) if option in _STROKES), None)


def _bass(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.bass is None:
        return
    lines = rhythms.bass_lines(rng, "eighths" if song.sparse and plan.line == "rolling" else plan.line)
    for bar in range(bars):
        root, third, fifth = (
            _LOWEST_BASS + (note - _LOWEST_BASS) % 12 for note in pitch_classes(plan.key.triad(song.degree(bar)))
        )
        next_root = _LOWEST_BASS + (plan.key.triad(song.degree(bar + 1))[0] - _LOWEST_BASS) % 12
        approach = next_root + (1 if root > next_root else -1)
        pitches = {"r": root, "t": third, "f": fifth, "o": root + 12 if root + 12 in codes.BASS_PITCHES else root}
        pitches["n"] = approach if approach in codes.BASS_PITCHES else fifth
        for note in lines[bar % 2]:
            step = int(note[:-1])
            yield bar, step, ("bass", plan.bass, pitches[note[-1]], song.level(bar, step, 3, rng))


def _chords(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.chord is None:
        return
    style = "broken8" if song.sparse and plan.style == "broken16" else plan.style
    if style == "long" and plan.beat_frames > _FADES_ABOVE and plan.chord not in HELD:
        style = "half"
    variants = rhythms.chord_steps(rng, style)
    order = rng.choice(((0, 2, 1, 2), (0, 1, 2, 3), (0, 1, 2, 1), (0, 2, 3, 2), (0, 3, 2, 1), (2, 1, 0, 1)))
    sevenths = GENRES[plan.flavour].sevenths and plan.bass is not None
    for bar in range(bars):
        degree, steps = song.degree(bar), variants[bar % 2]
        triad = plan.key.triad(upper_triad(degree) if sevenths else degree)
        if style.startswith("broken"):
            notes = pitch_classes(triad)
            ladder = [pitch for pitch in codes.BROKEN_PITCHES if pitch % 12 in notes]
            base = next(n for n, pitch in enumerate(ladder) if pitch % 12 == notes[0])
            for count, step in enumerate(steps):
                pitch = ladder[min(base + order[count % 4], len(ladder) - 1)]
                level = LOUD if plan.lead is None else song.level(bar, step, 2, rng)
                yield bar, step, ("broken", plan.chord, pitch, level)
            continue
        chord = (triad[0], None) if plan.chord == codes.POWER_CHORD else triad
        for step, following in zip(steps, (*steps[1:], STEPS_A_BAR), strict=True):
            # A sustained chord is soft beneath a melody, or pieces with and without one would differ much in loudness.
            held = SOFT if plan.lead else LOUD
            level = held if plan.chord in HELD else song.level(bar, step, 2, rng)
            yield bar, step, ("chord", plan.chord, *chord, level)
            if plan.chord in HELD and style in rhythms.SHORT_STYLES and following > step + 2:
                yield bar, step + 2, ("rest",)


def _melody(song: Song, bars: int, rng: Random) -> Iterator[Event]:
    plan = song.plan
    if plan.lead is None:
        return
    lowest = codes.LEADS[plan.lead]
    pitches = range(lowest, lowest + codes.LEAD_SPAN)
    energy = min(song.energy, 1) if song.sparse else song.energy
    motifs = {
        name: [(step, rng.choice((-1, 1, 1, -1, 2, -2, 0))) for step in rhythms.melody_steps(rng, energy)]
        for name in "ABC"
    }
    forms = [form for form in rhythms.FORMS if not ((plan.solo or plan.jingle) and "-" in form)]
    form = rng.choice(forms) + rng.choice(forms)
    pitch = lowest + codes.LEAD_SPAN // 2 + rng.randint(-3, 3)
    for bar in range(bars):
        part = form[bar % codes.BARS]
        if part == "-":
            if plan.lead in HELD:
                yield bar, 8, ("rest",)
            continue
        chord = pitch_classes(plan.key.triad(song.degree(bar)))
        scale = plan.key.scale(song.degree(bar))
        steps = [pitch for pitch in pitches if pitch % 12 in scale]
        closing = bar % codes.BARS == codes.BARS - 1
        for count, (step, move) in enumerate(motifs[part]):
            if closing and step > (12 if plan.solo else 8):
                break
            place = min(range(len(steps)), key=lambda n: (abs(steps[n] - pitch), n))
            pitch = steps[max(0, min(len(steps) - 1, place + (move if count else 0)))]
            if step % 8 == 0:
                pitch = min((note for note in steps if note % 12 in chord), key=lambda note: (abs(note - pitch), note))
            level = song.level(bar, step, 3, rng)
            yield bar, step, ("lead", plan.lead, pitch, ACCENT if plan.solo and level else level)
        if bar % 4 == 3:  # back to the middle of the range, or the melody would drift away
            pitch = (pitch + lowest + codes.LEAD_SPAN // 2) // 2
