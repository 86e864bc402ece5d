from __future__ import annotations

import math
import struct
from array import array
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgen_cli.audio.wav import (
    WavInfo,
    inspect,
    is_silent,
    pcm16_wav,
    rebuilt,
    shortened,
    to_wav,
    with_info,
)
from musicgen_cli.errors import InvalidWavError
from tests.support import fakes

TONE = fakes.tone(0.5)


def riff(fmt: bytes, data: bytes, *between: bytes) -> bytes:
    """Join chunks to a file with the right RIFF size."""
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"".join(between)
    body += b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt_chunk(tag: int, bits: int, channels: int = 1, rate: int = 32_000) -> bytes:
    align = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)


def test_a_written_header_is_read_back() -> None:
    """Sample rate, channels, frames and duration are as written."""
    info = inspect(pcm16_wav(bytes(4 * 44_100), sample_rate=44_100, channels=2))

    assert (info.sample_rate, info.channels, info.frames, info.bits, info.is_float) == (44_100, 2, 44_100, 16, False)
    assert info.duration == 1.0


def test_other_sample_formats_are_read() -> None:
    """These are 8 to 32 bits, float, extensible headers, and chunks before the samples."""
    assert inspect(riff(fmt_chunk(1, 24, 2), bytes(60))).frames == 10
    assert inspect(riff(fmt_chunk(1, 8), bytes(7))).frames == 7
    assert inspect(riff(fmt_chunk(3, 32), struct.pack("<4f", 0, 1, -1, 2.5))).is_float
    pcm_guid_tail = bytes.fromhex("000000001000800000aa00389b71")
    extensible = fmt_chunk(0xFFFE, 16) + struct.pack("<HHIH", 22, 16, 4, 1) + pcm_guid_tail
    assert inspect(riff(extensible, bytes(8))).frames == 4
    assert inspect(riff(fmt_chunk(1, 16), bytes(8), b"LIST" + struct.pack("<I", 3) + b"abc\0")).frames == 4


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"RIFF",
        b"OggS" + TONE[4:],
        TONE[:-1],
        TONE + b"\0",
        TONE[: len(TONE) // 2],
        TONE[:4] + b"\xff\xff\xff\x7f" + TONE[8:],
        TONE[:40] + b"\xff\xff\xff\xff" + TONE[44:],
        riff(fmt_chunk(1, 16), b""),
        riff(fmt_chunk(1, 16), bytes(7)),
        riff(fmt_chunk(1, 16, channels=0), bytes(8)),
        riff(fmt_chunk(1, 16, rate=0), bytes(8)),
        riff(fmt_chunk(2, 4), bytes(8)),
        riff(fmt_chunk(1, 16)[:14], bytes(8)),
        riff(fmt_chunk(3, 32), struct.pack("<2f", 0, math.nan)),
        riff(fmt_chunk(3, 64), struct.pack("<2d", math.inf, -math.inf)),
    ],
)
def test_anything_but_a_complete_wav_is_refused(bad: bytes) -> None:
    """Wrong sizes, cut files, missing samples and samples that are not numbers raise an error."""
    with pytest.raises(InvalidWavError):
        inspect(bad)


def sizes(riff: int, data: int, kind: bytes = b"RIFF") -> bytes:
    """Return the tone with other sizes in its header."""
    return kind + struct.pack("<I", riff) + TONE[8:40] + struct.pack("<I", data) + TONE[44:]


DS64 = b"ds64" + struct.pack("<IQQQI", 28, len(TONE) + 28, len(TONE) - 44, 16_000, 0)


