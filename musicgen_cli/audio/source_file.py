"""
Tells whether a sound can be what a take is made from, with the standard library alone.

So a sound is refused before a model is loaded, a request is sent or anything is stored. `source` reads the sound then.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from musicgen_cli import limits
from musicgen_cli.audio.wav import WavInfo, inspect, samples
from musicgen_cli.errors import InvalidValueError, InvalidWavError, system_reason
from musicgen_cli.text import number, size

SILENCE = 1e-4  # of full scale, -80 dB: a peak below it is taken for silence

_WINDOW_S = 0.1  # the unit in which silence at the end is measured


def read_source_file(path: Path) -> bytes:
    """
    Return the bytes of a sound file, if there aren't too many.

    Raises:
        InvalidValueError: It isn't a file, can't be read, or is too large.
    """
    name = repr(str(path))
    try:
        if not path.is_file():  # reading a pipe could block forever
            raise InvalidValueError(f"{name} is not a file" if path.exists() else f"there is no file {name}")
        with path.open("rb") as file:
            data = file.read(limits.SOURCE_BYTES + 1)
    except OSError as err:
        raise InvalidValueError(f"{name} can't be read: {system_reason(err)}") from err
    if len(data) > limits.SOURCE_BYTES:
        raise InvalidValueError(f"{name} has more than {size(limits.SOURCE_BYTES)}, which is too much for a sound")
    return data


def check_sound(wav: bytes, name: str, longest_s: float = limits.SOURCE_MOST_S) -> float:
    """
    Check a WAV that a take is to be made from.

    Args:
        name: What messages call it.
        longest_s: The most seconds that it may have.

    Returns:
        How many seconds at its end are silent.

    Raises:
        InvalidValueError: It isn't a WAV, is silent, or is too short, too long, or otherwise out of bounds.
    """
    try:
        info = inspect(wav)
    except InvalidWavError as err:
        raise InvalidValueError(f"{name} can't be used: {err}") from err
    check_bounds(info, name, longest_s)
    silent_frames = _silent_frames(wav, info)
    if silent_frames == info.frames:
        raise InvalidValueError(f"{name} is silent")
    return silent_frames / info.sample_rate


def check_bounds(info: WavInfo, name: str, longest_s: float = limits.SOURCE_MOST_S) -> None:
    """
    Check the length, the rate and the channels of a sound.

    Args:
        name: What messages call it.
        longest_s: The most seconds that it may have.

    Raises:
        InvalidValueError: One is out of bounds.
    """
    if info.channels > limits.SOURCE_MOST_CHANNELS:
        raise InvalidValueError(
            f"{name} has {info.channels} channels, at most {limits.SOURCE_MOST_CHANNELS} can be used"
        )
    if not limits.SOURCE_LEAST_RATE <= info.sample_rate <= limits.SOURCE_MOST_RATE:
        raise InvalidValueError(
            f"{name} has {info.sample_rate} Hz, {limits.SOURCE_LEAST_RATE}-{limits.SOURCE_MOST_RATE} Hz can be used"
        )
    seconds = info.frames / info.sample_rate
    if not limits.SOURCE_LEAST_S <= seconds <= longest_s:
        raise InvalidValueError(
            f"{name} has {number(round(seconds, 3))} s, "
            f"{number(limits.SOURCE_LEAST_S)}-{number(longest_s)} s can be used"
        )


def check_context(silent_s: float, duration: float, overlap: float) -> None:
    """
    Check that the model will hear something of the sound that it is to go on from.

    Args:
        silent_s: Seconds at the end of the sound that are silent.
        duration: Of the new sound, in seconds.
        overlap: Of windows, in seconds.

    Raises:
        InvalidValueError: The part that the model reads is silent.
    """
    read_s = context_s(duration, overlap)
    if silent_s >= read_s:
        raise InvalidValueError(
            f"the last {number(round(read_s, 1))} s of the sound are silent: there is nothing to go on from"
        )


def context_s(duration: float, overlap: float) -> float:
    """Return how many seconds at the end of a sound a model reads: `engine/decoding/windows.py: context_of`."""
    return max(overlap, limits.CONTEXT_S - duration)


def check_longest(seconds: float) -> None:
    """
    Check that a sound that was sent in part, or is made again, isn't too long as a whole.

    Raises:
        InvalidValueError: It is.
    """
    if seconds > limits.SOURCE_MOST_S:
        raise InvalidValueError(
            f"the sound has {number(round(seconds, 3))} s, at most {number(limits.SOURCE_MOST_S)} s can be used"
        )


def _silent_frames(wav: bytes, info: WavInfo) -> int:
    """Return how many frames at the end of a sound are silent, in windows, of which one at a time is converted."""
    size, width = max(1, round(_WINDOW_S * info.sample_rate)), info.channels * info.bits // 8
    for end in range(info.frames, 0, -size):
        start = max(0, end - size)
        window = samples(wav, replace(info, frames=end - start, data_start=info.data_start + start * width))
        if max(max(window.values), -min(window.values)) >= SILENCE * window.full_scale:
            return info.frames - end
    return info.frames
