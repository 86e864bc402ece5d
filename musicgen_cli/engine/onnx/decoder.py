"""The rows of the step graph on ONNX Runtime: keys and values in place, codes in, logits out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.errors import EngineError, line

Buffer = NDArray[np.float32] | NDArray[np.int8]

# ONNX Runtime's own exceptions have nothing in common but the module they are in; RuntimeError comes from its bindings.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(kind for kind in vars(runtime).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """
    What cross-attention looks at.

    Its mask is padded to a multiple of 64, by which a longer padding changes nothing, to the bit: the sums of the
    kernels go on with zeros. Keys and values become as long when they are bound.
    """

    mask: FloatArray  # (1, 1, 1, length), 0 for a token and -inf for padding
    values: dict[str, FloatArray]  # by the names of the step graph's inputs, (1, …), one for each token


class OnnxDecoder:
    """Rows of the decoder; a `scheduler.Decoder` that copies nothing but codes as long as the same rows go on."""

    def __init__(
        self, session: ort.InferenceSession, shape: DecoderShape, *, rows: int, steps: int, scales: FloatArray | None
    ) -> None:
        """
        Make room, which takes memory only as it is used.

        Args:
            session: Of the step graph.
            rows: At most.
            steps: Of the longest take.
            scales: Of keys and values in 8 bits, shape ``(layers, 2, heads, head width)``; None: they are float32.
        """
        self._session, self._shape = session, shape
        self._texts: list[Conditioning | None] = [None] * rows
        size = (rows, shape.heads, steps, shape.head_width)
        self._buffers: dict[str, Buffer] = {
            f"{part}.{i}": np.zeros(size, np.float32) if scales is None else np.zeros(size, np.int8)
            for i in range(shape.layers)
            for part in ("key", "value")
        }
        self._scales = {}
        if scales is not None:
            for i in range(shape.layers):
                for j, part in enumerate(("key", "value")):
                    self._scales[f"{part}_scale.{i}"] = np.ascontiguousarray(scales[i, j][None, :, None, :])
        self._bound: _Bound | None = None

    def set_conditioning(self, row: int, text: Conditioning | None) -> None:
        """Let a row look at a text from now on, or at none."""
        if self._texts[row] is not text:
            self._texts[row] = text
            self._bound = None

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Put a row, which has so many positions, in another's place; it looks at the same text there."""
        for buffer in self._buffers.values():
            buffer[target, :, :positions] = buffer[source, :, :positions]
        self.set_conditioning(target, self._texts[source])

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Take the first rows one position further; the logits are good until the next call."""
        with explained("make a step"):
            if self._bound is None or self._bound.rows != len(tokens):
                self._bound = None  # before the next is made: each may hold a copy of the texts
                self._bound = _Bound(
                    self._session,
                    self._shape,
                    self._texts[: len(tokens)],
                    {name: buffer[: len(tokens)] for name, buffer in self._buffers.items()},
                    self._scales,
                )
            return self._bound.step(tokens, positions)

    def peaks(self, positions: int) -> FloatArray:
        """Return the largest magnitude of each channel in 8 bits, in steps, shape as of the scales."""
        shape = self._shape
        found = [np.abs(buffer[:, :, :positions].astype(np.int16)).max((0, 2)) for buffer in self._buffers.values()]
        return np.array(found, np.float32).reshape(shape.layers, 2, shape.heads, shape.head_width)


class _Bound:
    """Certain rows, bound to the graph's inputs and outputs."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: DecoderShape,
        texts: list[Conditioning | None],
        buffers: dict[str, Buffer],
        scales: dict[str, FloatArray],
    ) -> None:
        self.rows = rows = len(texts)
        self._session = session
        self._tokens = np.zeros((rows, shape.codebooks), np.int64)
        self._positions = np.zeros(rows, np.int64)
        self._lengths = np.zeros(rows, np.int32)
        self._longest = np.zeros(1, np.int32)
        self._logits = np.zeros((rows, shape.codebooks, shape.vocab), np.float32)
        seen = [text for text in texts if text is not None]
        inputs = {
            "tokens": self._tokens,
            "positions": self._positions,
            "lengths": self._lengths,
            "longest": self._longest,
            "text_rows": np.array([row for row, text in enumerate(texts) if text is not None], np.int64),
            **_side_by_side(seen, shape),
            **buffers,
            **scales,
        }
        # Lent memory is only safe as long as its OrtValue is here: not every version of a binding keeps it.
        self._lent = {name: shared(values) for name, values in {**inputs, "logits": self._logits}.items()}
        self._binding = session.io_binding()
        for name in inputs:
            self._binding.bind_ortvalue_input(name, self._lent[name])
        self._binding.bind_ortvalue_output("logits", self._lent["logits"])
        for name in buffers:
            self._binding.bind_ortvalue_output(f"new_{name}", self._lent[name])

    def step(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        self._tokens[:] = tokens
        self._positions[:] = positions
        self._lengths[:] = positions
        self._longest[0] = positions.max() + 1
        self._session.run_with_iobinding(self._binding)
        return self._logits


def _side_by_side(texts: list[Conditioning], shape: DecoderShape) -> dict[str, FloatArray]:
    """Return the texts as one input of each name, all as long as the longest."""
    length = max((text.mask.shape[-1] for text in texts), default=1)
    heads, width = shape.heads, shape.head_width

    def pad(values: FloatArray, axis: int, filler: float) -> FloatArray:
        before = [(0, 0)] * values.ndim
        before[axis] = (0, length - values.shape[axis])
        return np.pad(values, before, constant_values=filler) if before[axis][1] else values

    def join(parts: list[FloatArray], empty: tuple[int, ...]) -> FloatArray:
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(empty, np.float32), *parts])

    joined = {"text_mask": join([pad(text.mask, 3, -np.inf) for text in texts], (0, 1, 1, length))}
    for i in range(shape.layers):
        for name, axis, size in (
            (f"cross_key.{i}", 3, (0, heads, width, length)),
            (f"cross_value.{i}", 2, (0, heads, length, width)),
        ):
            joined[name] = join([pad(text.values[name], axis, 0) for text in texts], size)
    return joined


def shared(values: np.ndarray) -> ort.OrtValue:
    """Lend an array to ONNX Runtime, which reads and writes it in place while the OrtValue is kept."""
    return ort.OrtValue.ortvalue_from_numpy(values)


@contextmanager
def explained(task: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into an EngineError."""
    try:
        yield
    except MemoryError as err:
        raise EngineError(f"there was not enough memory to {task}", hint="a smaller model needs less") from err
    except _FAILURES as err:
        raise EngineError(f"ONNX Runtime couldn't {task}: {line(err)}") from err
