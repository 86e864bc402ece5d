"""
Packs a decoder's weights into the one file that the C library maps; native/weights.h in the repository describes it.

Codes and scales are those of the ONNX graph (`engine/quantization/codes.py`). One tensor is in memory at a time.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from musicgen_cli import atomic
from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, TensorSource
from musicgen_cli.engine.decoding.positions import sinusoids
from musicgen_cli.engine.native.library import ABI
from musicgen_cli.engine.quantization.codes import as_uint8, quantize_per_channel

_MAGIC = b"musicgen"
_HEADER_BYTES, _ALIGNMENT = 64, 64
_PANEL, _INPUTS = 16, 4  # outputs of a panel; inputs of an output in one vector of 64 bytes
_BLOCK = 512  # inputs that are summed as whole numbers
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "relu": 2}
_MAX_WIDTH, _MAX_HEAD_WIDTH = 1 << 15, 256


def unsupported(shape: DecoderShape) -> str | None:
    """Return why the native decoder can't compute a model, as the rest of a sentence after "because"; else None."""
    for name, value in (("width", shape.width), ("ffn", shape.ffn), ("head width", shape.head_width)):
        if value % _PANEL:
            return f"the decoder's {name} of {value} is no multiple of {_PANEL}"
    if max(shape.width, shape.ffn) > _MAX_WIDTH or shape.head_width > _MAX_HEAD_WIDTH:
        return "the decoder is too wide"
    return None


def write_weights(path: Path, shape: DecoderShape, tensors: TensorSource, *, positions: int) -> tuple[int, str]:
    """
    Pack the weights of a decoder into a new file.

    Args:
        tensors: The checkpoint's, or such as were made from them.
        positions: Of a row, at most.

    Returns:
        The file's size and SHA-256.

    Raises:
        CheckpointError: A tensor is missing or can't be used.
        OSError: The file can't be written.
    """
    with atomic.open_private(path) as file:
        writer = _Writer(file)
        sizes = (shape.layers, shape.width, shape.heads, shape.ffn, shape.vocab, shape.codebooks, positions)
        header = struct.pack("<8sI9i", _MAGIC, ABI, *sizes, _ACTIVATIONS[shape.activation], shape.has_cross_attention)
        writer.write(np.frombuffer(header.ljust(_HEADER_BYTES, b"\0"), np.uint8))
        for part in _parts(shape, tensors, positions):
            writer.write(part)
        return file.tell(), writer.digest.hexdigest()


class _Writer:
    """Writes arrays one after the other, each on an aligned offset, and hashes the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, values: NDArray[Any]) -> None:
        content = np.ascontiguousarray(values).data.cast("B")
        for piece in (content, bytes(-len(content) % _ALIGNMENT)):
            self._file.write(piece)
            self.digest.update(piece)


def _parts(shape: DecoderShape, tensors: TensorSource, positions: int) -> Iterator[NDArray[Any]]:
    """Yield the arrays of the file in their order, after the header."""
    decoder, width = "decoder.model.decoder", shape.width

    def norm(name: str) -> Iterator[NDArray[Any]]:
        yield tensors.read(f"{name}.weight", width)
        yield tensors.read(f"{name}.bias", width)

    # One codebook after the other is one array, as a row of it is a multiple of the alignment.
    for k in range(shape.codebooks):
        yield tensors.read(f"{decoder}.embed_tokens.{k}.weight", shape.vocab + 1, width)
    yield sinusoids(positions, width)
    for i in range(shape.layers):
        yield from _layer(f"{decoder}.layers.{i}", shape, tensors)
    yield from norm(f"{decoder}.layer_norm")
    heads = [tensors.read(f"decoder.lm_heads.{k}.weight", shape.vocab, width) for k in range(shape.codebooks)]
    yield from _heads(np.concatenate(heads).T)


def _layer(layer: str, shape: DecoderShape, tensors: TensorSource) -> Iterator[NDArray[Any]]:
    width = shape.width

    def matrix(*names: str, outputs: int = width, inputs: int = width) -> tuple[NDArray[np.int8], FloatArray]:
        weights = [tensors.read(f"{layer}.{name}.weight", outputs, inputs) for name in names]
        return quantize_per_channel(np.concatenate(weights).T)

    def norm(name: str) -> Iterator[NDArray[Any]]:
        yield tensors.read(f"{layer}.{name}.weight", width)
        yield tensors.read(f"{layer}.{name}.bias", width)

    yield from norm("self_attn_layer_norm")
    yield from _packed(*matrix("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))
    yield from _packed(*matrix("self_attn.out_proj"))
    if shape.has_cross_attention:
        yield from norm("encoder_attn_layer_norm")
        yield from _packed(*matrix("encoder_attn.q_proj"))
        yield from _packed(*matrix("encoder_attn.out_proj"))
    yield from norm("final_layer_norm")
    yield from _packed(*matrix("fc1", outputs=shape.ffn))
    codes, scales = matrix("fc2", inputs=shape.ffn)
    yield from _packed(codes, scales)
    yield np.add.reduceat(codes, range(0, shape.ffn, _BLOCK), axis=0, dtype=np.int32)


def _packed(codes: NDArray[np.int8], scales: FloatArray) -> Iterator[NDArray[Any]]:
    """Yield codes of shape ``(in, out)`` by panels, and their scales."""
    inputs, outputs = codes.shape
    panels = as_uint8(codes).reshape(inputs // _INPUTS, _INPUTS, outputs // _PANEL, _PANEL)
    yield panels.transpose(2, 0, 3, 1)
    yield scales.astype(np.float32, copy=False)


def _heads(weights: FloatArray) -> Iterator[NDArray[Any]]:
    """Yield the output layers, shape ``(in, out)``, by panels of float16, and a power of two for each column."""
    weights = np.pad(weights, ((0, 0), (0, -weights.shape[1] % _PANEL)))
    _, exponents = np.frexp(np.abs(weights).max(axis=0))
    scales = np.ldexp(np.float32(1), exponents)
    halves = np.ldexp(weights, -exponents).astype(np.float16)
    yield halves.reshape(weights.shape[0], -1, _PANEL).transpose(1, 0, 2)
    yield scales
