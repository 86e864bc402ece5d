"""
Renders composed pieces with a General MIDI soundfont, as a reference for the measures of a listener.

The notes are those of the codes; the instruments are the soundfont's. It needs FluidSynth and a soundfont, in Debian
the packages `fluidsynth` and `fluid-soundfont-gm`.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from training.nano import codes
from training.nano.audio_analysis import SAMPLE_RATE, FloatArray
from training.nano.codes import Name
from training.nano.composer import Codes
from training.nano.pulse import FRAME_RATE

SOUNDFONTS = (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), Path("/usr/share/sounds/sf2/TimGM6mb.sf2"))

# The program of each timbre, counted from 0, as in General MIDI Level 1.
_PROGRAMS = {
    "piano": 0,
    "epiano": 4,
    "vibes": 11,
    "mbox": 10,
    "flute": 73,
    "violin": 40,
    "guitar": 24,
    "dist": 30,
    "saw": 81,
    "pluck": 84,
    "chip": 80,
    "brass": 61,
    "sax": 65,
    "choir": 52,
    "marimba": 12,
    "organ": 16,
    "pad": 89,
    "strings": 48,
    "harp": 46,
    "ubass": 32,
    "ebass": 33,
    "sbass": 38,
    "sub": 39,
    "cbass": 80,
    "pbass": 0,
}
_DRUMS = {"K": 36, "S": 38, "H": 42, "h": 42, "O": 46, "R": 51, "C": 49, "T": 48, "t": 43, "P": 37}
_DRUM_CHANNEL = 9
_VELOCITIES = (64, 86, 108)
_LONGEST = 8 * FRAME_RATE  # frames of a note that no other one follows
_TICKS = 2  # a frame

_Note = tuple[int, int, int, int]  # start and end in ticks, pitch, velocity


def is_installed() -> bool:
    """Return whether FluidSynth and a soundfont are there."""
    return shutil.which("fluidsynth") is not None and any(path.exists() for path in SOUNDFONTS)


def render(piece: Codes) -> FloatArray:
    """
    Render a piece.

    Args:
        piece: Codes, shape ``(STREAMS, frames)``.

    Returns:
        Mono samples at SAMPLE_RATE, as long as the piece.
    """
    frames = piece.shape[1]
    soundfont = next(path for path in SOUNDFONTS if path.exists())
    with tempfile.TemporaryDirectory() as folder:
        midi, out = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        midi.write_bytes(_midi_file(piece))
        options = ["-q", "-n", "-i", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(SAMPLE_RATE), "-F", str(out)]
        subprocess.run(
            [str(shutil.which("fluidsynth")), *options, str(soundfont), str(midi)], check=True, capture_output=True
        )
        with wave.open(str(out)) as file:
            stereo = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    samples = np.zeros(frames * SAMPLE_RATE // FRAME_RATE)
    mono = stereo[: len(samples)].mean(1) / 32768
    samples[: len(mono)] = mono
    return samples


def _midi_file(piece: Codes) -> bytes:
    """Return a MIDI file of format 1 with a track for each timbre."""
    tracks = []
    for channel, (timbre, notes) in enumerate(_notes(piece).items()):
        number = _DRUM_CHANNEL if timbre == "kit" else channel + (channel >= _DRUM_CHANNEL)
        messages = [(0, bytes([0xC0 | number, _PROGRAMS.get(timbre, 0)]))]
        for start, end, pitch, velocity in notes:
            messages += [(start, bytes([0x90 | number, pitch, velocity])), (end, bytes([0x80 | number, pitch, 0]))]
        tracks.append(_track(messages))
    # A quarter lasts 0.5 s by default: 25 frames.
    header = b"MThd" + struct.pack(">I3H", 6, 1, len(tracks), _TICKS * FRAME_RATE // 2)
    return header + b"".join(tracks)


def _track(messages: list[tuple[int, bytes]]) -> bytes:
    content, now = b"", 0
    for tick, message in sorted(messages, key=lambda item: (item[0], item[1][0] & 0xF0 != 0x80)):
        content += _variable_length(tick - now) + message
        now = tick
    content += b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(content)) + content


def _variable_length(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | number & 0x7F)
    return bytes(reversed(groups))


def _notes(piece: Codes) -> dict[str, list[_Note]]:
    """Return the notes of each timbre; one lasts until the next event of its stream."""
    notes: dict[str, list[_Note]] = {}
    for row, table in zip(piece.tolist(), codes.names(), strict=True):
        events = [(frame, table[code]) for frame, code in enumerate(row) if table[code][0] not in codes.SILENT]
        ends = [*(frame for frame, _ in events), len(row)][1:]
        for (frame, name), end in zip(events, ends, strict=True):
            for timbre, pitch, velocity in _pitches(name):
                last = _TICKS * min(end, frame + _LONGEST)
                notes.setdefault(timbre, []).append((_TICKS * frame, last, pitch, velocity))
    return notes


def _pitches(name: Name) -> list[tuple[str, int, int]]:
    """Return the timbre, pitch and velocity of each note of an event."""
    match name:
        case ("drum", _, str(stroke), int(level)):
            return [("kit", _DRUMS[drum], _VELOCITIES[level + 1]) for drum in stroke]
        case ("bass" | "lead", str(timbre), int(pitch), int(level)):
            return [(timbre, pitch, _VELOCITIES[level])]
        case ("broken", str(timbre), int(pitch), int(level)):
            return [(timbre, pitch, _VELOCITIES[level + 1])]
        case ("chord", str(timbre), int(root), quality, int(level)):
            chord = (root, str(quality)) if quality else root
            return [(timbre, pitch, _VELOCITIES[level + 1]) for pitch in codes.voicing(timbre, chord)]
        case _:
            return []
