"""How closely the computed codec, with its weights rounded to float16, agrees with the synthesis in float64."""

from __future__ import annotations

import numpy as np
import torch
from transformers import EncodecModel

from training.nano import codes, composer, plan
from training.nano.codec import DELAY, SAMPLE_RATE
from training.nano.composer import Codes
from training.nano.synthesis import design, synthesize
from training.nano.timbres import INNER_RATE, FloatArray

_PADDING = 100  # frames of silence after a clip


def decode(codec: EncodecModel, piece: Codes) -> FloatArray:
    """Decode codes, shape ``(STREAMS, frames)``, to samples at SAMPLE_RATE."""
    with torch.no_grad():
        samples = codec.decode(torch.from_numpy(piece.astype(np.int64))[None, None], [None]).audio_values[0, 0]
    return np.asarray(samples.double().numpy())


def agreement_db(codec: EncodecModel, piece: Codes) -> float:
    """
    Return the ratio of the synthesised signal to the codec's deviation from it, in dB.

    Args:
        codec: In float32; its weights may have been rounded.
        piece: Codes, shape ``(STREAMS, frames)``.
    """
    table = codes.vectors()
    vectors = np.sum([table[stream][row] for stream, row in enumerate(piece)], axis=0)
    padding = np.zeros((_PADDING, vectors.shape[1]))  # resampling would ring where a clip is cut off
    target = _resampled(synthesize(design(), np.concatenate([vectors, padding])))
    samples = decode(codec, piece)[DELAY:]
    target = target[: len(samples)]
    return float(10 * np.log10(np.sum(target**2) / np.sum((samples - target) ** 2)))


def report(codec: EncodecModel, pieces: int) -> None:
    """Print the agreement of some pieces, their levels and their peaks."""
    for seed in range(pieces):
        piece_plan, _ = plan.draw(seed)
        piece = composer.compose(piece_plan, seed, 500)
        samples = decode(codec, piece)
        level_db = 10 * np.log10(np.mean(samples**2))
        agreement = f"agreement {agreement_db(codec, piece):.1f} dB"
        print(
            f"{piece_plan.genre:10} {agreement}, level {level_db:5.1f} dB, peak {np.abs(samples).max():.2f}", flush=True
        )


def _resampled(samples: FloatArray) -> FloatArray:
    """Resample from INNER_RATE to SAMPLE_RATE by extending the spectrum."""
    padded = np.concatenate([samples, np.zeros(-len(samples) % 4)])
    size = len(padded) * SAMPLE_RATE // INNER_RATE
    spectrum = np.zeros(size // 2 + 1, complex)
    original = np.fft.rfft(padded)
    spectrum[: len(original)] = original
    return np.asarray(np.fft.irfft(spectrum, size) * (SAMPLE_RATE / INNER_RATE))
