"""Tells whether a checkpoint can encode sound."""

from __future__ import annotations

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.errors import NoAudioEncoderError

_FIRST_LAYER = "audio_encoder.encoder.layers.0.conv"
_NORMS = (f"{_FIRST_LAYER}.parametrizations.weight.original0", f"{_FIRST_LAYER}.weight_g")


def has_audio_encoder(checkpoint: Checkpoint) -> bool:
    """
    Tell whether a checkpoint, one whose weights were kept, has an audio encoder that isn't zero.

    transformers writes no file without one. So nano, whose codec was made without an encoder, has one of zeros.

    Raises:
        CheckpointError, ModelAbsentError: Its weights can't be read.
    """
    tensors = checkpoint.tensors()
    return any(tensors.read(name, *tensors.shapes[name]).any() for name in _NORMS if name in tensors)


def refusal(checkpoint: Checkpoint, reason: str) -> NoAudioEncoderError:
    """Return the error that a model without an audio encoder can't go on from a sound, for a reason about the sound."""
    return NoAudioEncoderError(
        f"{checkpoint.name} has no audio encoder, so it can only go on from takes that it made itself: {reason}",
        hint="a model with an audio encoder can go on from any sound: `--model small`, for one",
    )
