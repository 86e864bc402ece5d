"""
Prepares a decoder for 8 bits, by looking at what occurs in it while it makes music.

Three passes of `float_decoder.forward` are made over two short guided clips. No pass needs the model to run step by
step, so the codes of the first are random; those of the next are what the model samples where it sees the codes before.
After one such pass, the values that occur are as large as in clips that the model made by itself.

1. random codes;
2. codes sampled from that: how large the channels are, from which smoothing is chosen;
3. codes sampled from that, through the smoothed decoder: how large keys and values are, and which matrices need a scale
   for each block of weights.

The first clip of a melody model has no tune, the other one has all pitch classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray
from musicgen_cli.engine.decoding.prefix import chromatic_tune, pitch_vectors, prefixes
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance, probabilities, sample, uniforms
from musicgen_cli.engine.quantization.codes import INT8_MAX
from musicgen_cli.engine.quantization.float_decoder import Text, forward
from musicgen_cli.engine.quantization.observers import Errors, Matrix, Peaks
from musicgen_cli.engine.quantization.smoothing import SmoothedTensors
from musicgen_cli.errors import EngineError

PROMPTS = ("calm ambient piano", "energetic techno with heavy drums and a fast bass line")
FRAMES = 150  # 3 s at 50 frames a second

_MARGIN = 1.5  # of the scales of keys and values, for values larger than these clips show


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a decoder is quantized."""

    tensors: Tensors  # smoothed: to be read in place of the checkpoint's
    kv_scales: FloatArray  # of int8 keys and values, by channel, shape (layers, 2, heads, cached head width)
    in_blocks: frozenset[Matrix]  # the matrices that need a scale for each block of weights; see `observers.Errors`


def calibrate(shape: DecoderShape, tensors: Tensors, texts: Sequence[Text]) -> Calibration:
    """
    Find out how to quantize a decoder.

    Args:
        texts: Of PROMPTS, as the text encoder gives them.

    Raises:
        CheckpointError: A tensor is missing or can't be used.
        EngineError: The decoder's output isn't finite.
    """
    pattern = DelayPattern(shape.codebooks, shape.channels, FRAMES)
    rows, prefix = _conditions(shape, tensors, texts)
    words = np.random.Philox(key=0).random_raw((len(texts), shape.codebooks, pattern.steps))
    codes = (words % np.uint64(shape.vocab)).astype(np.int64)
    logits = forward(shape, tensors, _input_tokens(codes, pattern, shape.vocab), rows, prefix=prefix)
    peaks = Peaks()
    codes = _sampled(logits, pattern)
    logits = forward(shape, tensors, _input_tokens(codes, pattern, shape.vocab), rows, peaks, prefix=prefix)
    smoothed = SmoothedTensors(tensors, shape, peaks)
    errors = Errors(shape.activation)
    codes = _sampled(logits, pattern)
    forward(shape, smoothed, _input_tokens(codes, pattern, shape.vocab), rows, errors, prefix=prefix)
    return Calibration(smoothed, _kv_scales(shape, errors), errors.in_blocks())


def _conditions(
    shape: DecoderShape, tensors: Tensors, texts: Sequence[Text]
) -> tuple[list[Text | None], FloatArray | None]:
    """
    Return what the rows of the clips read beside codes, as `forward` takes it.

    All rows have prefixes of the same length, so shorter texts are filled up with zeros, as transformers fills them up.
    """
    if shape.has_cross_attention:
        return [row for text in texts for row in (text, None)], None
    states = [text["states"][0] for text in texts]
    longest = max(map(len, states))
    tunes = (None, chromatic_tune(shape.melody_frames))
    vectors = pitch_vectors(shape, tensors)
    filled = [np.pad(text, [(0, longest - len(text)), (0, 0)]) for text in states]
    rows = [prefixes(vectors, shape.melody_frames, text, tune) for text, tune in zip(filled, tunes, strict=True)]
    return [None] * (2 * len(texts)), np.concatenate(rows)


def _input_tokens(codes: IntArray, pattern: DelayPattern, start_token: int) -> IntArray:
    """
    Return what the decoder sees of clips: each code one step later, and the start token where there is none.

    Args:
        codes: Of each clip's steps, shape ``(clips, codebooks, steps)``.

    Returns:
        Each clip's tokens twice, for its conditional and its unconditional row: ``(2 * clips, codebooks, steps)``.
    """
    tokens = np.full_like(codes, start_token)
    for step in range(pattern.steps - 1):
        codebooks = pattern.codebooks_at(step)
        tokens[:, codebooks, step + 1] = codes[:, codebooks, step]
    return np.repeat(tokens, 2, axis=0)


def _sampled(logits: FloatArray, pattern: DelayPattern) -> IntArray:
    """
    Sample each step's codes from logits of guided clips.

    Args:
        logits: Of conditional and unconditional rows in turn, shape ``(2 * clips, codebooks, steps, vocabulary)``.

    Returns:
        Shape ``(clips, codebooks, steps)``.
    """
    if not np.isfinite(logits).all():
        raise EngineError("the model's output is NaN or infinite", hint="its weights may be damaged")
    clips = [logits[at : at + 2].transpose(2, 0, 1, 3) for at in range(0, len(logits), 2)]
    codes = np.empty((len(clips), pattern.codebooks, pattern.steps), np.int64)
    for number, steps in enumerate(clips):
        sampling = Sampling(1.0, 250, 1.0, 3.0, do_sample=True, seed=number)
        random = uniforms(number, pattern.steps, pattern.codebooks)
        for step, rows in enumerate(steps):
            guided = apply_guidance(rows, sampling.guidance_scale)
            codes[number, :, step] = sample(probabilities(guided, sampling), random[step])
    return codes


def _kv_scales(shape: DecoderShape, peaks: Peaks) -> FloatArray:
    parts = ("self_attn.k_proj", "self_attn.v_proj")
    largest = np.array([[peaks.outputs[i, part] for part in parts] for i in range(shape.layers)], np.float32)
    scales: FloatArray = np.where(largest > 0, largest * np.float32(_MARGIN / INT8_MAX), np.float32(1))
    padding = (0, shape.cached_head_width - shape.head_width)  # of channels that are always 0
    by_head = scales.reshape(shape.layers, 2, shape.heads, shape.head_width)
    return np.pad(by_head, [(0, 0), (0, 0), (0, 0), padding], constant_values=1)
