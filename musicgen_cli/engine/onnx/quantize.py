"""
Multiplies in 8 bits: each column of a matrix has a scale, and each row of what it is multiplied with.

A row's scale comes from that row alone and sums of whole numbers are exact, so what else is in a batch doesn't change a
row, to the bit. Source: "vector-wise quantization" of Dettmers et al., LLM.int8() (2022), section 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.tensors import FloatArray

STEPS = 255  # from the code of the least value to that of the largest
ZERO = 128  # the code of 0 where both signs come up
TO_EACH_SIDE = 127  # steps from there, as many in each direction

# What the results of an activation are never below: they need no codes there, and have twice as many above.
FLOORS = {"relu": 0.0, "gelu": -0.1701, "gelu_new": -0.1701}


def quantize(weight: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """
    Round each column to 255 steps, symmetric about zero.

    Args:
        weight: Shape ``(in, out)``.

    Returns:
        Codes, -127 to 127, shape ``(in, out)``, and scales, shape ``(out,)``; a weight is code * scale.
    """
    scales = np.abs(weight).max(axis=0) / np.float32(TO_EACH_SIDE)
    steps = np.divide(weight, scales, out=np.zeros_like(weight), where=scales != 0)
    return np.rint(steps, out=steps).astype(np.int8), scales


def unsigned(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Count codes from 0 on: 0 becomes ZERO."""
    return codes.view(np.uint8) ^ np.uint8(ZERO)
