"""What follows from a decoder's shape and weights for every runtime: position vectors, bounds of the KV cache."""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, TensorSource


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


def kv_bounds(shape: DecoderShape, tensors: TensorSource) -> FloatArray:
    """
    Return the upper bounds of keys and values that follow from the weights, shape (layers, 2, heads, head width).

    The norm of a layer-normalised vector is at most the root of its width, and the dot product of two vectors is at
    most the product of their norms (Cauchy-Schwarz).
    """
    bounds = np.empty((shape.layers, 2, shape.width), np.float32)
    for i in range(shape.layers):
        layer = f"decoder.model.decoder.layers.{i}"
        gain, offset = (
            tensors.read(f"{layer}.self_attn_layer_norm.{part}", shape.width) for part in ("weight", "bias")
        )
        for j, part in enumerate("kv"):
            matrix = tensors.read(f"{layer}.self_attn.{part}_proj.weight", shape.width, shape.width)
            bounds[i, j] = np.linalg.norm(matrix * gain, axis=1) * math.sqrt(shape.width) + np.abs(matrix @ offset)
    return bounds.reshape(shape.layers, 2, shape.heads, shape.head_width)
