"""The position vectors of the decoder."""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray


def sinusoids(positions: int, width: int) -> FloatArray:
    """
    Return the position vectors, (positions, width): cosines, then sines.

    Source:
        MusicgenSinusoidalPositionalEmbedding. Each of its operations rounds to float32, and so does each one here;
        functions are computed in float64 first, which is at most one unit in the last place from torch's result.
    """
    half = width // 2
    powers = np.arange(half, dtype=np.float32) * np.float32(-math.log(10_000) / (half - 1))
    angles = np.arange(positions, dtype=np.float32)[:, None] * np.exp(powers.astype(np.float64)).astype(np.float32)
    exact = angles.astype(np.float64)
    return np.concatenate([np.cos(exact), np.sin(exact)], axis=1).astype(np.float32)
