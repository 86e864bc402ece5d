"""
Write WAV files, and read them strictly: header, samples and metadata.

Each chunk's size is checked against the bytes that are there. The standard library's `wave` accepts half a file as
whole and refuses float samples, and libsndfile silently shortens a damaged file.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from musicgen_cli.errors import InvalidWavError

MIME = "audio/wav"

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# The last 14 bytes of each WAVE_FORMAT_EXTENSIBLE sub-format GUID that stands for a plain format tag (mmreg.h).
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_UNKNOWN = 0xFFFFFFFF  # the size that programs write if they don't know it, as in a pipe
_LEAST_UNKNOWN = 0x7FFF0000  # sox writes 0x7ffff000, arecord 0x80000000
_NO_WAV = "not a WAV: no RIFF/WAVE header"
_NO_FORMAT = "the WAV's data chunk comes before its fmt chunk"
# A file of zeros is made of millions of empty chunks. WAVs have about ten, and those of broadcasters some more.
_MOST_CHUNKS = 10_000
_MOST_TEXTS = 100  # of a list of metadata
_TEXT_BYTES = 2 << 20
_FORMAT_BYTES = 64  # of a fmt chunk, which are read; it has 40 at most
FLIP_SIGN = bytes(byte ^ 0x80 for byte in range(256))  # between two's complement and unsigned bytes with zero at 128


@dataclass(frozen=True, slots=True)
class WavInfo:
    """The sample format and length of a WAV, checked against its bytes."""

    sample_rate: int  # Hz
    channels: int
    frames: int  # samples of one channel
    bits: int  # of one sample
    is_float: bool
    data_start: int  # offset of the first sample in the file

    @property
    def duration(self) -> float:
        """Length in seconds, rounded to milliseconds."""
        return round(self.frames / self.sample_rate, 3)

    @property
    def data_bytes(self) -> int:
        """Size of all samples in bytes."""
        return self.frames * self.channels * self.bits // 8


@dataclass(frozen=True, slots=True)
class Samples:
    """A WAV's samples as numbers, channels interleaved."""

    values: array[Any]  # integers or floats; 8 and 24 bits are widened to 16 and 32
    full_scale: float  # the value that stands for 1.0
    step: float  # distance between neighbouring values; 0 for float


def pcm16_wav(samples: bytes, *, sample_rate: int, channels: int) -> bytes:
    """
    Make a WAV of 16-bit PCM samples: a 44-byte header, then the samples.

    Args:
        samples: Little-endian signed 16-bit samples, channels interleaved.
        sample_rate: In Hz.
        channels: 1 or 2.
    """
    return _wav(samples, _PCM, sample_rate, channels, 16)


def pcm16_header(size: int, *, sample_rate: int, channels: int) -> bytes:
    """Make the header of a WAV that `pcm16_wav` would make of `size` bytes, an even number."""
    return _header(size, _PCM, sample_rate, channels, 16)


def streaming_header(*, sample_rate: int, channels: int) -> bytes:
    """Make the header of a 16-bit PCM stream of unknown length: its sizes are the largest possible ones."""
    header = bytearray(pcm16_header(0, sample_rate=sample_rate, channels=channels))
    header[4:8] = header[40:44] = b"\xff" * 4
    return bytes(header)


def inspect(wav: bytes, *, finite: bool = True) -> WavInfo:
    """
    Read the header of a WAV and check it against the file's bytes.

    Args:
        finite: Also look for float samples that are NaN or infinite, which reads all of them.

    Raises:
        InvalidWavError: Not RIFF/WAVE, sizes in the header that don't match the file, no samples, NaN or infinite
            samples, or neither PCM (8, 16, 24, 32 bits) nor IEEE float (32, 64 bits).
    """
    if len(wav) < 12 or wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise InvalidWavError(_NO_WAV)
    (riff_size,) = struct.unpack_from("<I", wav, 4)
    if riff_size + 8 != len(wav):
        raise InvalidWavError(f"the WAV's header says {riff_size + 8} bytes, the file has {len(wav)}")
    fmt: bytes | None = None
    for name, start, size in _chunk_headers(wav):
        if start + size > len(wav):
            raise _cut_short(wav, name, size, start)
        if name == b"fmt ":
            fmt = wav[start : start + min(size, _FORMAT_BYTES)]
        elif name == b"data":
            if fmt is None:
                raise InvalidWavError(_NO_FORMAT)
            return _info(fmt, wav, start, size, finite=finite)
    raise InvalidWavError("the WAV has no data chunk")


