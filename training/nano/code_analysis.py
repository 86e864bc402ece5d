"""Reads codes of `nano` back: the voices, the tempo, the key, and whether the clock is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from training.nano import codes
from training.nano.codes import Name
from training.nano.plan import INSTRUMENTS, Voice
from training.nano.pulse import FRAME_RATE, bpm

_MIN_NOTES = {"lead": 2, "chord": 1, "broken": 4, "bass": 2, "kit": 3}  # from which on a voice counts, in a clip


@dataclass(frozen=True, slots=True)
class CodeAnalysis:
    """What is read in the codes of one clip."""

    voices: frozenset[Voice]
    tempo: float  # beats a minute
    key: str
    clock: float  # share of clock codes that follow from the previous one

    def has(self, instrument: str) -> bool:
        """Tell whether an instrument, or "drums", is among the voices."""
        if instrument == "drums":
            return any(role == "kit" for role, _ in self.voices)
        return not self.voices.isdisjoint(INSTRUMENTS[instrument])

    def has_only(self, instrument: str) -> bool:
        """Tell whether one instrument plays and no other."""
        return self.has(instrument) and self.voices <= set(INSTRUMENTS[instrument])

    def satisfies(self, expected: str) -> bool:
        """Tell whether the clip has a property that prompts.EXAMPLES names."""
        match expected:
            case "no drums":
                return not self.has("drums")
            case "electronic kit":
                return ("kit", "electronic") in self.voices
            case "120-150 bpm":
                return 119 <= self.tempo <= 151
            case _:
                return self.has(expected)


def uses_these_codes(checkpoint: Checkpoint) -> bool:
    """Tell whether the codes of a checkpoint mean what `codes` says."""
    decoder = checkpoint.config.get("decoder")
    return isinstance(decoder, dict) and decoder.get("vocab_size") == codes.CODES


def analyze(piece: NDArray[np.int16]) -> CodeAnalysis:
    """Read the codes of one clip, shape ``(STREAMS, frames)``."""
    streams = [
        [table[code] if code < len(table) else ("unused",) for code in row]
        for table, row in zip(codes.names(), piece.tolist(), strict=True)
    ]
    events = Counter(_voice(name) for stream in streams for name in stream)
    clocks = [name for name in streams[0] if name[0] == "clock"]
    keys = Counter(str(name[1]) for name in streams[2] if name[0] == "harmony")
    tempi = Counter(int(str(name[1])) for name in clocks)
    return CodeAnalysis(
        voices=frozenset(voice for voice, count in events.items() if voice and count >= _MIN_NOTES[voice[0]]),
        tempo=bpm(tempi.most_common(1)[0][0]) if tempi else 0.0,
        key=keys.most_common(1)[0][0] if keys else "",
        clock=_continuity(streams[0]),
    )


def first_onset(piece: NDArray[np.int16], instrument: str) -> float | None:
    """Return when an instrument begins, in seconds; None if it doesn't."""
    onsets = [
        int(frame)
        for table, row in zip(codes.names(), piece, strict=True)
        for code in np.unique(row)
        if code < len(table) and _voice(table[code]) in INSTRUMENTS[instrument]
        for frame in np.flatnonzero(row == code)[:1]
    ]
    return min(onsets) / FRAME_RATE if onsets else None


def has_ending(piece: NDArray[np.int16]) -> bool:
    """Tell whether all voices end together: a second without a note, or rests, after at least two notes."""
    frames = sorted(
        frame
        for table, row in zip(codes.names(), piece.tolist(), strict=True)
        for frame, code in enumerate(row)
        if code < len(table) and _voice(table[code])
    )
    return any(after - before >= FRAME_RATE for before, after in pairwise([*frames[1:], piece.shape[1]]))


def _voice(name: Name) -> Voice | None:
    match name:
        case ("drum", str(kit), *_):
            return "kit", kit
        case (("lead" | "chord" | "broken" | "bass") as role, str(timbre), *_):
            return role, timbre
        case _:
            return None


def _continuity(clock: list[Name]) -> float:
    """
    Return the share of clock codes that follow from the previous one.

    Args:
        clock: Stream 0. Drum strokes take the place of some clock codes.
    """
    correct = total = 0
    previous: tuple[int, Name] | None = None
    for frame, name in enumerate(clock):
        if name[0] != "clock":
            continue
        if previous:
            previous_frame, (_, beat, place) = previous
            total += 1
            expected = (int(str(place)) + frame - previous_frame) % int(str(beat))
            correct += name == ("clock", beat, expected)
        previous = frame, name
    return correct / total if total else 0.0
