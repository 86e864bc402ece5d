"""What is observed of a decoder's products, with `float_decoder.forward`, to quantize it."""

from __future__ import annotations

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.quantization.codes import ACTIVATION_MINIMUM, INT8_MAX, UINT8_MAX

Matrix = tuple[int, str]  # a layer, and the name of a matrix in it, such as "self_attn.q_proj"

# The relative error of a product above which a matrix gets a scale for each block. With normally distributed weights
# and inputs it is 0.010. Where it is twice that, blocks are worth their time: docs/benchmarks.md.
_MAX_ERROR = 0.02


class Peaks:
    """
    Keeps the largest magnitudes.

    Attributes:
        inputs: Of each input channel, shape ``(in,)``.
        outputs: Of each output channel, shape ``(out,)``.
        columns: Of each column of the matrix, shape ``(in,)``.
    """

    def __init__(self) -> None:
        self.inputs: dict[Matrix, FloatArray] = {}
        self.outputs: dict[Matrix, FloatArray] = {}
        self.columns: dict[Matrix, FloatArray] = {}

    def __call__(self, layer: int, name: str, inputs: FloatArray, matrix: FloatArray, outputs: FloatArray) -> None:
        """Take note of a product; see `float_decoder.Observer`."""
        self.inputs[layer, name] = _largest(inputs)
        self.outputs[layer, name] = _largest(outputs)
        self.columns[layer, name] = _largest(matrix)


class Errors(Peaks):
    """Also estimates the error that each product would have with one scale a row and one scale a column."""

    def __init__(self, activation: str) -> None:
        """
        Begin.

        Args:
            activation: The one before `fc2`, of ACTIVATION_MINIMUM.
        """
        super().__init__()
        self._minimum = ACTIVATION_MINIMUM[activation]
        self.errors: dict[Matrix, float] = {}

    def __call__(self, layer: int, name: str, inputs: FloatArray, matrix: FloatArray, outputs: FloatArray) -> None:
        """Take note of a product."""
        super().__call__(layer, name, inputs, matrix, outputs)
        self.errors[layer, name] = product_error(inputs, matrix, outputs, self._minimum if name == "fc2" else None)

    def in_blocks(self) -> frozenset[Matrix]:
        """Return the matrices whose products would be too far off."""
        return frozenset(matrix for matrix, error in self.errors.items() if error > _MAX_ERROR)


def product_error(inputs: FloatArray, matrix: FloatArray, outputs: FloatArray, minimum: float | None) -> float:
    """
    Estimate the error of a product in 8 bits, relative to its size; both are root mean squares.

    Rounding to steps of a size d has an error of d / √12. That of an input is multiplied by its column, that of a
    weight by its input.

    Args:
        inputs: Shape ``(…, in)``.
        matrix: Shape ``(out, in)``.
        outputs: Their product, shape ``(…, out)``.
        minimum: A lower bound of the inputs, which becomes code 0; None for symmetric quantization.
    """
    rows = inputs.reshape(-1, inputs.shape[-1])
    if minimum is None:
        input_steps = np.abs(rows).max(axis=1, initial=0) / INT8_MAX
    else:
        input_steps = (rows.max(axis=1, initial=0) - minimum) / UINT8_MAX
    weight_steps = np.abs(matrix).max(axis=1) / INT8_MAX
    error = _power(input_steps) * _power(matrix) + _power(weight_steps) * _power(rows)
    power = _power(outputs)
    return float(np.sqrt(error / 12 / power)) if power else 0.0


def _power(values: FloatArray) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _largest(values: FloatArray) -> FloatArray:
    """Return the largest magnitude of each channel, the last axis; zeros if there are no values."""
    flat = values.reshape(-1, values.shape[-1])
    largest: FloatArray = np.maximum(flat.max(axis=0, initial=0), -flat.min(axis=0, initial=0))
    return largest
