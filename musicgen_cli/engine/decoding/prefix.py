"""
What a melody model reads before the codes: a tune, then the text, one vector for each position.

The model has no cross-attention. The vectors take the place of embedded codes and the first positions; the codes follow
them. The unconditional row of guidance reads no tune and, for each token of the text, a vector of zeros.

Source: MusicgenMelodyForConditionalGeneration (transformers), `_prepare_encoder_hidden_states_kwargs_for_generation`.
"""

from __future__ import annotations

import numpy as np

from musicgen_cli import limits
from musicgen_cli.audio.chroma import RATE, melody_chroma, no_melody
from musicgen_cli.checkpoint.shape import PITCH_CLASSES, TRAINED_TOKENS, DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, TensorSource

_WINDOW_SAMPLES = round(limits.CONTEXT_S * RATE)
_FRAMES_PER_SECOND = 8  # of a tune, nearly


def pitch_vectors(shape: DecoderShape, tensors: TensorSource) -> FloatArray:
    """
    Return the vector of each pitch class, shape ``(PITCH_CLASSES, width)``.

    A frame of a tune is 1 for one class and 0 for the others, so its projection is one of these.

    Raises:
        CheckpointError: A tensor is missing or can't be used.
    """
    weight = tensors.read("audio_enc_to_dec_proj.weight", shape.width, PITCH_CLASSES)
    return weight.T + tensors.read("audio_enc_to_dec_proj.bias", shape.width)


def first_tokens(ids: list[int]) -> list[int]:
    """Return what is read of a text: all of its tokens, or TRAINED_TOKENS of them, with the one that ends it."""
    return ids if len(ids) <= TRAINED_TOKENS else [*ids[: TRAINED_TOKENS - 1], ids[-1]]


def prefixes(vectors: FloatArray, frames: int, text: FloatArray | None, tune: FloatArray | None) -> FloatArray:
    """
    Return the prefix of the conditional and of the unconditional row.

    Args:
        vectors: Of the pitch classes, shape ``(PITCH_CLASSES, width)``.
        frames: Of a tune.
        text: The projected states of the text's tokens, shape ``(tokens, width)``; None for no text, which is one token
            of zeros.
        tune: As `tune_of_window` returns it; None for no tune.

    Returns:
        Shape ``(2, frames + tokens, width)``.
    """
    silent = no_melody(frames)
    text = np.zeros((1, vectors.shape[1]), np.float32) if text is None else text
    return np.stack(
        [
            np.concatenate([vectors[(silent if tune is None else tune).argmax(axis=1)], text]),
            np.concatenate([vectors[silent.argmax(axis=1)], np.zeros_like(text)]),
        ]
    )


def chromatic_tune(frames: int) -> FloatArray:
    """Return a tune of all pitch classes in turn, one a second, as `tune_of_window` returns tunes."""
    classes = np.arange(frames) // _FRAMES_PER_SECOND % PITCH_CLASSES
    tune: FloatArray = np.eye(PITCH_CLASSES, dtype=np.float32)[classes]
    return tune


def tune_of_window(samples: FloatArray, start: int, frames: int, *, is_only: bool) -> FloatArray:
    """
    Return what a model reads of a tune in one window of a clip, shape ``(frames, PITCH_CLASSES)``.

    Args:
        samples: The whole tune, mono at `chroma.RATE`, shape ``(n,)``.
        start: The window's, in samples of that rate.
        frames: As many as the model reads.
        is_only: Whether the clip has no other window. A tune that ends before the window does is repeated by frames
            then, as the model was trained; otherwise by samples, so that it keeps its time over all windows.

    Source:
        `MusicGen._generate_tokens` of audiocraft; MusicgenMelodyFeatureExtractor, which reads 30 s at most.
    """
    if is_only:
        return melody_chroma(samples[:_WINDOW_SAMPLES], frames)
    return melody_chroma(samples[np.arange(start, start + _WINDOW_SAMPLES) % len(samples)], frames)
