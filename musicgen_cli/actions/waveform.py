"""What a sound looks like: how loud each part of it is, with nothing but the standard library."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from itertools import pairwise

from musicgen_cli.wav import WavInfo, inspect

_LOUDEST = 127
# A sample's top byte, as two's complement → its magnitude; -1 and 0 are both silence, -128 is as loud as 127.
_MAGNITUDES = bytes(byte if byte <= _LOUDEST else 255 - byte for byte in range(256))
_MAGNITUDES_8 = bytes(_MAGNITUDES[byte ^ 0x80] for byte in range(256))  # 8-bit samples are unsigned


def peaks(wav: bytes, buckets: int) -> list[float]:
    """
    Return the highest magnitude in each of so many parts of a sound that are equally long, over all channels.

    Args:
        wav: A whole file.
        buckets: How many values; in a sound with fewer frames, some are told twice.

    Returns:
        From 0.0 to 1.0, full scale; of PCM to within 1/127 of it.

    Raises:
        InvalidWavError: `wav` is not a WAV.
    """
    info = inspect(wav)
    peak = _of_floats(wav, info) if info.is_float else _of_whole_numbers(wav, info)
    ends = [i * info.frames // buckets for i in range(buckets + 1)]
    return [peak(start * info.channels, max(end, start + 1) * info.channels) for start, end in pairwise(ends)]


def _of_whole_numbers(wav: bytes, info: WavInfo) -> Callable[[int, int], float]:
    width = info.bits // 8
    top = wav[info.data_start + width - 1 : info.data_start + info.data_bytes : width]
    magnitudes = top.translate(_MAGNITUDES_8 if info.bits == 8 else _MAGNITUDES)

    def peak(start: int, end: int) -> float:
        part = magnitudes[start:end]
        # Looking for one byte costs a hundredth of comparing all in Python, and a few dozen looks find the highest.
        return next(loud for loud in range(_LOUDEST, -1, -1) if loud in part) / _LOUDEST

    return peak


def _of_floats(wav: bytes, info: WavInfo) -> Callable[[int, int], float]:
    samples = array("f" if info.bits == 32 else "d", wav[info.data_start : info.data_start + info.data_bytes])
    if sys.byteorder == "big":
        samples.byteswap()

    def peak(start: int, end: int) -> float:
        part = samples[start:end]
        return min(max(max(part), -min(part)), 1.0)

    return peak
