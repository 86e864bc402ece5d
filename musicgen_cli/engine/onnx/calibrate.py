"""
Calibrates the scales of the int8 KV cache.

The bound that follows from the weights is many times what occurs in practice, so a scale derived from it is too coarse.
So a few clips are decoded with those coarse scales, to measure how large keys and values get. The clips are sampled
with usual parameters, because tokens that a model wouldn't choose lead to values that don't occur.
"""

from __future__ import annotations

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.scheduler import Conditioning, Decoder
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.quantize import INT8_MAX

PROMPTS = ("calm ambient piano", "energetic techno with heavy drums and a fast bass line")
FRAMES = 150

_MARGIN = 1.5  # for values larger than these clips show


def decode_prompts(
    decoder: Decoder[Conditioning], conditionings: list[Conditioning], pattern: DelayPattern, *, vocab: int
) -> None:
    """Decode one guided sequence for each prompt, as one batch, in the first rows of a decoder."""
    samplings = [Sampling(1.0, 250, 1.0, 3.0, do_sample=True, seed=i) for i in range(len(conditionings))]
    sequences = [Sequence(pattern, sampling, vocab=vocab) for sampling in samplings]
    for i, conditioning in enumerate(conditionings):
        decoder.set_conditioning(2 * i, conditioning)
        decoder.set_conditioning(2 * i + 1, None)
    for position in range(pattern.steps):
        tokens = np.concatenate([sequence.tokens for sequence in sequences])
        logits = decoder(tokens, np.full(len(tokens), position))
        for i, sequence in enumerate(sequences):
            sequence.advance(logits[2 * i : 2 * i + 2])


def coarse_scales(kv_bounds: FloatArray) -> FloatArray:
    """Return scales with which no value is ever clipped."""
    return kv_bounds / np.float32(INT8_MAX)


def calibrated_scales(kv_bounds: FloatArray, peaks: FloatArray) -> FloatArray:
    """
    Return scales for the magnitudes that occurred with the coarse scales, times a margin of 1.5.

    Args:
        kv_bounds: Upper bounds of the magnitudes of keys and values.
        peaks: The largest magnitude of each channel, in steps of the coarse scales; shaped as the bounds.
    """
    coarse = coarse_scales(kv_bounds)
    largest = (peaks + np.float32(0.5)) * coarse
    scales: FloatArray = np.minimum(coarse, largest * np.float32(_MARGIN / INT8_MAX))
    return scales
