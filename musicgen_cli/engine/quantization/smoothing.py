"""
Smoothing: moves what is large in a decoder's activations into its weights, so that both fit into 8 bits.

Trained transformers have a few channels whose values are tens of times larger than those of the others. In 8 bits, with
one scale for all channels of a row, they leave only a few codes to the others. So such a channel is divided by a
factor, and the column of the matrix that reads it is multiplied by the same one: the product stays what it is. The
division is folded into what makes the channel: the norm before it, or the rows of another matrix. No graph changes, and
in float32 a smoothed decoder differs only by rounding.

Source: SmoothQuant (Xiao et al. 2022, arXiv 2211.10438), equation 4, with a migration strength of 0.5.
"""

from __future__ import annotations

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors, WrappedTensors
from musicgen_cli.engine.quantization.observers import Peaks

# Of each layer: what makes the channels, and the matrices that read them.
_NORMS = {
    "self_attn_layer_norm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "encoder_attn_layer_norm": ("encoder_attn.q_proj",),
    "final_layer_norm": ("fc1",),
}
_VALUES, _VALUES_READER = "self_attn.v_proj", "self_attn.out_proj"  # attention averages values: channels stay apart


class SmoothedTensors(WrappedTensors):
    """The tensors of a checkpoint, of which those of the decoder's layers are smoothed as they are read."""

    def __init__(self, tensors: Tensors, shape: DecoderShape, peaks: Peaks) -> None:
        """
        Choose the factors.

        Args:
            peaks: What occurred in this decoder.
        """
        super().__init__(tensors)
        self._divisors: dict[str, FloatArray] = {}  # tensor → of its rows, or of its elements if it is a vector
        self._factors: dict[str, FloatArray] = {}  # tensor → of its columns
        for i in range(shape.layers):
            layer = f"decoder.model.decoder.layers.{i}"
            for norm, readers in _NORMS.items():
                if (i, readers[0]) not in peaks.inputs:  # a decoder without cross-attention
                    continue
                factors = smoothing_factors(
                    np.max([peaks.inputs[i, reader] for reader in readers], axis=0),
                    np.max([peaks.columns[i, reader] for reader in readers], axis=0),
                )
                self._divisors |= dict.fromkeys((f"{layer}.{norm}.weight", f"{layer}.{norm}.bias"), factors)
                self._factors |= dict.fromkeys((f"{layer}.{reader}.weight" for reader in readers), factors)
            key = i, _VALUES_READER
            factors = smoothing_factors(peaks.inputs[key], peaks.columns[key])
            self._divisors[f"{layer}.{_VALUES}.weight"] = factors
            self._factors[f"{layer}.{_VALUES_READER}.weight"] = factors

    def read(self, name: str, *shape: int) -> FloatArray:
        """
        Return one tensor as float32, smoothed.

        Raises:
            CheckpointError: As for `Tensors.read`.
        """
        values = super().read(name, *shape)
        if (factors := self._factors.get(name)) is not None:
            values = values * factors
        if (divisors := self._divisors.get(name)) is not None:
            values = values / (divisors if values.ndim == 1 else divisors[:, None])
        return values


def smoothing_factors(inputs: FloatArray, columns: FloatArray) -> FloatArray:
    """
    Return by what each channel is divided: the root of the ratio of its size to its column's, relative to the median.

    Args:
        inputs: The largest magnitude that occurred in each channel.
        columns: The largest magnitude in the columns of the matrices that read it.

    Returns:
        Shaped as `inputs`; 1 for a channel, or a column, of zeros.
    """
    usable = (inputs > 0) & (columns > 0)
    if not usable.any():
        return np.ones_like(inputs)
    factors = np.sqrt(np.divide(inputs, columns, where=usable, out=np.ones_like(inputs)))
    smoothing: FloatArray = np.where(usable, factors / np.median(factors[usable]), np.float32(1))
    return smoothing
