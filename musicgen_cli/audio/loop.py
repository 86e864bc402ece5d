"""Cross-fade the end of a clip into its start, so that it repeats without a seam."""

from __future__ import annotations

import math

from musicgen_cli.audio.wav import inspect, samples, to_wav

FADE_S = 1.0  # a quarter of the loop, where that is less
MIN_FADE_S = 0.01  # shorter ones may click


def make_loop(wav: bytes, frames: int | None = None) -> bytes:
    """
    Cross-fade the end into the start with equal power.

    The result begins with the cross-fade and ends where the part that fades out began, so that its last sample is
    followed by its first as it was in the clip. Where the sum of both parts exceeds full scale, it is clipped.

    Args:
        wav: A WAV that `inspect` accepts.
        frames: The length of the loop in frames, such as that of whole bars, at most that of the clip. What follows
            them fades out over the start. None: as long as the fade allows.

    Returns:
        A WAV of the same sample format, without metadata.

    Raises:
        InvalidWavError: It is not such a WAV.
    """
    info = inspect(wav)
    source = samples(wav, info)
    longest = round(FADE_S * info.sample_rate)
    if frames is None:
        fade = min(longest, info.frames // 4)
        frames = info.frames - fade
    else:
        fade = min(longest, frames // 4, info.frames - frames)
    body = frames * info.channels
    values = source.values[:body]
    for frame in range(fade):
        angle = (frame + 0.5) / fade * math.pi / 2
        rising, falling = math.sin(angle), math.cos(angle)
        for i in range(frame * info.channels, (frame + 1) * info.channels):
            mixed = source.values[body + i] * falling + source.values[i] * rising
            if source.step:  # integers
                mixed = int(round(mixed / source.step) * source.step)
                mixed = min(int(source.full_scale - source.step), max(int(-source.full_scale), mixed))
            values[i] = mixed
    return to_wav(values, info)
