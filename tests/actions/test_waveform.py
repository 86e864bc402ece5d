from __future__ import annotations

import struct
from array import array

import fakes
import pytest

from musicgen_cli.actions.waveform import peaks
from musicgen_cli.errors import InvalidWavError
from musicgen_cli.wav import pcm16_wav


def wav(samples: bytes, *, bits: int, tag: int = 1, channels: int = 1) -> bytes:
    """Make a WAV of any kind."""
    align = channels * bits // 8
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, tag, channels, 32_000, 32_000 * align, align, bits)
    body += b"data" + struct.pack("<I", len(samples)) + samples + b"\0" * (len(samples) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def of(*samples: int) -> bytes:
    return pcm16_wav(array("h", samples).tobytes(), sample_rate=32_000, channels=1)


def test_each_part_tells_its_loudest_sample_whichever_its_sign() -> None:
    """Full scale is 1, silence 0."""
    sound = of(0, 100, 16_384, -3, 0, -32_768, -1, 0)

    assert peaks(sound, 4) == pytest.approx([0, 0.5, 1, 0], abs=1 / 127)
    assert peaks(sound, 1) == [1.0]


def test_parts_cover_every_frame_and_none_is_empty() -> None:
    """Also where the frames don't divide, and where there are fewer frames than parts."""
    for frames in (1, 2, 7, 96, 97, 1000):
        for loud in (0, frames // 2, frames - 1):
            sound = of(*(32_767 * (i == loud) for i in range(frames)))
            assert len(peaks(sound, 96)) == 96
            assert max(peaks(sound, 96)) == 1.0, (frames, loud)


@pytest.mark.parametrize(
    ("samples", "bits", "tag"),
    [
        (bytes([128, 128, 64, 255]), 8, 1),
        (b"\0\0\0" * 2 + (-0x400000).to_bytes(3, "little", signed=True) + b"\xff\xff\x7f", 24, 1),
        (struct.pack("<4i", 0, 0, -(2**30), 2**31 - 1), 32, 1),
        (struct.pack("<4f", 0, 0, -0.5, 1.0), 32, 3),
        (struct.pack("<4d", 0, 0, -0.5, 9.0), 64, 3),
    ],
)
def test_every_kind_of_sample_is_read(samples: bytes, bits: int, tag: int) -> None:
    """8 to 32 bits and floats; what is beyond full scale is full scale."""
    assert peaks(wav(samples, bits=bits, tag=tag), 4) == pytest.approx([0, 0, 0.5, 1.0], abs=1 / 127)


def test_the_louder_channel_counts() -> None:
    """Left and right of one frame stay in one part."""
    stereo = wav(struct.pack("<4h", 0, 32_767, 0, 0), bits=16, channels=2)

    assert peaks(stereo, 2) == [1.0, 0.0]


def test_what_is_no_wav_is_refused() -> None:
    """It isn't drawn as noise."""
    with pytest.raises(InvalidWavError):
        peaks(fakes.tone()[:-1], 4)
