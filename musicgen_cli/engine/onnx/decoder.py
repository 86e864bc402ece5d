"""The decoder on ONNX Runtime: KV caches that it updates in place, tokens in, logits out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.errors import EngineError, short_reason

KVCache = dict[str, NDArray[np.float32] | NDArray[np.int8]]  # by the names of the decoder step's inputs

# ONNX Runtime's exceptions have no common base class, only a common module; its bindings raise RuntimeError.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(kind for kind in vars(runtime).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """
    One prompt's keys and values for cross-attention.

    The mask is padded to a multiple of 64 tokens. Padding it further, to the length of another prompt in the batch,
    then leaves the result the same to the bit: the kernels only add zeros at the end. Keys and values are padded to the
    mask's length when they are bound.
    """

    mask: FloatArray  # (1, 1, 1, length), 0 for a token and -inf for padding
    values: dict[str, FloatArray]  # by the names of the decoder step's inputs, (1, …), one entry for each token


class OnnxDecoder:
    """A `scheduler.Decoder`; while the batch stays the same, a step copies nothing but tokens."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: DecoderShape,
        *,
        rows: int,
        positions: int,
        scales: FloatArray | None,
    ) -> None:
        """
        Reserve the KV cache; its memory is committed only as it is used.

        Args:
            session: Of the decoder step.
            rows: The largest batch.
            positions: Of a row.
            scales: Of an int8 KV cache, shape ``(layers, 2, heads, cached head width)``; None for float32.
        """
        self._session, self._shape = session, shape
        self._conditioning: list[Conditioning | None] = [None] * rows
        size = (rows, shape.heads, positions, shape.cached_head_width)
        self._cache: KVCache = {
            f"{part}.{i}": np.zeros(size, np.float32) if scales is None else np.zeros(size, np.int8)
            for i in range(shape.layers)
            for part in ("key", "value")
        }
        self._scales = {}
        if scales is not None:
            for i in range(shape.layers):
                for j, part in enumerate(("key", "value")):
                    self._scales[f"{part}_scale.{i}"] = np.ascontiguousarray(scales[i, j][None, :, None, :])
        self._binding: _Binding | None = None

    def set_conditioning(self, row: int, conditioning: Conditioning | None) -> None:
        """Set what a row's cross-attention reads from now on; None for an unconditional row, or for none at all."""
        if self._conditioning[row] is not conditioning:
            self._conditioning[row] = conditioning
            self._binding = None

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Move a row, with its first `positions` cache entries and its conditioning, to another index."""
        for buffer in self._cache.values():
            buffer[target, :, :positions] = buffer[source, :, :positions]
        self.set_conditioning(target, self._conditioning[source])

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Advance the first rows by one position; the next call overwrites the logits."""
        with translated_errors("run a decoder step"):
            if self._binding is None or self._binding.rows != len(tokens):
                self._binding = None  # freed first: each binding may hold a copy of the conditioning
                self._binding = _Binding(
                    self._session,
                    self._shape,
                    self._conditioning[: len(tokens)],
                    {name: buffer[: len(tokens)] for name, buffer in self._cache.items()},
                    self._scales,
                )
            return self._binding.run(tokens[:, None], positions[:, None])

    def prefill(
        self, row: int, start: int, *, tokens: IntArray | None = None, inputs: FloatArray | None = None
    ) -> None:
        """Read given tokens, or vectors in their place, into the KV cache of one row; see `scheduler.Decoder`."""
        cache = {name: buffer[row : row + 1] for name, buffer in self._cache.items()}
        conditioning = self._conditioning[row : row + 1]
        tokens = np.empty((0, self._shape.codebooks), np.int64) if tokens is None else tokens
        vectors = np.empty((0, self._shape.width), np.float32) if inputs is None else inputs
        count = len(tokens) + len(vectors)
        with translated_errors("read what comes before the first step"):
            binding = _Binding(
                *(self._session, self._shape, conditioning, cache, self._scales),
                tokens=len(tokens),
                vectors=vectors[None],
            )
            binding.run(tokens[None], np.arange(start, start + count)[None])


