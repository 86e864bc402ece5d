"""A decoder whose step is one call of the C library: KV caches by row, tokens in, logits out."""

from __future__ import annotations

import ctypes as c
import weakref
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.native.library import INSTRUCTION_SETS, check, load
from musicgen_cli.errors import EngineError

PREFILL = 16  # positions of one row that are computed at once

_PAD = 16  # a text's tokens are padded to a multiple of this


@dataclass(frozen=True, slots=True)
class Text:
    """One prompt's keys and values for cross-attention, as the C library reads them."""

    values: FloatArray  # keys (layers, heads, head width, length), then values (layers, heads, length, head width)
    length: int
    used: int  # the tokens; the rest is padding

    @classmethod
    def of(cls, shape: DecoderShape, values: dict[str, FloatArray]) -> Text:
        """
        Copy what the text encoder has computed.

        Args:
            values: By name: for each layer i `cross_key.i`, shape ``(1, heads, head width, tokens)``, and
                `cross_value.i`, ``(1, heads, tokens, head width)``.
        """
        used = values["cross_key.0"].shape[3]
        length = used + -used % _PAD
        size = (shape.layers, shape.heads, shape.head_width, length)
        packed = np.zeros((2, int(np.prod(size))), np.float32)
        keys = packed[0].reshape(size)
        states = packed[1].reshape(shape.layers, shape.heads, length, shape.head_width)
        for i in range(shape.layers):
            keys[i, :, :, :used] = values[f"cross_key.{i}"][0]
            states[i, :, :used] = values[f"cross_value.{i}"][0]
        return cls(packed, length, used)


class Pool:
    """Threads of the C library, which sleep while there is nothing to do."""

    def __init__(self, threads: int, *, patient: bool = False) -> None:
        """
        Start them.

        Args:
            patient: Compute with all of them even where other programs use the processors.

        Raises:
            MemoryNeededError: The system has no room for them.
        """
        self.handle = c.c_void_p()
        check(load().mg_pool_new(threads, int(patient), c.byref(self.handle)), f"start {threads} threads")
        weakref.finalize(self, load().mg_pool_free, self.handle)


class Weights:
    """A mapped weight file, which decoders share."""

    def __init__(self, path: Path, shape: DecoderShape) -> None:
        """
        Map it.

        Raises:
            EngineError: It can't be read, or isn't a weight file of this shape.
        """
        try:
            self.mapped: NDArray[Any] = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as err:
            raise EngineError(f"{path} can't be read: {err}") from err
        self.shape = shape
        self.handle = c.c_void_p()
        library = load()
        check(
            library.mg_model_new(self.mapped.ctypes.data, self.mapped.nbytes, c.byref(self.handle)),
            f"open {path.name}",
        )
        weakref.finalize(self, library.mg_model_free, self.handle)
        *sizes, self.positions, _, cross = self.mapped[12:48].view(np.int32).tolist()
        expected = [shape.layers, shape.width, shape.heads, shape.ffn, shape.vocab, shape.codebooks]
        if [*sizes, cross] != [*expected, shape.has_cross_attention]:
            raise EngineError(f"{path.name} is of another model")


