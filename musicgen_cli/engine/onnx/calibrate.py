"""
Finds out how large the keys and values of a model get, so that 8 bits can hold them well.

What its weights allow is many times what comes up, and so many times too coarse. A few takes made with that coarse
scale show what does come up. They are takes as a user's are, for tokens that a model wouldn't choose tell nothing.
"""

from __future__ import annotations

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.scheduler import Conditioning, Decoder
from musicgen_cli.engine.decoding.sequence import Sequence

PROMPTS = ("calm ambient piano", "energetic techno with heavy drums and a fast bass line")
FRAMES = 150

_STEPS = 127  # of a value in 8 bits, to each side of zero
_ROOM = 1.5  # for what these takes didn't show


def wander(decoder: Decoder[Conditioning], texts: list[Conditioning], pattern: DelayPattern, *, vocab: int) -> None:
    """Make one guided take of each text with the first rows of a decoder, all at once."""
    samplings = [Sampling(1.0, 250, 1.0, 3.0, do_sample=True, seed=i) for i in range(len(texts))]
    takes = [Sequence(pattern, sampling, vocab=vocab) for sampling in samplings]
    for i, text in enumerate(texts):
        decoder.set_conditioning(2 * i, text)
        decoder.set_conditioning(2 * i + 1, None)
    for position in range(pattern.steps):
        tokens = np.concatenate([take.tokens for take in takes])
        logits = decoder(tokens, np.full(len(tokens), position))
        for i, take in enumerate(takes):
            take.advance(logits[2 * i : 2 * i + 2])


def coarse(kv_bounds: FloatArray) -> FloatArray:
    """Return scales with which nothing is ever cut off."""
    return kv_bounds / np.float32(_STEPS)


def fine(kv_bounds: FloatArray, peaks: FloatArray) -> FloatArray:
    """Return scales for what came up with the coarse ones, in steps of theirs, and a half as much again."""
    scale = coarse(kv_bounds)
    largest = (peaks + np.float32(0.5)) * scale
    found: FloatArray = np.minimum(scale, largest * np.float32(_ROOM / _STEPS))
    return found