class _Binding:
    """An IO binding of a batch, or of one row's many positions: ONNX Runtime reads and writes these arrays in place."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: DecoderShape,
        conditioning: list[Conditioning | None],
        cache: KVCache,
        scales: dict[str, FloatArray],
        *,
        tokens: int = 1,
        vectors: FloatArray | None = None,
    ) -> None:
        """
        Bind the arrays.

        Args:
            tokens: Positions of each row.
            vectors: Before the tokens, shape ``(rows, positions, width)``; None for none.
        """
        self.rows = rows = len(conditioning)
        self._session = session
        vectors = np.empty((rows, 0, shape.width), np.float32) if vectors is None else vectors
        self._tokens = np.zeros((rows, tokens, shape.codebooks), np.int64)
        self._positions = np.zeros((rows, tokens + vectors.shape[1]), np.int64)
        self._lengths = np.zeros(rows, np.int32)
        self._longest = np.zeros(1, np.int32)
        self._logits = np.zeros((rows, shape.codebooks, shape.vocab), np.float32)
        inputs = {
            "tokens": self._tokens,
            "positions": self._positions,
            "lengths": self._lengths,
            "longest": self._longest,
            **(_text_inputs(conditioning, shape) if shape.has_cross_attention else {"inputs": vectors}),
            **cache,
            **scales,
        }
        # ONNX Runtime may use an array only while its OrtValue lives; not every version of IOBinding keeps a reference.
        arrays = {**inputs, "logits": self._logits}
        self._ort_values = {name: ort.OrtValue.ortvalue_from_numpy(values) for name, values in arrays.items()}
        self._io_binding = session.io_binding()
        for name in inputs:
            self._io_binding.bind_ortvalue_input(name, self._ort_values[name])
        self._io_binding.bind_ortvalue_output("logits", self._ort_values["logits"])
        for name in cache:
            self._io_binding.bind_ortvalue_output(f"new_{name}", self._ort_values[name])

    def run(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        self._tokens[:] = tokens
        self._positions[:] = positions
        self._lengths[:] = positions[:, -1]
        self._longest[0] = positions.max() + 1
        self._session.run_with_iobinding(self._io_binding)
        return self._logits


def _text_inputs(conditioning: list[Conditioning | None], shape: DecoderShape) -> dict[str, NDArray[Any]]:
    """Return the decoder step's inputs about text."""
    texts = [text for text in conditioning if text is not None]
    rows = np.array([row for row, text in enumerate(conditioning) if text is not None], np.int64)
    return {"text_rows": rows, **_batched(texts, shape)}


def _batched(conditioning: list[Conditioning], shape: DecoderShape) -> dict[str, FloatArray]:
    """Return the decoder step's inputs for several prompts, all padded to the longest."""
    length = max((text.mask.shape[-1] for text in conditioning), default=1)
    heads, width = shape.heads, shape.head_width

    def pad(values: FloatArray, axis: int, filler: float) -> FloatArray:
        amounts = [(0, 0)] * values.ndim
        amounts[axis] = (0, length - values.shape[axis])
        return np.pad(values, amounts, constant_values=filler) if amounts[axis][1] else values

    def join(parts: list[FloatArray], empty: tuple[int, ...]) -> FloatArray:
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(empty, np.float32), *parts])

    inputs = {"text_mask": join([pad(text.mask, 3, -np.inf) for text in conditioning], (0, 1, 1, length))}
    for i in range(shape.layers):
        for name, axis, size in (
            (f"cross_key.{i}", 3, (0, heads, width, length)),
            (f"cross_value.{i}", 2, (0, heads, length, width)),
        ):
            inputs[name] = join([pad(text.values[name], axis, 0) for text in conditioning], size)
    return inputs


@contextmanager
def translated_errors(task: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into an EngineError that says which task failed."""
    try:
        yield
    except MemoryError as err:
        raise EngineError(f"there is not enough memory to {task}", hint="a smaller model needs less") from err
    except _FAILURES as err:
        raise EngineError(f"ONNX Runtime couldn't {task}: {short_reason(err)}") from err
