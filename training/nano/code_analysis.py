"""What can be read from codes of this sound world: who plays, how fast, in which key, and if the clock is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from training.nano import codes
from training.nano.codes import Name
from training.nano.plan import INSTRUMENTS, Voice
from training.nano.pulse import bpm

_LEAST = {"lead": 2, "chord": 1, "broken": 4, "bass": 2, "kit": 3}  # notes in a clip that make a voice


@dataclass(frozen=True, slots=True)
class Read:
    """What is read in one clip."""

    voices: frozenset[Voice]
    tempo: float  # beats a minute
    key: str
    clock: float  # share of frames whose clock follows from the one before

    def has(self, instrument: str) -> bool:
        """Tell whether an instrument is among the voices, or drums."""
        if instrument == "drums":
            return any(role == "kit" for role, _ in self.voices)
        return not self.voices.isdisjoint(INSTRUMENTS[instrument])

    def alone(self, instrument: str) -> bool:
        """Tell whether one instrument plays and no other."""
        return self.has(instrument) and self.voices <= set(INSTRUMENTS[instrument])

    def answers(self, wish: str) -> bool:
        """Tell whether one of the wishes that prompts.SEEDS name came true."""
        match wish:
            case "no drums":
                return not self.has("drums")
            case "electronic kit":
                return ("kit", "electronic") in self.voices
            case "120-150 bpm":
                return 119 <= self.tempo <= 151
            case _:
                return self.has(wish)


def knows(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint's codes mean what codes.py says."""
    decoder = checkpoint.config.get("decoder")
    return isinstance(decoder, dict) and decoder.get("vocab_size") == codes.CODES


def read(made: NDArray[np.int16]) -> Read:
    """Read the codes of one clip, shape ``(STREAMS, frames)``."""
    streams = [
        [table[code] if code < len(table) else ("nothing",) for code in row]
        for table, row in zip(codes.names(), made.tolist(), strict=True)
    ]
    events = Counter(_voice(name) for stream in streams for name in stream)
    clocks = [name for name in streams[0] if name[0] == "clock"]
    keys = Counter(str(name[1]) for name in streams[2] if name[0] == "harmony")
    tempi = Counter(int(str(name[1])) for name in clocks)
    return Read(
        voices=frozenset(voice for voice, count in events.items() if voice and count >= _LEAST[voice[0]]),
        tempo=bpm(tempi.most_common(1)[0][0]) if tempi else 0.0,
        key=keys.most_common(1)[0][0] if keys else "",
        clock=_continuity(streams[0]),
    )


def _voice(name: Name) -> Voice | None:
    match name:
        case ("drum", str(kit), _):
            return "kit", kit
        case (("lead" | "chord" | "broken" | "bass") as role, str(timbre), *_):
            return role, timbre
        case _:
            return None


def _continuity(clock: list[Name]) -> float:
    """Return the share of clock codes that are where the latest one before, however many strokes lie between, says."""
    right = total = 0
    latest: tuple[int, Name] | None = None
    for frame, name in enumerate(clock):
        if name[0] != "clock":
            continue
        if latest:
            before, (_, beat, place) = latest
            total += 1
            due = (int(str(place)) + frame - before) % int(str(beat))
            right += name == ("clock", beat, due)
        latest = frame, name
    return right / total if total else 0.0
