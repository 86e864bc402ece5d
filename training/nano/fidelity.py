"""How far the computed codec, its weights rounded to float16, is from ideal synthesis."""

from __future__ import annotations

import numpy as np
import torch
from transformers import EncodecModel

from training.nano import codes, composer, plan
from training.nano.codec import DELAY, SAMPLE_RATE
from training.nano.synthesis import design, ideal
from training.nano.timbres import INNER_RATE, FloatArray

_AFTER = 100  # frames


def play(codec: EncodecModel, made: np.ndarray) -> FloatArray:
    """Decode codes, shape ``(STREAMS, frames)``, to samples at SAMPLE_RATE."""
    with torch.no_grad():
        sound = codec.decode(torch.from_numpy(made.astype(np.int64))[None, None], [None]).audio_values[0, 0]
    return np.asarray(sound.double().numpy())


def agreement_db(codec: EncodecModel, made: np.ndarray) -> float:
    """
    Return the ratio of the ideal sound of some codes to the codec's deviation from it, in dB.

    Args:
        codec: In float32; its weights may have been rounded.
        made: Codes, shape ``(STREAMS, frames)``.
    """
    table = codes.vectors()
    vectors = np.sum([table[stream][row] for stream, row in enumerate(made)], axis=0)
    after = np.zeros((_AFTER, vectors.shape[1]))  # where a clip is cut off, resampling would ring
    wanted = _resampled(ideal(design(), np.concatenate([vectors, after])))
    heard = play(codec, made)[DELAY:]
    wanted = wanted[: len(heard)]
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((heard - wanted) ** 2)))


def report(codec: EncodecModel, pieces: int) -> None:
    """Print the agreement of some pieces, and their levels."""
    for seed in range(pieces):
        wanted, _ = plan.draw(seed)
        made = composer.compose(wanted, seed, 500)
        sound = play(codec, made)
        level = 10 * np.log10(np.mean(sound**2))
        told = f"level {level:5.1f} dB, peak {np.abs(sound).max():.2f}"
        print(f"{wanted.genre:10} agreement {agreement_db(codec, made):.1f} dB, {told}", flush=True)


def _resampled(sound: FloatArray) -> FloatArray:
    """Go from INNER_RATE to SAMPLE_RATE by the spectrum."""
    padded = np.concatenate([sound, np.zeros(-len(sound) % 6)])
    size = len(padded) * SAMPLE_RATE // INNER_RATE
    spectrum = np.zeros(size // 2 + 1, complex)
    short = np.fft.rfft(padded)
    spectrum[: len(short)] = short
    return np.asarray(np.fft.irfft(spectrum, size) * (SAMPLE_RATE / INNER_RATE))
