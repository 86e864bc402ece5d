"""Sounds for tests: tones one after the other."""

from __future__ import annotations

from musicgen_cli.audio.wav import pcm16_wav


def tones(*pitches: int, seconds: float = 1.0, rate: int = 32_000, channels: int = 1) -> bytes:
    """
    Return a WAV of one tone after the other.

    Args:
        pitches: In semitones above C4.
        seconds: Of each.
    """
    import numpy as np

    time = np.arange(round(seconds * rate)) / rate
    samples = np.concatenate([np.sin(2 * np.pi * 261.63 * 2 ** (pitch / 12) * time) for pitch in pitches])
    pcm = np.rint(samples * 20_000).astype("<i2")
    return pcm16_wav(np.repeat(pcm, channels).tobytes(), sample_rate=rate, channels=channels)
