"""Collects a model's samples into a 16-bit WAV."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.audio import wav
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.errors import EngineError

_FULL_SCALE = 32_767  # not 32768, so that +1.0 and -1.0 stay symmetric


class Recording:
    """The 16-bit samples of one clip, added chunk by chunk."""

    def __init__(self, samples: int, *, sample_rate: int, channels: int) -> None:
        """
        Start without samples.

        Args:
            samples: The length of the clip, per channel; further samples are dropped.
            sample_rate: In Hz.
        """
        self._remaining, self._rate, self._channels = samples, sample_rate, channels
        self._file = io.BytesIO()  # unlike a bytearray, it becomes bytes without a copy
        self._size = 0  # of the samples, in bytes
        self._write_header()
        self._clipped = 0
        self._silent = True

    def add(self, audio: FloatArray) -> bytes:
        """
        Add the next samples.

        Args:
            audio: Shape ``(channels, samples)``, nominally -1.0 to 1.0; values outside are clipped, not wrapped.

        Returns:
            The bytes that they add to the WAV: little-endian, channels interleaved.

        Raises:
            EngineError: A sample is NaN or infinite.
        """
        audio = audio[:, : self._remaining]
        self._remaining -= audio.shape[1]
        if not np.isfinite(audio).all():
            raise EngineError("the model's audio has NaN or infinite samples", hint="its weights may be damaged")
        self._clipped += int((np.abs(audio) > 1).sum())
        samples = np.rint(np.clip(audio, -1, 1) * _FULL_SCALE).astype("<i2")
        self._silent = self._silent and not samples.any()
        return self._append(samples.T.tobytes())

    def keep(self, pcm: NDArray[np.int16]) -> bytes:
        """
        Add samples as they are.

        Args:
            pcm: Shape ``(channels, samples)``.

        Returns:
            The bytes that they add to the WAV.
        """
        self._remaining -= pcm.shape[1]
        self._silent = self._silent and not pcm.any()
        return self._append(pcm.astype("<i2").T.tobytes())

    @staticmethod
    def as_floats(pcm: NDArray[np.int16]) -> FloatArray:
        """Return the samples that `add` would write as these."""
        return pcm.astype(np.float32) / np.float32(_FULL_SCALE)

    def wav(self) -> tuple[bytes, tuple[str, ...]]:
        """Return the WAV, and a warning each for clipped samples and for silence."""
        warnings = []
        if self._clipped:
            were = "sample was" if self._clipped == 1 else "samples were"
            warnings.append(f"{self._clipped} {were} louder than full scale and clipped")
        if self._silent:
            warnings.append("the sound is silent")
        self._write_header()
        return self._file.getvalue(), tuple(warnings)

    def _append(self, pcm: bytes) -> bytes:
        self._size += self._file.write(pcm)
        return pcm

    def _write_header(self) -> None:
        self._file.seek(0)
        self._file.write(wav.pcm16_header(self._size, sample_rate=self._rate, channels=self._channels))
