"""Cross-fade the end of a clip into its start, so that it repeats without a seam."""

from __future__ import annotations

import math

from musicgen_cli.audio.wav import inspect, samples, to_wav

FADE_S = 1.0  # a quarter of the clip, where that is less


def make_loop(wav: bytes) -> bytes:
    """
    Cross-fade the end into the start with equal power; the result is shorter by the length of the fade.

    The result begins with the cross-fade and ends where the part that fades out began, so that its last sample is
    followed by its first as it was in the clip. Where both parts are loud and alike, their sum is clipped.

    Args:
        wav: A WAV that `inspect` accepts.

    Returns:
        A WAV of the same sample format, without metadata.

    Raises:
        InvalidWavError: It is not such a WAV.
    """
    info = inspect(wav)
    source = samples(wav, info)
    fade = min(round(FADE_S * info.sample_rate), info.frames // 4)
    body = (info.frames - fade) * info.channels
    values = source.values[:body]
    for frame in range(fade):
        angle = (frame + 0.5) / fade * math.pi / 2
        rising, falling = math.sin(angle), math.cos(angle)
        for at in range(frame * info.channels, (frame + 1) * info.channels):
            mixed = source.values[body + at] * falling + source.values[at] * rising
            if source.step:  # integers
                mixed = int(round(mixed / source.step) * source.step)
                mixed = min(int(source.full_scale - source.step), max(int(-source.full_scale), mixed))
            values[at] = mixed
    return to_wav(values, info)