def rebuilt(wav: bytes) -> bytes:
    """
    Return a WAV with the same samples and a new header, for a file whose header has wrong sizes; metadata are left out.

    A program that writes to a pipe can't know the sizes, and some programs append bytes. RF64 and BW64, the formats for
    files over 4 GB, are read, too.

    Returns:
        A WAV that `inspect` accepts.

    Raises:
        InvalidWavError: The file is not a WAV, or is cut short.
    """
    if len(wav) < 12 or wav[:4] not in {b"RIFF", b"RF64", b"BW64"} or wav[8:12] != b"WAVE":
        raise InvalidWavError(_NO_WAV)
    fmt: bytes | None = None
    long_size: int | None = None  # of the samples, in RF64
    for name, start, size in _chunk_headers(wav):
        if name == b"data":
            if fmt is None:
                raise InvalidWavError(_NO_FORMAT)
            if size == _UNKNOWN and long_size:
                size = long_size
            return _with_samples(fmt, wav, start, size)
        if start + size > len(wav):
            raise _cut_short(wav, name, size, start)
        if name == b"fmt ":
            fmt = wav[start : start + min(size, _FORMAT_BYTES)]
        elif name == b"ds64" and size >= 16:
            (long_size,) = struct.unpack_from("<Q", wav, start + 8)
    raise InvalidWavError("the WAV has no data chunk")


def shortened(wav: bytes, info: WavInfo, frames: int) -> bytes:
    """
    Return the beginning of a WAV, in the same sample format; metadata after the samples are left out.

    Args:
        wav: A WAV for which `inspect` returned `info`.
        frames: Samples of one channel; a WAV that has no more is returned as it is.
    """
    if info.frames <= frames:
        return wav
    size = frames * info.channels * info.bits // 8
    content = bytearray(wav[: info.data_start + size]) + b"\0" * (size % 2)
    content[info.data_start - 4 : info.data_start] = struct.pack("<I", size)
    content[4:8] = struct.pack("<I", len(content) - 8)
    return bytes(content)


def with_info(wav: bytes, texts: Mapping[str, str]) -> bytes:
    """
    Append a chunk of metadata. It comes after the samples, so that their offset stays the same.

    Args:
        wav: A WAV that `inspect` accepts.
        texts: By RIFF INFO names of four letters, such as INAM.
    """
    body = b"INFO"
    for name, text in texts.items():
        data = text.replace("\0", "").encode() + b"\0"
        body += name.encode() + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    chunk = b"LIST" + struct.pack("<I", len(body)) + body
    wav += b"\0" * (len(wav) % 2)
    return wav[:4] + struct.pack("<I", len(wav) + len(chunk) - 8) + wav[8:] + chunk


def without_last_info(wav: bytes) -> bytes:
    """Remove the chunk that `with_info` appended; a WAV that ends with anything else is returned unchanged."""
    offset = 12
    for start, end, name in _chunks(wav):
        if name == b"LIST" and end == len(wav) and wav[start : start + 4] == b"INFO":
            offset = start - 8
    return wav if offset == 12 else wav[:4] + struct.pack("<I", offset - 8) + wav[8:offset]


def read_info(wav: bytes | mmap) -> dict[str, str]:
    """Return the metadata of a WAV by RIFF INFO names, even if the file is damaged elsewhere."""
    texts = {}
    for start, end, name in _chunks(wav):
        if name == b"LIST" and wav[start : start + 4] == b"INFO":
            for text_start, text_end, text_name in _chunks(wav, start + 4, end, most=_MOST_TEXTS):
                text = (
                    wav[text_start : min(text_end, text_start + _TEXT_BYTES)]
                    .partition(b"\0")[0]
                    .decode(errors="replace")
                )
                texts[text_name.decode("latin-1")] = text
    return texts


def is_silent(wav: bytes, info: WavInfo) -> bool:
    """Tell whether every sample is zero."""
    zero = b"\x80" if info.bits == 8 else b"\x00"
    return wav.count(zero, info.data_start, info.data_start + info.data_bytes) == info.data_bytes


