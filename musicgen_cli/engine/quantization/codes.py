"""
8-bit matrix multiplication: one scale per column of the weight, one scale per row of the activations.

A row's scale depends on that row alone, and sums of integers are exact. So the other rows of a batch don't change a
row's result, not even in its last bit. Source: "vector-wise quantization" of Dettmers et al., LLM.int8() (2022),
section 2. The native decoder divides a row into blocks of 512 inputs, each with a scale of its own.

A matrix whose weights, or whose inputs, differ too much in size for that has a scale for each block of 64 weights of a
column, and its inputs one for each 64 values of a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.tensors import FloatArray

INT8_MAX = 127  # the largest code of symmetric quantization; the smallest is its negative
UINT8_MAX = 255  # the largest code of quantization with a minimum of 0
UINT8_ZERO_POINT = 128  # the code of 0 where symmetric codes are stored as uint8
BLOCK = 64  # weights of a column that share a scale, where a column has several

# No result of these activations is lower: with this as the minimum, all 256 codes are used for what can occur.
ACTIVATION_MINIMUM = {"relu": 0.0, "gelu": -0.1701, "gelu_new": -0.1701}


def quantize_per_channel(weight: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """
    Quantize each column (output channel) of a matrix to int8, symmetrically about zero.

    Args:
        weight: Shape ``(in, out)``.

    Returns:
        Codes from -127 to 127, shape ``(in, out)``, and scales, shape ``(out,)``; a weight is code * scale.
    """
    scales = np.abs(weight).max(axis=0) / np.float32(INT8_MAX)
    codes = np.divide(weight, scales, out=np.zeros_like(weight), where=scales != 0)
    return np.rint(codes, out=codes).astype(np.int8), scales


def quantize_blocks(weight: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """
    Quantize each block of each column (output channel) of a matrix to int8, symmetrically about zero.

    Args:
        weight: Shape ``(in, out)``.

    Returns:
        Codes from -127 to 127, shape ``(out, blocks, BLOCK)``, zeros after the end of a column; and scales, shape
        ``(out, blocks)``.
    """
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight.T
    codes, scales = quantize_per_channel(padded.reshape(-1, BLOCK).T)
    return codes.T.reshape(outputs, blocks, BLOCK), scales.reshape(outputs, blocks)


def as_uint8(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return the same codes as uint8 with the zero point UINT8_ZERO_POINT."""
    return codes.view(np.uint8) ^ np.uint8(UINT8_ZERO_POINT)
