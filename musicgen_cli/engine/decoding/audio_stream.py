"""
Sound in chunks, out of codes that are still being made.

A chunk is made as soon as the frames that it looks ahead to are there. Frame numbers alone say what a chunk holds and
what is around it when it is made: however the codes come, the same samples come out, to the bit. Only what the next
chunk looks back to is kept, so that memory doesn't grow with the clip.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray

_FIRST = 25  # frames of the first chunk, 0.5 s of a published model: somebody may be waiting for it
_FURTHER = 32  # frames of each other: little memory, and mostly in the processor's caches


class Codec(Protocol):
    """The two graphs of sound_graph.py."""

    def states(self, codes: IntArray, start: int, end: int, memory: FloatArray) -> tuple[FloatArray, FloatArray]:
        """
        Go on through the recurrent layers.

        Args:
            codes: Shape ``(channels, codebooks, n)``: some frames, and around them what a convolution looks at.
            start: The first of them that goes into the recurrent layers.
            end: The first that doesn't any more.
            memory: What the recurrent layers know, shape ``(2 * layers, channels, filters)``; at first zeros.

        Returns:
            The states, shape ``(channels, filters, end - start)``, and the memory after them.
        """

    def samples(self, states: FloatArray) -> FloatArray:
        """Turn states, shape ``(channels, filters, n)``, into samples, shape ``(channels, n * hop)``."""


class AudioStream:
    """One clip's way from codes to samples."""

    def __init__(self, codec: Codec, shape: CodecShape, *, codebooks: int, channels: int) -> None:
        """
        Begin.

        Args:
            codebooks: Of all channels together.
        """
        self.frames = 0  # that were taken in
        self._codec, self._shape, self._channels = codec, shape, channels
        # A convolution that reflects its input's beginning has to find enough of it.
        self._end = max(_FIRST, shape.kernel)  # of the next chunk
        self._made = 0  # frames that became samples
        self._codes = np.empty((channels, codebooks // channels, 0), np.int64)  # the latest
        self._states = np.empty((channels, shape.top_filters, 0), np.float32)  # the latest
        self._stated = 0  # frames that became states
        self._memory = np.zeros((2 * shape.lstm_layers, channels, shape.top_filters), np.float32)

    def push(self, codes: IntArray) -> FloatArray:
        """
        Take in codes of the next frames.

        Args:
            codes: Shape ``(codebooks, n)``; a stereo model's codebooks alternate left and right.

        Returns:
            What they complete, shape ``(channels, samples)``; mostly there are none.
        """
        each = codes.reshape(self._codes.shape[1], self._channels, codes.shape[1]).swapaxes(0, 1)
        self._codes = np.concatenate([self._codes, each], axis=2)
        self.frames += codes.shape[1]
        _, after = self._shape.padding(self._shape.kernel - 1)
        chunks = []
        while self._end + self._shape.receptive_radius + after <= self.frames:
            chunks.append(self._chunk(self._end))
        return self._joined(chunks)

    def end(self) -> FloatArray:
        """Return the samples that are left, for no more codes come."""
        chunks = []
        while self._made < self.frames:
            chunks.append(self._chunk(min(self._end, self.frames)))
        return self._joined(chunks)

    def _chunk(self, end: int) -> FloatArray:
        shape = self._shape
        if (until := min(end + shape.receptive_radius, self.frames)) > self._stated:
            self._state(until)
        kept_from = self._stated - self._states.shape[2]
        before = self._made - kept_from
        sound = self._codec.samples(np.ascontiguousarray(self._states))
        sound = sound[:, before * shape.hop : (end - kept_from) * shape.hop]
        self._states = self._states[:, :, max(0, end - shape.receptive_radius - kept_from) :]
        self._made, self._end = end, end + _FURTHER
        return sound

    def _state(self, until: int) -> None:
        """Bring the states up to a frame."""
        before, after = self._shape.padding(self._shape.kernel - 1)
        kept_from = self.frames - self._codes.shape[2]
        window = self._codes[:, :, : until + after - kept_from]
        states, self._memory = self._codec.states(window, self._stated - kept_from, until - kept_from, self._memory)
        self._states = np.concatenate([self._states, states], axis=2)
        self._codes = self._codes[:, :, max(0, until - before - kept_from) :]
        self._stated = until

    def _joined(self, chunks: list[FloatArray]) -> FloatArray:
        return np.concatenate([np.empty((self._channels, 0), np.float32), *chunks], axis=1)
