"""Encodes samples into codes, chunk by chunk, so that the working memory doesn't grow with the sound."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray

_CHUNK = 64  # frames


class CodecEncoder(Protocol):
    """EnCodec's encoder in two parts: everything before its LSTM, and the rest with the quantizer."""

    def run_codec_encoder(self, samples: FloatArray) -> FloatArray:
        """Turn samples, shape ``(channels, n * hop)``, into features, shape ``(channels, filters, n)``."""

    def run_codec_quantizer(self, features: FloatArray) -> IntArray:
        """Turn the features of a whole sound into codes, shape ``(channels, codebooks, n)``."""


class SoundEncoder(Protocol):
    """What an engine encodes sounds with; safe to call from many threads at once."""

    @property
    def is_available(self) -> bool:
        """Whether the model has an audio encoder."""

    def encode(self, samples: FloatArray) -> IntArray:
        """Encode a sound, as `encode_sound` does."""


def encode_sound(encoder: CodecEncoder, shape: CodecShape, samples: FloatArray) -> IntArray:
    """
    Encode a sound.

    Args:
        samples: Shape ``(channels, frames * hop)``, nominally -1.0 to 1.0.

    Returns:
        Codes, shape ``(codebooks, frames)``; a stereo model's codebooks alternate between left and right.
    """
    frames, radius = samples.shape[1] // shape.hop, shape.encoder_radius
    chunks = []
    for start in range(0, frames, _CHUNK):
        end = min(start + _CHUNK, frames)
        first, last = max(0, start - radius), min(end + radius, frames)
        part = np.ascontiguousarray(samples[:, first * shape.hop : last * shape.hop])
        chunks.append(encoder.run_codec_encoder(part)[:, :, start - first : end - first])
    by_channel = encoder.run_codec_quantizer(np.concatenate(chunks, axis=2))
    return by_channel.swapaxes(0, 1).reshape(-1, frames)