@pytest.mark.parametrize(
    "wav",
    [
        TONE,
        sizes(0xFFFFFFFF, 0xFFFFFFFF),
        sizes(0x7FFFF024, 0x7FFFF000),
        sizes(0x80000024, 0x80000000),
        sizes(36, 0),
        sizes(0, 0),
        sizes(len(TONE), len(TONE) - 44),
        sizes(7, len(TONE) - 44),
        TONE + b"\0",
        TONE + b"TAG" + bytes(125),
        b"RF64\xff\xff\xff\xffWAVE" + DS64 + sizes(0, 0xFFFFFFFF)[12:],
        b"BW64\xff\xff\xff\xffWAVE" + DS64 + sizes(0, 0xFFFFFFFF)[12:] + b"axml\2\0\0\0<>",
        b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0) + sizes(0, 0xFFFFFFFF)[12:],
    ],
)
def test_a_header_that_is_wrong_about_sizes_is_written_anew(wav: bytes) -> None:
    """Pipes, wrong RIFF sizes, bytes after the samples, RF64: the samples are the same."""
    assert rebuilt(wav) == TONE


def test_samples_of_unknown_length_end_with_the_last_whole_frame() -> None:
    """A program that was stopped may have written half of one."""
    assert inspect(rebuilt(sizes(0xFFFFFFFF, 0xFFFFFFFF)[:-1])).frames == inspect(TONE).frames - 1
    assert inspect(rebuilt(riff(fmt_chunk(3, 32, 2), bytes(11)))).frames == 1


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (b"", "not a WAV"),
        (TONE[: len(TONE) // 2], "chunk says 32000 bytes, 15978 are left"),
        (TONE[:-1], "chunk says"),
        (TONE[:20], "chunk says"),
        (TONE[:36], "no data chunk"),
        (sizes(0xFFFFFFFF, 0xFFFFFFFF)[:44], "has no samples"),
        (riff(fmt_chunk(1, 16), b"") + b"LIST\4\0\0\0INFO", "has no samples"),
        (riff(fmt_chunk(2, 4), bytes(8)), "neither PCM nor float"),
        (b"RF64\xff\xff\xff\xffWAVE" + DS64 + sizes(0, 0xFFFFFFFF)[12:-2], "chunk says"),
    ],
)
def test_a_wav_that_is_cut_short_is_not_written_anew(wav: bytes, message: str) -> None:
    """A size that can be true is believed."""
    with pytest.raises(InvalidWavError, match=message):
        rebuilt(wav)


@given(st.binary(max_size=200), st.integers(0, len(TONE)))
def test_what_is_written_anew_is_a_wav(junk: bytes, at: int) -> None:
    """Or it is refused with an `InvalidWavError`."""
    for data in (junk, b"RIFF" + bytes(4) + b"WAVE" + junk, TONE[:at] + junk + TONE[at:]):
        with suppress(InvalidWavError):
            inspect(rebuilt(data))


@given(st.binary(max_size=200), st.integers(0, len(TONE)))
def test_arbitrary_bytes_are_read_or_refused(junk: bytes, at: int) -> None:
    """`inspect` raises nothing but `InvalidWavError`."""
    for data in (junk, b"RIFF" + struct.pack("<I", len(junk) + 4) + b"WAVE" + junk, TONE[:at] + junk + TONE[at:]):
        try:
            info = inspect(data)
        except InvalidWavError:
            continue
        assert 0 < info.data_start + info.data_bytes <= len(data)


def test_silence_is_recognized() -> None:
    """All zeros are silent, in 8 bits all 128; a single other sample is not."""
    silent, loud = riff(fmt_chunk(1, 16), bytes(8)), riff(fmt_chunk(1, 16), bytes(7) + b"\1")

    assert is_silent(silent, inspect(silent))
    assert not is_silent(loud, inspect(loud))
    middle = riff(fmt_chunk(1, 8), b"\x80" * 8)
    assert is_silent(middle, inspect(middle))


def test_a_wav_can_be_shortened() -> None:
    """Its samples stay as they are, whatever their size; what comes after them is left out."""
    samples = bytes(range(1, 100))  # 33 of 24 bits
    whole = to_wav(array("i", [0] * 33), WavInfo(8_000, 1, 33, 24, is_float=False, data_start=0))
    whole = with_info(whole[:44] + samples + whole[44 + 99 :], {"INAM": "a name"})
    info = inspect(whole)

    short = shortened(whole, info, 3)
    assert inspect(short).frames == 3
    assert short[44:53] == samples[:9]
    assert len(short) == 54
    assert shortened(whole, info, 33) == whole
