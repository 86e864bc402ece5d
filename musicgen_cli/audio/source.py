"""
Reads a sound that a take is made from, as samples at a model's rate. Needs numpy and soxr, of the extra `local`.

A file can be anything, so what it may cost is bounded before its samples are touched, and they are converted block by
block. Every refusal is one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgen_cli import limits
from musicgen_cli.audio.decode import decode, kind_of
from musicgen_cli.audio.wav import WavInfo, inspect, rebuilt
from musicgen_cli.errors import InvalidValueError, InvalidWavError, system_reason
from musicgen_cli.extras import needs
from musicgen_cli.text import number, size

SILENCE = 1e-4  # of full scale, -80 dB: a peak below it is taken for silence

_PCM16_SCALE = 32_767  # as a take's samples are written: +1.0 and -1.0 stay symmetric
_BLOCK_FRAMES = 1 << 18

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """A sound at a model's rate and with its channels."""

    samples: FloatArray  # (channels, n), -1.0 to 1.0
    pcm: NDArray[np.int16]  # the same as a take keeps it; the file's own samples where they are 16-bit at this rate

    @property
    def frames(self) -> int:
        """The number of samples of one channel."""
        return int(self.samples.shape[1])


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


def read_source(data: bytes, *, rate: int, channels: int, name: str = "the sound") -> Source:
    """
    Turn a WAV, FLAC, Ogg or MP3 into samples.

    Sounds at other rates are resampled. A mono model gets the mean of all channels; a stereo one gets a mono sound, and
    the mean of more than two channels, on both sides.

    Args:
        data: The file; at most `limits.SOURCE_BYTES`.
        rate: Of the model, in Hz.
        channels: Of the model, 1 or 2.
        name: What messages call it.

    Raises:
        InvalidValueError: It isn't a sound, is silent, or is too short, too long, or otherwise out of bounds.
        MissingExtraError: Nothing here can decode or resample it.
    """
    try:
        wav, info = _as_wav(data)
        _check_bounds(info, name)
        parts = list(_resampled(_blocks(wav, info, channels), info.sample_rate, rate, channels))
    except InvalidWavError as err:
        raise InvalidValueError(f"{name} can't be used: {err}") from err
    samples = np.concatenate(parts, axis=1)
    if np.abs(samples).max(initial=0) < SILENCE:
        raise InvalidValueError(f"{name} is silent")
    if (info.sample_rate, info.channels, info.bits) == (rate, channels, 16):
        pcm = np.frombuffer(wav, "<i2", info.frames * channels, info.data_start).reshape(-1, channels).T
        return Source(samples, pcm.astype(np.int16))
    return Source(samples, np.rint(samples * _PCM16_SCALE).astype(np.int16))


def check_source(data: bytes, *, name: str, longest_s: float = limits.SOURCE_MOST_S) -> None:
    """
    Check that a WAV can be a source, block by block, without converting it.

    Args:
        data: The file. Other kinds of files are refused, and so is a header that lies about its file.
        name: What messages call it.
        longest_s: The most seconds that it may have.

    Raises:
        InvalidValueError: It isn't such a WAV, is silent, too short, too long, or otherwise out of bounds.
    """
    try:
        info = inspect(data, finite=False)
        _check_bounds(info, name, longest_s)
        loudest = max(float(np.abs(block).max()) for block in _blocks(data, info, info.channels))
    except InvalidWavError as err:
        raise InvalidValueError(f"{name} can't be used: {err}") from err
    if loudest < SILENCE:
        raise InvalidValueError(f"{name} is silent")


def _as_wav(data: bytes) -> tuple[bytes, WavInfo]:
    """Return a WAV whose header is right; its samples aren't looked at."""
    if kind := kind_of(data):
        data, _ = decode(data, kind, longest_s=limits.SOURCE_MOST_S)
    try:
        return data, inspect(data, finite=False)
    except InvalidWavError:
        data = rebuilt(data)
        return data, inspect(data, finite=False)


def _check_bounds(info: WavInfo, name: str, longest_s: float = limits.SOURCE_MOST_S) -> None:
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


def _blocks(wav: bytes, info: WavInfo, channels: int) -> Iterator[FloatArray]:
    """Yield all samples with the right number of channels, shape ``(frames, channels)``."""
    width = info.channels * info.bits // 8
    for first in range(0, info.frames, _BLOCK_FRAMES):
        count = min(_BLOCK_FRAMES, info.frames - first)
        values = _floats(memoryview(wav)[info.data_start + first * width :][: count * width], info)
        if not np.isfinite(values).all():
            raise InvalidWavError("it has samples that are NaN or infinite")
        block = np.clip(values, -1, 1).reshape(count, info.channels)
        if info.channels != channels:
            block = np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)
        yield block


def _floats(raw: memoryview, info: WavInfo) -> FloatArray:
    """Return samples as float32; 1.0 is full scale."""
    if info.is_float:
        return np.frombuffer(raw, f"<f{info.bits // 8}").astype(np.float32)
    if info.bits == 8:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if info.bits == 24:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    return np.frombuffer(raw, f"<i{info.bits // 8}").astype(np.float32) / np.float32(1 << (info.bits - 1))


def _resampled(blocks: Iterator[FloatArray], source_rate: int, rate: int, channels: int) -> Iterator[FloatArray]:
    """Yield samples at another rate, shape ``(channels, n)``."""
    if source_rate == rate:
        yield from (block.T for block in blocks)
        return
    with needs("local"):
        import soxr
    stream = soxr.ResampleStream(source_rate, rate, channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield np.clip(stream.resample_chunk(np.ascontiguousarray(block)), -1, 1).T
    yield np.clip(stream.resample_chunk(np.empty((0, channels), np.float32), last=True), -1, 1).T
