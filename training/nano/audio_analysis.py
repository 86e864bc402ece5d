"""
Measures sound with numpy alone, without knowing how it was made.

Tempo, key and level are computed. Drums, instruments and genre are recognised by linear classifiers of band energies
and their changes, fitted on the composer's own pieces. So a classifier knows the timbres of this project: it can say
that its saxophone plays, not that a listener would call it a saxophone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.nano.keys import KEYS

FloatArray = NDArray[np.float64]

SAMPLE_RATE = 32_000  # Hz
TEMPO_TOLERANCE = 0.05
_HOP = SAMPLE_RATE // 100  # samples between two frames
_BANDS = 48
_TEMPI = np.geomspace(52, 200, 240)  # beats a minute
# How well each semitone above the tonic fits a key (Krumhansl and Kessler 1982).
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def _filters(size: int) -> FloatArray:
    """Return triangular filters from 40 Hz to 12 kHz, evenly spaced on the mel scale: shape ``(_BANDS, bins)``."""

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    edges = 700 * (10 ** (np.linspace(mel(40), mel(12_000), _BANDS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    rising = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


_FILTERS = _filters(1024)


def _spectra(samples: FloatArray, size: int, hop: int) -> FloatArray:
    """Return the magnitude spectrum of each frame."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, max(0, size - len(samples)))), size)[::hop]
    return np.asarray(np.abs(np.fft.rfft(windows * np.hanning(size))))


def bands(samples: FloatArray) -> FloatArray:
    """Return the energy of each band, a hundred times a second: shape ``(frames, bands)``, low ones first."""
    return np.asarray(_spectra(samples, 1024, _HOP) ** 2 @ _FILTERS.T)


@dataclass(frozen=True, slots=True)
class AudioAnalysis:
    """What is measured in one clip."""

    features: FloatArray  # for the classifiers
    tempo: float  # beats a minute; may be half or twice of what a listener would tap
    key: str
    mode: str
    onsets: float  # a second
    level_db: float  # root mean square, relative to full scale
    peak: float


def analyze(samples: FloatArray) -> AudioAnalysis:
    """Measure a mono clip at SAMPLE_RATE, at least 2 s long."""
    level = float(np.sqrt(np.mean(samples**2)) + 1e-9)
    normalized = 0.1 * samples / level
    log_bands = np.log(bands(normalized) + 1e-4)
    rise = np.maximum(np.diff(log_bands, axis=0), 0)
    onset_strength = rise.sum(1)
    chroma = _chroma(normalized)
    key, mode = _key(chroma.sum(0))
    peaks = (onset_strength[1:-1] > onset_strength[:-2]) & (onset_strength[1:-1] >= onset_strength[2:])
    peaks &= onset_strength[1:-1] > onset_strength.mean() + 0.5 * onset_strength.std()
    share = chroma / (chroma.sum(1, keepdims=True) + 1e-9)
    features = np.concatenate(
        [
            *(log_bands.mean(0), log_bands.std(0), rise.mean(0), rise.std(0)),
            *np.quantile(log_bands, (0.1, 0.5, 0.95), axis=0),
            *np.quantile(rise, (0.9, 0.98), axis=0),
            np.sort(share.mean(0)),
            [share.std(), onset_strength.std(), onset_strength.mean(), 100 * peaks.mean()],
        ]
    )
    return AudioAnalysis(
        features=features,
        tempo=_tempo(onset_strength),
        key=key,
        mode=mode,
        onsets=float(100 * peaks.mean()),
        level_db=20 * np.log10(level),
        peak=float(np.abs(samples).max()),
    )


def is_near_tempo(measured: float, expected: float) -> bool:
    """Tell whether two tempi are within 5 %, or one is within 5 % of half or twice the other."""
    return any(abs(measured * factor / expected - 1) <= TEMPO_TOLERANCE for factor in (0.5, 1, 2))


def _tempo(onset_strength: FloatArray) -> float:
    """Return the tempo whose beat, with its multiples and fractions, has the highest autocorrelation of onsets."""
    x = onset_strength - onset_strength.mean()
    spectrum = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    autocorrelation = np.fft.irfft(spectrum)[: len(x)]

    def at(lags: FloatArray) -> FloatArray:
        return np.asarray(np.interp(lags, np.arange(len(autocorrelation)), autocorrelation))

    lag = 6000 / _TEMPI
    score = at(lag) + 0.7 * at(2 * lag) + 0.5 * at(4 * lag) + 0.4 * at(lag / 2) + 0.2 * at(lag / 4)
    prior = np.exp(-0.5 * (np.log2(_TEMPI / 108) / 0.9) ** 2)
    return float(_TEMPI[(score * prior).argmax()])


def _chroma(samples: FloatArray) -> FloatArray:
    """Return the strength of each pitch class in each quarter second: shape ``(frames, 12)``."""
    size = 8192
    f = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    bins = (f > 60) & (f < 2000)
    classes = np.rint(69 + 12 * np.log2(f[bins] / 440)).astype(int) % 12
    return np.asarray(_spectra(samples, size, size)[:, bins] @ np.eye(12)[classes])


def _key(chroma: FloatArray) -> tuple[str, str]:
    """Return the name and the mode of the key whose profile correlates best with the pitch classes."""

    def correlation(tonic: int, mode: str) -> float:
        return float(np.corrcoef(np.roll(_PROFILES[mode], tonic), chroma)[0, 1])

    best = max(KEYS, key=lambda key: correlation(key.tonic, key.mode))
    return best.name, best.mode


@dataclass(frozen=True, slots=True)
class Classifiers:
    """A linear classifier for each label; a label applies if its score is above zero."""

    labels: tuple[str, ...]
    mean: FloatArray
    scale: FloatArray
    weights: FloatArray  # (features + 1, labels)

    def scores(self, features: FloatArray) -> dict[str, float]:
        """Return the score of each label for one clip."""
        x = np.append((features - self.mean) / self.scale, 1.0)
        return dict(zip(self.labels, (x @ self.weights).tolist(), strict=True))


def fit(features: FloatArray, labels: Sequence[str], truth: NDArray[np.bool_], ridge: float = 30.0) -> Classifiers:
    """
    Fit classifiers by least squares, with equal weight for clips with and without a label, however rare it is.

    Args:
        features: Shape ``(clips, features)``.
        truth: Shape ``(clips, labels)``.
        ridge: The factor of the L2 regularization.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-6
    x = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    penalty = ridge * np.eye(x.shape[1])
    penalty[-1, -1] = 0  # not of the bias
    columns = []
    for yes in truth.T:
        weight = np.where(yes, 0.5 / max(yes.mean(), 1e-6), 0.5 / max(1 - yes.mean(), 1e-6))
        columns.append(
            np.linalg.solve((x * weight[:, None]).T @ x + penalty, (x * weight[:, None]).T @ (2.0 * yes - 1))
        )
    return Classifiers(tuple(labels), mean, scale, np.stack(columns, axis=1))
