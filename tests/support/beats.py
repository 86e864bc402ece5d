"""Drum loops of a known tempo."""

from __future__ import annotations

from typing import Any

from musicgen_cli.audio.wav import pcm16_wav

RATE = 32_000


def beats(bpm: float, seconds: float, *, channels: int = 1) -> bytes:
    """Make a WAV of bass drum, snare and hi-hat in four-four time, whose first beat is at 0 s."""
    import numpy as np

    random = np.random.default_rng(1)
    frames = round(seconds * RATE)
    mix: Any = np.zeros(frames + RATE)
    time = np.arange(RATE // 4) / RATE
    kick = np.sin(2 * np.pi * (50 * time + 8 * np.exp(-30 * time))) * np.exp(-12 * time)
    snare = random.normal(size=len(time)) * np.exp(-20 * time) * 0.5
    hat = random.normal(size=len(time)) * np.exp(-90 * time) * 0.2
    step = 0
    while (start := round(step * 30 / bpm * RATE)) < frames:
        for sound, plays in ((kick, step % 4 == 0), (snare, step % 4 == 2), (hat, True)):
            if plays:
                mix[start : start + len(sound)] += sound
        step += 1
    samples = np.clip(mix[:frames] * 12_000, -32_768, 32_767).astype("<i2")
    return pcm16_wav(np.repeat(samples, channels).tobytes(), sample_rate=RATE, channels=channels)
