"""Joins a sound and its continuation without a click."""

from __future__ import annotations

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray

FADE_S = 0.01  # long enough to hide a step, and too short to be heard as a fade


class Seam:
    """
    Passes on the samples of a continuation, whose decoder makes its context once more.

    The codec's context isn't the sound itself, which therefore is kept; only its last 10 ms are cross-faded.
    """

    def __init__(self, end: FloatArray, context: int) -> None:
        """
        Start before the context.

        Args:
            end: The last samples of the sound, shape ``(channels, n)``, which the cross-fade replaces.
            context: The samples, of one channel, that the decoder makes before the continuation; at least n.
        """
        self._end = end
        self._skip = context - end.shape[1]
        # With equal gain: both are nearly the same sound. Equal power would make it louder.
        self._gain = np.sin(np.linspace(0, np.pi / 2, end.shape[1] + 2, dtype=np.float32)[1:-1]) ** 2

    def join(self, samples: FloatArray) -> FloatArray:
        """
        Take the next samples of the decoder, and return those that follow the kept part of the sound.

        Args:
            samples: Shape ``(channels, n)``.
        """
        skipped = min(self._skip, samples.shape[1])
        self._skip -= skipped
        samples = samples[:, skipped:]
        count = min(self._end.shape[1], samples.shape[1])
        if not count:
            return samples
        gain, self._gain = self._gain[:count], self._gain[count:]
        end, self._end = self._end[:, :count], self._end[:, count:]
        return np.concatenate([end + (samples[:, :count] - end) * gain, samples[:, count:]], axis=1)
