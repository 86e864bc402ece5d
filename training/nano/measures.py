"""
What a listener minds, measured in sound with numpy alone: loudness, brightness, envelopes, gaps, sameness of rhythm.

Nothing here knows how a clip was made, so the same questions are asked about other synthesisers; see `reference`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.nano.audio_analysis import SAMPLE_RATE, FloatArray

ENVELOPE_RATE = 100  # values a second
_SILENT_DB = -60.0  # root mean square, relative to full scale


def loudness(samples: FloatArray) -> float:
    """
    Return the integrated loudness of a mono clip in LUFS; -70 for silence.

    Source:
        ITU-R BS.1770-5: K-weighting, blocks of 0.4 s that overlap by 75 %, gates at -70 LUFS and 10 LU below the mean.
        The filters are applied to the spectrum of the whole clip.
    """
    f = np.asarray(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), np.float64)
    weighted = np.fft.irfft(np.fft.rfft(samples) * _k_weighting(f), len(samples))
    block, hop = int(0.4 * SAMPLE_RATE), int(0.1 * SAMPLE_RATE)
    total = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, max(1, len(samples) - block + 1), hop)
    power = (total[np.minimum(starts + block, len(samples))] - total[starts]) / min(block, len(samples))
    level = -0.691 + 10 * np.log10(power + 1e-12)
    for gate in (-70.0, None):
        threshold = _mean_level(power[level > -70]) - 10 if gate is None else gate
        if not (level > threshold).any():
            return -70.0
        power, level = power[level > threshold], level[level > threshold]
    return _mean_level(power)


def _mean_level(power: FloatArray) -> float:
    return float(-0.691 + 10 * np.log10(power.mean()))


def _k_weighting(f: FloatArray) -> FloatArray:
    """Return the gain of the two filters of BS.1770 at each frequency, from their analogue prototypes."""
    s = 1j * np.maximum(f, 1e-3)
    shelf_hz, shelf_q, gain = 1681.97, 0.7072, 10 ** (4.0 / 20)
    x = s / shelf_hz
    shelf = (gain * x * x + gain**0.4997 / shelf_q * x + 1) / (x * x + x / shelf_q + 1)
    y = s / 38.135
    return np.asarray(np.abs(shelf) * np.abs(y * y / (y * y + y / 0.5003 + 1)))


def brightness(samples: FloatArray) -> tuple[float, float]:
    """Return the frequency below which 99 % of the energy lies, in Hz; and the share of 2-5 kHz in it, in dB."""
    energy = np.abs(np.fft.rfft(samples)) ** 2
    f = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    total = np.cumsum(energy)
    presence = energy[(f >= 2000) & (f < 5000)].sum() / (total[-1] + 1e-20)
    return float(f[np.searchsorted(total, 0.99 * total[-1])]), float(10 * np.log10(presence + 1e-12))


def envelope(samples: FloatArray, window_s: float = 0.05) -> FloatArray:
    """Return the root mean square in windows around ENVELOPE_RATE points a second, in dB relative to full scale."""
    size, hop = int(window_s * SAMPLE_RATE), SAMPLE_RATE // ENVELOPE_RATE
    total = np.concatenate([np.zeros(1), np.cumsum(samples**2)])
    starts = np.arange(0, max(1, len(samples) - size + 1), hop)
    power = (total[np.minimum(starts + size, len(samples))] - total[starts]) / size
    return np.asarray(10 * np.log10(power + 1e-12))


def held_ms(samples: FloatArray) -> float:
    """Return how long one note stays within 6 dB of its peak, in ms from its onset at the beginning of the clip."""
    level = envelope(samples)
    peak = int(level[: ENVELOPE_RATE // 2].argmax())
    below = np.flatnonzero(level[peak:] < level[peak] - 6)
    return float(peak + (below[0] if len(below) else len(level) - peak)) * 1000 / ENVELOPE_RATE


def deepest_gap_db(samples: FloatArray) -> float:
    """Return the lowest level after the first half second, relative to the loudest tenth of the clip, in dB."""
    level = envelope(samples)
    return float(level[ENVELOPE_RATE // 2 :].min() - np.quantile(level, 0.9))


def silence(samples: FloatArray) -> float:
    """Return the share of a clip that is silent."""
    return float((envelope(samples, 0.1) < _SILENT_DB).mean())


def rhythm(samples: FloatArray) -> FloatArray:
    """Return the envelope of a clip with mean 0 and length 1, for `similarity`."""
    level = np.sqrt(10 ** (envelope(samples, 0.03) / 10))
    level = level - level.mean()
    return np.asarray(level / (np.linalg.norm(level) + 1e-9))


def nearest_rhythms(rhythms: Sequence[FloatArray], *, within_s: float = 0.5) -> FloatArray:
    """Return for each clip the highest correlation of its envelope with that of another one, shifted a little."""
    size = min(map(len, rhythms))
    spectra = [np.fft.rfft(r[:size], 2 * size) for r in rhythms]
    reach = int(within_s * ENVELOPE_RATE)
    nearest = np.full(len(rhythms), -1.0)
    for one in range(len(rhythms)):
        for other in range(one):
            correlation = np.fft.irfft(spectra[one] * spectra[other].conj())
            highest = max(correlation[: reach + 1].max(), correlation[-reach:].max())
            nearest[one], nearest[other] = max(nearest[one], highest), max(nearest[other], highest)
    return nearest
