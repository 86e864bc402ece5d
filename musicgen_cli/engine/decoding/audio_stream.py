"""
Decodes codes into samples chunk by chunk, while more codes are still being generated.

A chunk is decoded as soon as the frames that it depends on are there. Its bounds and its context follow from frame
numbers alone, so the samples are the same to the bit however many codes arrive at a time. Only the context of the
next chunk is kept, so memory doesn't grow with the clip.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape, Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray

_FIRST_CHUNK = 25  # frames, 0.5 s with a published model: short, so that playback can start soon
_CHUNK = 32  # frames of every other chunk: little memory, and mostly in the processor's caches


class Codec(Protocol):
    """EnCodec's decoder in two parts: up to and including its LSTM, and everything after it."""

    def run_codec_lstm(
        self, codes: IntArray, start: int, end: int, lstm_state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """
        Continue through the LSTM.

        Args:
            codes: Shape ``(channels, codebooks, n)``: frames, and around them the context of the first convolution.
            start: The index in `codes` of the first frame that goes into the LSTM.
            end: The index after the last one.
            lstm_state: Hidden and cell state of each layer, shape ``(2 * layers, channels, filters)``; zeros at first.

        Returns:
            Features, shape ``(channels, filters, end - start)``, and the LSTM state after them.
        """

    def run_codec_decoder(self, features: FloatArray) -> FloatArray:
        """Decode features, shape ``(channels, filters, n)``, into samples, shape ``(channels, n * hop)``."""


class AudioStream:
    """Decodes the codes of one clip into samples as they arrive."""

    def __init__(self, codec: Codec, shape: CodecShape, *, codebooks: int, channels: int) -> None:
        """
        Start without frames.

        Args:
            codebooks: Of all channels together.
        """
        self.frames = 0  # pushed so far
        self._codec, self._shape, self._channels = codec, shape, channels
        # A convolution with reflection padding needs enough frames to reflect.
        self._chunk_end = max(_FIRST_CHUNK, shape.kernel)  # the frame after the next chunk
        self._decoded = 0  # frames that became samples
        self._codes = np.empty((channels, codebooks // channels, 0), np.int64)  # of the latest frames
        self._features = np.empty((channels, shape.top_filters, 0), np.float32)  # of the latest frames
        self._lstm_frames = 0  # frames that became features
        self._lstm_state = np.zeros((2 * shape.lstm_layers, channels, shape.top_filters), np.float32)

    @classmethod
    def of(cls, codec: Codec, shape: Shape) -> AudioStream:
        """Return a stream for one clip of a model."""
        return cls(codec, shape.codec, codebooks=shape.decoder.codebooks, channels=shape.decoder.channels)

    def push(self, codes: IntArray) -> FloatArray:
        """
        Add the codes of the next frames.

        Args:
            codes: Shape ``(codebooks, n)``; a stereo model's codebooks alternate between left and right.

        Returns:
            The samples that can be decoded now, shape ``(channels, samples)``; often there are none.
        """
        by_channel = codes.reshape(self._codes.shape[1], self._channels, codes.shape[1]).swapaxes(0, 1)
        self._codes = np.concatenate([self._codes, by_channel], axis=2)
        self.frames += codes.shape[1]
        _, lookahead = self._shape.padding(self._shape.kernel - 1)
        chunks = []
        while self._chunk_end + self._shape.receptive_radius + lookahead <= self.frames:
            chunks.append(self._decode_chunk(self._chunk_end))
        return self._join(chunks)

    def end(self) -> FloatArray:
        """Return the remaining samples, after the last codes."""
        chunks = []
        while self._decoded < self.frames:
            chunks.append(self._decode_chunk(min(self._chunk_end, self.frames)))
        return self._join(chunks)

    def _decode_chunk(self, end: int) -> FloatArray:
        """Decode the frames up to `end`, with `receptive_radius` frames of context on each side."""
        shape = self._shape
        if (context_end := min(end + shape.receptive_radius, self.frames)) > self._lstm_frames:
            self._run_lstm(context_end)
        context_start = self._lstm_frames - self._features.shape[2]
        samples = self._codec.run_codec_decoder(np.ascontiguousarray(self._features))
        samples = samples[:, (self._decoded - context_start) * shape.hop : (end - context_start) * shape.hop]
        self._features = self._features[:, :, max(0, end - shape.receptive_radius - context_start) :]
        self._decoded, self._chunk_end = end, end + _CHUNK
        return samples

    def _run_lstm(self, end: int) -> None:
        """Compute the features of the frames up to `end`."""
        before, after = self._shape.padding(self._shape.kernel - 1)
        first = self.frames - self._codes.shape[2]
        window = self._codes[:, :, : end + after - first]
        features, self._lstm_state = self._codec.run_codec_lstm(
            window, self._lstm_frames - first, end - first, self._lstm_state
        )
        self._features = np.concatenate([self._features, features], axis=2)
        self._codes = self._codes[:, :, max(0, end - before - first) :]
        self._lstm_frames = end

    def _join(self, chunks: list[FloatArray]) -> FloatArray:
        return np.concatenate([np.empty((self._channels, 0), np.float32), *chunks], axis=1)
