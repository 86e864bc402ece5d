"""
What can be heard in a sound, with numpy alone and without knowing how it was made.

Tempo, key and level are computed; drums, instruments and genre are told by linear classifiers of band energies and
their movement, fitted on pieces of the composer that nobody trained on. A classifier knows this project's timbres, not
the world's: it can say that a saxophone of ours is there, not that a person would call it one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.nano.keys import KEYS

FloatArray = NDArray[np.float64]

RATE = 32_000  # Hz
TEMPO_TOLERANCE = 0.05
_HOP = RATE // 100
_BANDS = 48
_TEMPI = np.geomspace(52, 200, 240)  # beats a minute
# How well each step of a scale fits a key (Krumhansl and Kessler 1982).
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def _filters(size: int) -> FloatArray:
    """Return triangular bands from 40 Hz to 12 kHz, evenly spaced on the mel scale: shape ``(_BANDS, bins)``."""

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    edges = 700 * (10 ** (np.linspace(mel(40), mel(12_000), _BANDS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(size, 1 / RATE)
    rising = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


_FILTERS = _filters(1024)


def _frames(sound: FloatArray, size: int, hop: int) -> FloatArray:
    """Return the magnitude spectrum of each frame."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(sound, (0, max(0, size - len(sound)))), size)[::hop]
    return np.asarray(np.abs(np.fft.rfft(windows * np.hanning(size))))


def bands(sound: FloatArray) -> FloatArray:
    """Return the energy of each band, a hundred times a second: shape ``(frames, bands)``, low ones first."""
    return np.asarray(_frames(sound, 1024, _HOP) ** 2 @ _FILTERS.T)


@dataclass(frozen=True, slots=True)
class Heard:
    """What is heard in one clip."""

    features: FloatArray  # for classifiers
    tempo: float  # beats a minute, perhaps half or twice of what a person would tap
    key: str
    mode: str
    onsets: float  # a second
    level_db: float  # root mean square, of full scale
    peak: float


def listen(sound: FloatArray) -> Heard:
    """Listen to a clip, mono at RATE, at least 2 s long."""
    level = float(np.sqrt(np.mean(sound**2)) + 1e-9)
    even = 0.1 * sound / level
    loud = np.log(bands(even) + 1e-4)
    rise = np.maximum(np.diff(loud, axis=0), 0)
    strength = rise.sum(1)
    tones = _chroma(even)
    key, mode = _key(tones.sum(0))
    peaks = (strength[1:-1] > strength[:-2]) & (strength[1:-1] >= strength[2:])
    peaks &= strength[1:-1] > strength.mean() + 0.5 * strength.std()
    share = tones / (tones.sum(1, keepdims=True) + 1e-9)
    features = np.concatenate(
        [
            *(loud.mean(0), loud.std(0), rise.mean(0), rise.std(0)),
            *np.quantile(loud, (0.1, 0.5, 0.95), axis=0),
            *np.quantile(rise, (0.9, 0.98), axis=0),
            np.sort(share.mean(0)),
            [share.std(), strength.std(), strength.mean(), 100 * peaks.mean()],
        ]
    )
    return Heard(
        features=features,
        tempo=_tempo(strength),
        key=key,
        mode=mode,
        onsets=float(100 * peaks.mean()),
        level_db=20 * np.log10(level),
        peak=float(np.abs(sound).max()),
    )


def near_tempo(heard: float, wanted: float) -> bool:
    """Tell whether two tempi are within 5 %, where half and double count as the same: people tap either."""
    return any(abs(heard * times / wanted - 1) <= TEMPO_TOLERANCE for times in (0.5, 1, 2))


def _tempo(strength: FloatArray) -> float:
    """Return the tempo at whose beats, and halves and doubles of them, onsets agree most with each other."""
    x = strength - strength.mean()
    spectrum = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    same = np.fft.irfft(spectrum)[: len(x)]

    def at(lags: FloatArray) -> FloatArray:
        return np.asarray(np.interp(lags, np.arange(len(same)), same))

    lag = 6000 / _TEMPI
    score = at(lag) + 0.7 * at(2 * lag) + 0.5 * at(4 * lag) + 0.4 * at(lag / 2) + 0.2 * at(lag / 4)
    usual = np.exp(-0.5 * (np.log2(_TEMPI / 108) / 0.9) ** 2)
    return float(_TEMPI[(score * usual).argmax()])


def _chroma(sound: FloatArray) -> FloatArray:
    """Return how much of each pitch class sounds, frame by frame of a quarter second: shape ``(frames, 12)``."""
    size = 8192
    f = np.fft.rfftfreq(size, 1 / RATE)
    heard = (f > 60) & (f < 2000)
    classes = np.rint(69 + 12 * np.log2(f[heard] / 440)).astype(int) % 12
    return np.asarray(_frames(sound, size, size)[:, heard] @ np.eye(12)[classes])


def _key(tones: FloatArray) -> tuple[str, str]:
    def fits(tonic: int, mode: str) -> float:
        return float(np.corrcoef(np.roll(_PROFILES[mode], tonic), tones)[0, 1])

    best = max(KEYS, key=lambda key: fits(key.tonic, key.mode))
    return best.name, best.mode


@dataclass(frozen=True, slots=True)
class Ear:
    """A linear classifier for each label; a label is heard where its score is above zero."""

    labels: tuple[str, ...]
    mean: FloatArray
    scale: FloatArray
    weights: FloatArray  # (features + 1, labels)

    def scores(self, features: FloatArray) -> dict[str, float]:
        """Return each label's score, of one clip."""
        x = np.append((features - self.mean) / self.scale, 1.0)
        return dict(zip(self.labels, (x @ self.weights).tolist(), strict=True))


def fit(features: FloatArray, labels: Sequence[str], truth: NDArray[np.bool_], stiffness: float = 30.0) -> Ear:
    """
    Fit classifiers by least squares, so that either answer weighs alike, however rare it is.

    Args:
        features: Shape ``(clips, features)``.
        truth: Shape ``(clips, labels)``.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-6
    x = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    ridge = stiffness * np.eye(x.shape[1])
    ridge[-1, -1] = 0
    columns = []
    for yes in truth.T:
        weight = np.where(yes, 0.5 / max(yes.mean(), 1e-6), 0.5 / max(1 - yes.mean(), 1e-6))
        columns.append(np.linalg.solve((x * weight[:, None]).T @ x + ridge, (x * weight[:, None]).T @ (2.0 * yes - 1)))
    return Ear(tuple(labels), mean, scale, np.stack(columns, axis=1))
