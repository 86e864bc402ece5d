"""From the samples a model makes to the bytes of a WAV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.audio import wav
from musicgen_cli.errors import EngineError

_FULL_SCALE = 32_767  # not 32768, so that +1.0 and -1.0 stay symmetric


class Recording:
    """A clip's 16-bit samples, chunk by chunk."""

    def __init__(self, samples: int, *, sample_rate: int, channels: int) -> None:
        """
        Begin.

        Args:
            samples: Of one channel; what comes beyond them is left out.
            sample_rate: In Hz.
        """
        self._left = samples
        self._rate, self._channels = sample_rate, channels
        self._chunks: list[bytes] = []
        self._loud = 0
        self._silent = True

    def add(self, sound: NDArray[np.float32]) -> bytes:
        """
        Take the next samples.

        Args:
            sound: Shape ``(channels, samples)``, nominally -1.0 to 1.0; what is beyond is clipped, not wrapped.

        Returns:
            What they add to the WAV's samples: little-endian, channels interleaved.

        Raises:
            EngineError: A sample is not a finite number.
        """
        sound = sound[:, : self._left]
        self._left -= sound.shape[1]
        if not np.isfinite(sound).all():
            raise EngineError("the model's sound is not a number", hint="its weights may be damaged")
        self._loud += int((np.abs(sound) > 1).sum())
        samples = np.rint(np.clip(sound, -1, 1) * _FULL_SCALE).astype("<i2")
        self._silent = self._silent and not samples.any()
        self._chunks.append(samples.T.tobytes())
        return self._chunks[-1]

    def wav(self) -> tuple[bytes, tuple[str, ...]]:
        """Return the WAV, and what its listener should know: how many samples were clipped, that it is silent."""
        warnings = []
        if self._loud:
            were = "sample was" if self._loud == 1 else "samples were"
            warnings.append(f"{self._loud} {were} louder than full scale and clipped")
        if self._silent:
            warnings.append("the sound is silent")
        content = wav.pcm16_wav(b"".join(self._chunks), sample_rate=self._rate, channels=self._channels)
        return content, tuple(warnings)