def samples(wav: bytes, info: WavInfo) -> Samples:
    """Return the samples of a WAV, given what `inspect` returned for it."""
    data = wav[info.data_start : info.data_start + info.data_bytes]
    size = info.bits // 8
    if info.is_float:
        values: array[Any] = array("f" if size == 4 else "d", data)
        full_scale = 1.0
    else:
        wide = bytearray(len(data) // size * (2 if size < 3 else 4))
        if size == 1:
            wide[1::2] = data.translate(FLIP_SIGN)
        elif size == 3:
            for byte in range(3):
                wide[byte + 1 :: 4] = data[byte::3]
        else:
            wide[:] = data
        values = array("h" if size < 3 else "i", bytes(wide))
        full_scale = 2.0 ** (15 if size < 3 else 31)
    if sys.byteorder == "big":
        values.byteswap()
    return Samples(values, full_scale, full_scale * 2.0 ** (1 - info.bits) if not info.is_float else 0.0)


def to_wav(values: array[Any], info: WavInfo) -> bytes:
    """Make a WAV of the same sample format as `info`, without metadata, from values as `samples` returns them."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    data = values.tobytes()
    if info.bits == 8:
        data = data[1::2].translate(FLIP_SIGN)
    elif info.bits == 24:
        narrow = bytearray(len(data) // 4 * 3)
        for byte in range(3):
            narrow[byte::3] = data[byte + 1 :: 4]
        data = bytes(narrow)
    return _wav(data, _FLOAT if info.is_float else _PCM, info.sample_rate, info.channels, info.bits)


def _chunks(
    wav: bytes | mmap, offset: int = 12, end: int | None = None, *, most: int = _MOST_CHUNKS
) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and name of each chunk up to the first one that is cut short, of at most `most`."""
    end = len(wav) if end is None else end
    for name, start, size in _chunk_headers(wav, offset, end, most=most):
        if start + size > end:
            return
        yield start, start + size, name


def _chunk_headers(
    wav: bytes | mmap, offset: int = 12, end: int | None = None, *, most: int = _MOST_CHUNKS
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and size of each chunk, of at most `most`; the last one may be larger than what is left."""
    end = len(wav) if end is None else end
    for _ in range(most):
        if offset + 8 > end:
            return
        (size,) = struct.unpack_from("<I", wav, offset + 4)
        yield wav[offset : offset + 4], offset + 8, size
        offset += 8 + size + size % 2


def _with_samples(fmt: bytes, wav: bytes, start: int, size: int) -> bytes:
    """Return a WAV of the samples from `start`; where their size is unknown, they run to the end of the file."""
    left = len(wav) - start
    if size > left and size >= _LEAST_UNKNOWN:
        size = left
    if size == 0 and not _is_chunk(wav, start):
        size = left
    if size > left:
        raise _cut_short(wav, b"data", size, start)
    align = int.from_bytes(fmt[12:14], "little")
    info = _info(fmt, wav, start, size - size % align if align else size)
    data = wav[start : start + info.data_bytes]
    return _wav(data, _FLOAT if info.is_float else _PCM, info.sample_rate, info.channels, info.bits)


def _is_chunk(wav: bytes, offset: int) -> bool:
    """Tell whether a chunk begins at `offset` that ends within the file."""
    name, size = wav[offset : offset + 4], int.from_bytes(wav[offset + 4 : offset + 8], "little")
    return name.isascii() and name.strip().isalnum() and offset + 8 + size <= len(wav)


def _cut_short(wav: bytes, name: bytes, size: int, start: int) -> InvalidWavError:
    return InvalidWavError(f"the WAV's {name!r} chunk says {size} bytes, {len(wav) - start} are left")


def _wav(data: bytes, tag: int, rate: int, channels: int, bits: int) -> bytes:
    return _header(len(data), tag, rate, channels, bits) + data + b"\0" * (len(data) % 2)


def _header(size: int, tag: int, rate: int, channels: int, bits: int) -> bytes:
    frame = channels * bits // 8
    return _HEADER.pack(
        *(b"RIFF", 36 + size + size % 2, b"WAVE"),
        *(b"fmt ", 16, tag, channels, rate, rate * frame, frame, bits),
        *(b"data", size),
    )


def _info(fmt: bytes, wav: bytes, start: int, size: int, *, finite: bool = True) -> WavInfo:
    if len(fmt) < 16:
        raise InvalidWavError("the WAV's format chunk is cut short")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] == _SUBFORMAT_TAIL:
        (tag,) = struct.unpack_from("<H", fmt, 24)
    if (tag, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise InvalidWavError(f"the WAV is neither PCM nor float: format {tag}, {bits} bits")
    if not channels or not rate or align != channels * bits // 8:
        raise InvalidWavError(
            f"the WAV's header is inconsistent: {channels} channels, {rate} Hz, {align} bytes a frame"
        )
    if size == 0:
        raise InvalidWavError("the WAV has no samples")
    if size % align:
        raise InvalidWavError(f"the WAV's {size} bytes of samples are not a multiple of its frame size, {align}")
    info = WavInfo(rate, channels, size // align, bits, tag == _FLOAT, start)
    if finite and info.is_float and not _finite(wav[start : start + size], bits):
        raise InvalidWavError("the WAV has samples that are NaN or infinite")
    return info


def _finite(data: bytes, bits: int) -> bool:
    samples = array("f" if bits == 32 else "d", data)
    if sys.byteorder == "big":
        samples.byteswap()
    return math.isfinite(sum(samples)) or all(map(math.isfinite, samples))
