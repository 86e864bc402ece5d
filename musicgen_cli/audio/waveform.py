"""
What a sound looks like: the extremes of each stretch of it, drawn in characters, and its levels.

The standard library alone, and yet quick: `bytes.translate` deletes from all 256 bytes those that a stretch holds, and
so finds its extremes some twenty times as fast as `min` and `max` do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from musicgen_cli.audio.wav import WavInfo, inspect, samples

Peak = tuple[float, float]  # the lowest and the highest sample of a stretch, -1 to 1

_ALL = bytes(range(256))
_FLIP = bytes(byte ^ 0x80 for byte in _ALL)
_WINDOW_S = 0.01  # what silence is looked for in
_SILENT = 10 ** (-60 / 20)  # -60 dBFS, as RMS of a window
_BARS = " ▁▂▃▄▅▆▇█"
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # rows of a character, from its top


@dataclass(frozen=True, slots=True)
class Levels:
    """How loud a sound is. Decibels are relative to full scale; nothing but zeros is -inf."""

    peak_dbfs: float
    rms_dbfs: float
    clipped: int  # samples at full scale
    silence: float  # share of the time, 0 to 1: windows of 10 ms below -60 dBFS RMS


def peaks(wav: bytes, columns: int) -> list[Peak]:
    """
    Find the extremes of equal stretches of a sound, all channels together, to 8 bits: enough to draw.

    Args:
        wav: A WAV that can be kept.
        columns: Stretches; a sound with fewer frames repeats some.

    Raises:
        InvalidWavError: It is no such WAV.
    """
    info = inspect(wav)
    coarse = _coarse(wav, info)
    found = []
    for column in range(columns):
        start = column * info.frames // columns
        end = max(start + 1, (column + 1) * info.frames // columns)
        low, high = _extremes(coarse[start * info.channels : end * info.channels])
        found.append(((low - 128) / 128, (high - 128) / 128))
    return found


def braille(found: Sequence[Peak], rows: int) -> list[str]:
    """
    Draw extremes as lines of braille characters, two to a character, full scale over the whole height.

    Args:
        rows: Lines; each has four dots.
    """
    dots = 4 * rows
    cells = [[0] * ((len(found) + 1) // 2) for _ in range(rows)]
    for column, (low, high) in enumerate(found):
        top = min(dots - 1, math.floor((1 - high) / 2 * dots))
        bottom = max(top, min(dots - 1, math.ceil((1 - low) / 2 * dots) - 1))
        for dot in range(top, bottom + 1):
            cells[dot // 4][column // 2] |= _DOTS[dot % 4][column % 2]
    return ["".join(chr(_BRAILLE + cell) for cell in line) for line in cells]


def bars(found: Sequence[Peak]) -> str:
    """Draw extremes as one line of bars, an eighth of full scale a step; what isn't silent shows."""
    loudest = (max(-low, high) for low, high in found)
    return "".join(_BARS[min(8, math.ceil(8 * loud))] for loud in loudest)


def levels(wav: bytes) -> Levels:
    """
    Measure a sound, exactly.

    Raises:
        InvalidWavError: It is not a WAV that can be kept.
    """
    info = inspect(wav)
    found = samples(wav, info)
    coarse = _coarse(wav, info)
    ends = [bytes([end]) for end in _extremes(coarse)]
    # The highest positive value is one step below full scale, and some write its negative for the lowest, too.
    top = found.full_scale - found.step
    size = max(1, round(_WINDOW_S * info.sample_rate)) * info.channels
    peak, clipped, silent, norms = 0.0, 0, 0, []
    for start in range(0, len(coarse), size):
        window = found.values[start : start + size]
        norms.append(math.hypot(*window))
        silent += len(window) * (norms[-1] < _SILENT * found.full_scale * math.sqrt(len(window)))
        if any(end in coarse[start : start + size] for end in ends):  # else the loudest sample is elsewhere
            loudest = max(max(window), -min(window))
            peak = max(peak, loudest)
            clipped += sum(abs(value) >= top for value in window) if loudest >= top else 0
    return Levels(
        peak_dbfs=_decibels(peak / found.full_scale),
        rms_dbfs=_decibels(math.hypot(*norms) / math.sqrt(len(coarse)) / found.full_scale),
        clipped=clipped,
        silence=silent / len(coarse),
    )


def _coarse(wav: bytes, info: WavInfo) -> bytes:
    """Return the eight highest bits of each sample; 128 is zero."""
    data = wav[info.data_start : info.data_start + info.data_bytes]
    if info.is_float:
        return bytes(min(255, max(0, math.floor(value * 128) + 128)) for value in samples(wav, info).values)
    size = info.bits // 8
    return data if size == 1 else data[size - 1 :: size].translate(_FLIP)


def _extremes(coarse: bytes) -> tuple[int, int]:
    there = _ALL.translate(None, _ALL.translate(None, coarse))
    return there[0], there[-1]


def _decibels(ratio: float) -> float:
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf
