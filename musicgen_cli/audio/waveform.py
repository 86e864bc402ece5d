"""
Waveforms drawn in characters, and the levels of a clip.

This needs only the standard library. It is fast because `bytes.translate` deletes the bytes that occur in a
segment from all 256, which finds its extremes some twenty times as fast as `min` and `max`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from musicgen_cli.audio.wav import FLIP_SIGN, WavInfo, inspect, samples

Peak = tuple[float, float]  # the lowest and the highest sample of a segment, -1 to 1

_ALL = bytes(range(256))
_WINDOW_S = 0.01  # the unit in which silence is measured
_SILENT = 10 ** (-60 / 20)  # -60 dBFS: a window whose RMS is lower is silent
_BARS = " ▁▂▃▄▅▆▇█"
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # the rows of a character, top first


@dataclass(frozen=True, slots=True)
class Levels:
    """How loud a clip is. Decibels are relative to full scale; a clip of zeros has -inf."""

    peak_dbfs: float
    rms_dbfs: float
    clipped: int  # samples at full scale
    silence: float  # share of the duration, 0 to 1, in windows of 10 ms below -60 dBFS RMS


def peaks(wav: bytes, columns: int) -> list[Peak]:
    """
    Return the lowest and highest sample of equal segments of a clip, over all channels, to 8 bits: enough to draw.

    Args:
        wav: A WAV that `inspect` accepts.
        columns: The number of segments; a clip with fewer frames repeats some.

    Raises:
        InvalidWavError: It is not such a WAV.
    """
    info = inspect(wav)
    coarse = _coarse(wav, info)
    extremes = []
    for column in range(columns):
        start = column * info.frames // columns
        end = max(start + 1, (column + 1) * info.frames // columns)
        low, high = _extremes(coarse[start * info.channels : end * info.channels])
        extremes.append(((low - 128) / 128, (high - 128) / 128))
    return extremes


def braille(extremes: Sequence[Peak], rows: int) -> list[str]:
    """
    Draw a waveform as lines of braille characters; full scale is the whole height.

    Args:
        extremes: As `peaks` returns them; a character shows two.
        rows: The number of lines; each is four dots high.
    """
    dots = 4 * rows
    cells = [[0] * ((len(extremes) + 1) // 2) for _ in range(rows)]
    for column, (low, high) in enumerate(extremes):
        top = min(dots - 1, math.floor((1 - high) / 2 * dots))
        bottom = max(top, min(dots - 1, math.ceil((1 - low) / 2 * dots) - 1))
        for dot in range(top, bottom + 1):
            cells[dot // 4][column // 2] |= _DOTS[dot % 4][column % 2]
    return ["".join(chr(_BRAILLE + cell) for cell in line) for line in cells]


def bars(extremes: Sequence[Peak]) -> str:
    """Draw a waveform as one line of bars in steps of an eighth of full scale; only a silent segment is blank."""
    loudness = (max(-low, high) for low, high in extremes)
    return "".join(_BARS[min(8, math.ceil(8 * loud))] for loud in loudness)


def levels(wav: bytes) -> Levels:
    """
    Measure the levels of a clip from its exact samples.

    Args:
        wav: A WAV that `inspect` accepts.

    Raises:
        InvalidWavError: It is not such a WAV.
    """
    info = inspect(wav)
    exact = samples(wav, info)
    coarse = _coarse(wav, info)
    ends = [bytes([end]) for end in _extremes(coarse)]
    # The highest positive value is one step below full scale; some programs clip negative values at the same distance.
    top = exact.full_scale - exact.step
    size = max(1, round(_WINDOW_S * info.sample_rate)) * info.channels
    peak, clipped, silent, norms = 0.0, 0, 0, []
    for start in range(0, len(coarse), size):
        window = exact.values[start : start + size]
        norms.append(math.hypot(*window))
        silent += len(window) * (norms[-1] < _SILENT * exact.full_scale * math.sqrt(len(window)))
        if any(end in coarse[start : start + size] for end in ends):  # otherwise the loudest sample is elsewhere
            loudest = max(max(window), -min(window))
            peak = max(peak, loudest)
            clipped += sum(abs(value) >= top for value in window) if loudest >= top else 0
    return Levels(
        peak_dbfs=_decibels(peak / exact.full_scale),
        rms_dbfs=_decibels(math.hypot(*norms) / math.sqrt(len(coarse)) / exact.full_scale),
        clipped=clipped,
        silence=silent / len(coarse),
    )


def _coarse(wav: bytes, info: WavInfo) -> bytes:
    """Return the eight highest bits of each sample; zero is 128."""
    data = wav[info.data_start : info.data_start + info.data_bytes]
    if info.is_float:
        return bytes(min(255, max(0, math.floor(value * 128) + 128)) for value in samples(wav, info).values)
    size = info.bits // 8
    return data if size == 1 else data[size - 1 :: size].translate(FLIP_SIGN)


def _extremes(coarse: bytes) -> tuple[int, int]:
    occurring = _ALL.translate(None, _ALL.translate(None, coarse))  # in ascending order
    return occurring[0], occurring[-1]


def _decibels(ratio: float) -> float:
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf
