"""
The tempo of a clip, measured from its onsets. Needs numpy, which the extra `local` brings.

Onset strength is the spectral flux: how much the energy of each frequency band rises from one frame to the next. A
steady beat repeats in it, so its autocorrelation has peaks at the length of a beat and its multiples. The peak at the
largest multiple gives the length most exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.audio.wav import inspect, samples

MIN_BPM, MAX_BPM = 60.0, 180.0
CLEAR = 0.25  # a confidence from which on a beat is taken for steady

_HOP_S = 0.0025
_WINDOW_S = 0.032
_BANDS = 32
_USUAL_BPM = 120.0  # of several candidates an octave apart, the one nearer to it is preferred
_NEAR = 0.04  # how far a clip may be from the tempo that its prompt names

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tempo:
    """A measured tempo."""

    bpm: float
    confidence: float  # 0 to 1: the correlation of the onsets with themselves a beat later


def measure_tempo(wav: bytes, *, near: float | None = None) -> Tempo | None:
    """
    Measure the tempo of a clip.

    Args:
        wav: A WAV that `inspect` accepts.
        near: Beats per minute that the tempo is known to be close to.

    Returns:
        The tempo, which can be half or double of what a listener would say; None if the clip is shorter than four
        beats or has no onsets.
    """
    onsets, rate = _onset_strength(wav)
    correlation = _autocorrelation(onsets)
    low, high = (near * (1 - _NEAR), near * (1 + _NEAR)) if near else (MIN_BPM, MAX_BPM)
    first, last = int(np.floor(60 * rate / high)), int(np.ceil(60 * rate / low))
    if 4 * last >= len(correlation) or correlation[0] == 0:
        return None
    correlation = correlation / correlation[0]
    lags = np.arange(first, last + 1)
    octaves = np.log2(60 * rate / lags / (near or _USUAL_BPM))
    score = (correlation[lags] + correlation[2 * lags] + correlation[4 * lags]) * np.exp(-0.5 * octaves**2)
    beat = _refined(correlation, float(lags[int(score.argmax())]))
    confidence = float(np.clip(np.interp(beat, np.arange(len(correlation)), correlation), 0, 1))
    return Tempo(float(60 * rate / beat), confidence)


def _onset_strength(wav: bytes) -> tuple[Array, float]:
    """Return the onset strength of a clip, and its frames per second."""
    info = inspect(wav)
    source = samples(wav, info)
    mono = np.asarray(source.values, np.float64).reshape(-1, info.channels).mean(axis=1) / source.full_scale
    hop, window = max(1, round(_HOP_S * info.sample_rate)), max(2, round(_WINDOW_S * info.sample_rate))
    if len(mono) < window:
        return np.zeros(1), info.sample_rate / hop
    frames = np.lib.stride_tricks.sliding_window_view(mono, window)[::hop]
    bands = [
        np.log1p(1000 * _bands(np.abs(np.fft.rfft(part * np.hanning(window))) / window))
        for part in np.array_split(frames, max(1, len(frames) // 512))
    ]
    rise = np.maximum(np.diff(np.concatenate(bands), axis=0), 0).sum(axis=1)
    return rise - rise.mean(), info.sample_rate / hop


def _bands(spectrum: Array) -> Array:
    """Sum the bins of each spectrum in bands that get wider with frequency."""
    edges = np.unique(np.geomspace(1, spectrum.shape[1] - 1, _BANDS + 1).astype(int))
    return np.add.reduceat(spectrum, edges[:-1], axis=1)


def _autocorrelation(onsets: Array) -> Array:
    """Return the unbiased autocorrelation up to three quarters of the length."""
    size = 1 << (2 * len(onsets) - 1).bit_length()
    spectrum = np.fft.rfft(onsets, size)
    products = np.fft.irfft(spectrum * spectrum.conj(), size)[: len(onsets) * 3 // 4 + 1]
    unbiased: Array = products / (len(onsets) - np.arange(len(products)))
    return unbiased


def _refined(correlation: Array, beat: float) -> float:
    """Follow the peak of a beat's length to its multiples, which give it more and more exactly."""
    multiple = 1
    while multiple * beat < len(correlation) - 2:
        reach = max(2.0, 0.02 * beat) if multiple > 1 else 2.0
        low = max(1, int(np.floor(multiple * beat - reach)))
        high = min(len(correlation) - 2, int(np.ceil(multiple * beat + reach)))
        peak = low + int(correlation[low : high + 1].argmax())
        before, here, after = correlation[peak - 1 : peak + 2]
        curve = before - 2 * here + after
        beat = (peak + (0.5 * (before - after) / curve if curve < 0 else 0.0)) / multiple
        multiple *= 2
    return beat
