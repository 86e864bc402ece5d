"""
The chroma of a sound, by which a melody model follows a tune: which of the twelve pitch classes is loudest, and when.

Needs numpy, of the extra `local`. Source: MusicgenMelodyFeatureExtractor and chroma_filter_bank (transformers), whose
filters are those of librosa (`filters.chroma` with a tuning of 0).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 32_000  # Hz
CLASSES = 12  # from C to B

_WINDOW = 16_384  # samples
_HOP = 4_096
_A440_OCTAVES = 440 / 16  # Hz, the A from which octaves are counted
_CENTRE, _HALF_WIDTH = 5.0, 2.0  # octaves: a Gaussian weight of the frequencies
_LEAST = 1e-6  # a sum below it isn't divided by
_FRAMES_AT_ONCE = 64

FloatArray = NDArray[np.float32]


def melody_chroma(samples: FloatArray, length: int) -> FloatArray:
    """
    Return what a melody model reads of a tune.

    Args:
        samples: Mono at RATE, shape ``(n,)``.
        length: Frames of the result, the model's `chroma_length`: a shorter tune is repeated, a longer one cut.

    Returns:
        Shape ``(length, CLASSES)``: 1 for the loudest class of each frame, 0 for the others.
    """
    used = chroma(samples[: length * _HOP + _WINDOW])
    one_hot = np.zeros_like(used)
    one_hot[np.arange(len(used)), used.argmax(axis=1)] = 1
    return np.resize(one_hot, (length, CLASSES))


def no_melody(length: int) -> FloatArray:
    """Return what a melody model reads where there is no tune, shape ``(length, CLASSES)``: the first class alone."""
    empty = np.zeros((length, CLASSES), np.float32)
    empty[:, 0] = 1
    return empty


def chroma(samples: FloatArray) -> FloatArray:
    """
    Return how loud each pitch class is, relative to the loudest of its frame.

    Args:
        samples: Mono at RATE, shape ``(n,)``; fewer than a window are padded on both sides.

    Returns:
        Shape ``(1 + max(n, 16384) // 4096, CLASSES)``.
    """
    if (missing := _WINDOW - len(samples)) > 0:
        samples = np.pad(samples, (missing // 2, missing - missing // 2))
    centred = np.pad(samples, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(centred, _WINDOW)[::_HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)  # Hann, periodic
    window /= np.sqrt(np.square(window).sum())
    parts = []
    for first in range(0, len(frames), _FRAMES_AT_ONCE):  # the spectrum of a long sound would take much memory
        spectrum = np.fft.rfft(frames[first : first + _FRAMES_AT_ONCE] * window)
        parts.append((spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ filters().T)
    sums = np.concatenate(parts)
    relative: FloatArray = sums / np.maximum(sums.max(axis=1, keepdims=True), _LEAST)
    return relative


@cache
def filters() -> FloatArray:
    """Return the share of each frequency in each pitch class, shape ``(CLASSES, 8193)``."""
    frequencies = np.arange(1, _WINDOW) * RATE / _WINDOW
    octaves = np.log2(frequencies / _A440_OCTAVES)
    octaves = np.concatenate([octaves[:1] - 1.5, octaves])  # for 0 Hz
    pitch = CLASSES * octaves
    width = np.append(np.maximum(np.diff(pitch), 1), 1)  # of a frequency's bin, in classes
    half = CLASSES / 2
    distance = np.remainder(pitch - np.arange(CLASSES)[:, None] + half + 10 * CLASSES, CLASSES) - half
    bumps = np.exp(-0.5 * (2 * distance / width) ** 2)
    bumps /= np.sqrt(np.square(bumps).sum(axis=0))
    bumps *= np.exp(-0.5 * ((octaves - _CENTRE) / _HALF_WIDTH) ** 2)
    from_c = np.roll(bumps, -3, axis=0)  # octaves are counted from A
    used: FloatArray = from_c[:, : _WINDOW // 2 + 1].astype(np.float32)
    return used
