"""
Keeps a matrix in 8 bits: blocks of weights that share a scale.

Source: MatMulNBits (ONNX Runtime, ContribOperators.md). Activations stay float32 between operations; within one they
are rounded to 8 bits by blocks of a row, so that what else is in a batch doesn't change a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.engine.tensors import FloatArray

BLOCK = 64  # weights along the inner dimension that share a scale; see benchmarks/NOTES.md

_ZERO = 128  # the code of 0


def quantize(weight: FloatArray) -> tuple[NDArray[np.uint8], FloatArray]:
    """
    Round each block to 256 steps, symmetric about zero.

    The weight of largest magnitude gets the code 0, for there is one step more below zero than above.

    Args:
        weight: Shape ``(out, in)``; a last block that isn't full is filled up with zeros.

    Returns:
        Codes, shape ``(out, blocks, BLOCK)``, and scales, shape ``(out, blocks)``; a weight is (code - 128) * scale.
    """
    out, width = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -width % BLOCK))).reshape(out, -1, BLOCK)
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(-1, keepdims=True), -1)
    scales = extreme / np.float32(-_ZERO)
    steps = np.divide(padded, scales, out=np.zeros_like(padded), where=scales != 0)
    codes = np.clip(np.rint(steps) + _ZERO, 0, 255).astype(np.uint8)
    return codes, scales[..., 0]
