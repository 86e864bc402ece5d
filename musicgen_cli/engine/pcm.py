"""From the samples a model makes to the bytes of a WAV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_cli import wav
from musicgen_cli.errors import EngineError

_FULL_SCALE = 32_767  # not 32768, so that +1.0 and -1.0 stay symmetric


def to_wav(sound: NDArray[np.float32], *, sample_rate: int) -> tuple[bytes, tuple[str, ...]]:
    """
    Turn samples into a 16-bit WAV.

    Args:
        sound: Shape ``(channels, samples)``, nominally -1.0 to 1.0; what is beyond is clipped, not wrapped.
        sample_rate: In Hz.

    Returns:
        The WAV, and what its listener should know: how many samples were clipped, that it is silent.

    Raises:
        EngineError: A sample is not a finite number.
    """
    if not np.isfinite(sound).all():
        raise EngineError("the model's sound is not a number", hint="its weights may be damaged")
    warnings = []
    if loud := int((np.abs(sound) > 1).sum()):
        were = "sample was" if loud == 1 else "samples were"
        warnings.append(f"{loud} {were} louder than full scale and clipped")
    samples = np.rint(np.clip(sound, -1, 1) * _FULL_SCALE).astype("<i2")
    if not samples.any():
        warnings.append("the sound is silent")
    interleaved = np.ascontiguousarray(samples.T).tobytes()
    return wav.pcm16_wav(interleaved, sample_rate=sample_rate, channels=len(samples)), tuple(warnings)
