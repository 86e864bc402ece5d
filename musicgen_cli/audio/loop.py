"""Fade the end of a sound into its start, so that it repeats without a seam."""

from __future__ import annotations

import math

from musicgen_cli.audio.wav import inspect, rewrapped, samples

FADE_S = 1.0  # of a short sound a quarter


def make_loop(wav: bytes) -> bytes:
    """
    Cross-fade the end into the start with equal power; the result is shorter by the fade.

    It begins with the fade, and ends just before what fades out there: played again and again it goes on as it was
    made. Where both are loud and alike their sum is clipped.

    Args:
        wav: A WAV that can be kept.

    Returns:
        A WAV of the same form, with nothing but samples in it.

    Raises:
        InvalidWavError: It is no such WAV.
    """
    info = inspect(wav)
    found = samples(wav, info)
    fade = min(round(FADE_S * info.sample_rate), info.frames // 4)
    body = (info.frames - fade) * info.channels
    values = found.values[:body]
    for frame in range(fade):
        angle = (frame + 0.5) / fade * math.pi / 2
        rising, falling = math.sin(angle), math.cos(angle)
        for at in range(frame * info.channels, (frame + 1) * info.channels):
            mixed = found.values[body + at] * falling + found.values[at] * rising
            if found.step:  # whole numbers
                mixed = int(round(mixed / found.step) * found.step)
                mixed = min(int(found.full_scale - found.step), max(int(-found.full_scale), mixed))
            values[at] = mixed
    return rewrapped(values, info)