class NativeDecoder:
    """A `scheduler.Decoder`; a step copies nothing."""

    def __init__(
        self, weights: Weights, pool: Pool, isa: str, *, rows: int, positions: int, scales: FloatArray
    ) -> None:
        """
        Reserve the KV cache; its memory is committed only as it is used.

        Args:
            isa: Of `library.INSTRUCTION_SETS`.
            rows: The largest batch.
            positions: Of a row.
            scales: Of the KV cache, shape ``(layers, 2, heads, head width)``.

        Raises:
            MemoryNeededError: There is not enough memory.
        """
        shape = weights.shape
        if scales.shape != (shape.layers, 2, shape.heads, shape.head_width):
            raise EngineError(f"the scales of the KV cache have the shape {scales.shape}, which is of another model")
        self._weights, self._pool, self._shape = weights, pool, shape  # kept alive for the library
        self._rows, self._positions, self._batch = rows, positions, max(rows, PREFILL)
        self._texts: list[Text | None] = [None] * rows
        self._logits = np.empty((self._batch, shape.codebooks, shape.vocab), np.float32)
        self._row_numbers = np.arange(rows, dtype=np.int64)
        self._library = load()
        self._handle = c.c_void_p()
        contiguous = np.ascontiguousarray(scales, np.float32)
        check(
            self._library.mg_decoder_new(
                *(weights.handle, pool.handle, INSTRUCTION_SETS[isa], rows, positions, self._batch),
                *(contiguous.ctypes.data, c.byref(self._handle)),
            ),
            "make a decoder",
        )
        weakref.finalize(self, self._library.mg_decoder_free, self._handle)

    def set_conditioning(self, row: int, conditioning: Text | None) -> None:
        """Set what a row's cross-attention reads from now on; None for an unconditional row, or for none at all."""
        if conditioning is None:
            result = self._library.mg_set_text(self._handle, row, None, 0, 0)
        else:
            address = conditioning.values.ctypes.data
            result = self._library.mg_set_text(self._handle, row, address, conditioning.length, conditioning.used)
        check(result, "set a prompt")
        self._texts[row] = conditioning  # kept alive for the library

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Move a row, with its first `positions` cache entries and its conditioning, to another index."""
        check(self._library.mg_move(self._handle, source, target, positions), "move a row")
        self._texts[target] = self._texts[source]

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Advance the first rows by one position; the next call overwrites the logits."""
        return self._run(self._row_numbers[: len(tokens)], positions, tokens=tokens, wanted=len(tokens))

    def prefill(
        self,
        row: int,
        start: int,
        *,
        tokens: IntArray | None = None,
        inputs: FloatArray | None = None,
        wanted: int = 0,
    ) -> FloatArray:
        """
        Compute many positions of one row, with the same result, to the bit, as one step for each.

        Args:
            row: The row of the KV cache; other rows are untouched.
            start: The first position.
            tokens: Shape ``(n, codebooks)``; or
            inputs: Vectors that take the place of embedded tokens, shape ``(n, width)``.
            wanted: Return the logits of so many last positions, at most PREFILL.

        Returns:
            Logits, shape ``(wanted, codebooks, vocabulary)``; the next call overwrites them.
        """
        given = tokens if tokens is not None else inputs
        if given is None or not 0 <= wanted <= min(len(given), PREFILL):
            raise ValueError("prefill needs tokens or inputs, and no more logits than there are positions")
        first_wanted = len(given) - wanted
        logits = self._logits[:0]
        bounds = [*range(0, first_wanted, PREFILL), first_wanted]  # the positions with logits are one call
        if wanted:
            bounds.append(len(given))
        for begin, end in pairwise(bounds):
            if begin == end:
                continue
            logits = self._run(
                np.full(end - begin, row, np.int64),
                np.arange(start + begin, start + end, dtype=np.int64),
                tokens=None if tokens is None else tokens[begin:end],
                inputs=None if inputs is None else inputs[begin:end],
                wanted=wanted if end > first_wanted else 0,
            )
        return logits

    def _run(
        self,
        rows: IntArray,
        positions: IntArray,
        *,
        tokens: IntArray | None = None,
        inputs: FloatArray | None = None,
        wanted: int,
    ) -> FloatArray:
        """Compute a batch, after a check of everything whose size the library can't see."""
        shape, count = self._shape, len(rows)
        arrays: list[NDArray[Any] | None] = [
            np.ascontiguousarray(rows, np.int64),
            np.ascontiguousarray(positions, np.int64),
            None if tokens is None else np.ascontiguousarray(tokens, np.int64),
            None if inputs is None else np.ascontiguousarray(inputs, np.float32),
        ]
        sizes = ((count,), (count,), (count, shape.codebooks), (count, shape.width))
        for array, size in zip(arrays, sizes, strict=True):
            if array is not None and array.shape != size:
                raise ValueError(f"a batch needs an array of the shape {size}, got {array.shape}")
        addresses = [None if array is None else array.ctypes.data for array in arrays]
        check(
            self._library.mg_run(self._handle, count, *addresses, wanted, self._logits.ctypes.data),
            "run a decoder step",
        )
        return self._logits[:wanted]
