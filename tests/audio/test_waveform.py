from __future__ import annotations

import math
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.audio.wav import inspect, pcm16_wav, samples, to_wav
from musicgen_cli.audio.waveform import bars, braille, levels, peaks
from tests.support import fakes


def wav_of(values: list[int], *, rate: int = 32_000, channels: int = 1) -> bytes:
    return pcm16_wav(struct.pack(f"<{len(values)}h", *values), sample_rate=rate, channels=channels)


def other_format(values: list[float], tag: int, bits: int) -> bytes:
    """Make a WAV of samples from -1 to 1 in a given format."""
    if tag == 3:
        data = struct.pack(f"<{len(values)}{'f' if bits == 32 else 'd'}", *values)
    elif bits == 8:
        data = bytes(min(255, round(value * 128) + 128) for value in values)
    else:
        full = 1 << (bits - 1)
        data = b"".join(
            min(full - 1, round(value * full)).to_bytes(bits // 8, "little", signed=True) for value in values
        )
    data_padded = data + b"\0" * (len(data) % 2)
    fmt = struct.pack("<HHIIHH", tag, 1, 32_000, 32_000 * bits // 8, bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(data)) + data_padded
    return b"RIFF" + struct.pack("<I", len(body)) + body


@settings(deadline=None)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300), st.integers(1, 40))
def test_peaks_are_the_extremes_to_eight_bits(values: list[int], columns: int) -> None:
    """They are each segment's lowest and highest sample, rounded down by less than a step."""
    extremes = peaks(wav_of(values), columns)

    assert len(extremes) == columns
    for column, (low, high) in enumerate(extremes):
        start = column * len(values) // columns
        segment = values[start : max(start + 1, (column + 1) * len(values) // columns)]
        assert 0 <= min(segment) / 32768 - low < 1 / 128
        assert 0 <= max(segment) / 32768 - high < 1 / 128


def test_peaks_include_every_channel() -> None:
    """A sound in the right channel alone is drawn."""
    assert peaks(wav_of([0, 16384, 0, 16384], channels=2), 2) == [(0, 0.5), (0, 0.5)]


@settings(deadline=None)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=2000))
def test_levels_are_exact(values: list[int]) -> None:
    """They agree with the plain formulas."""
    measured = levels(wav_of(values))
    loudest = max(map(abs, values))

    if loudest:
        assert measured.peak_dbfs == pytest.approx(20 * math.log10(loudest / 32768), abs=1e-9)
        rms = math.sqrt(sum(value * value for value in values) / len(values))
        assert measured.rms_dbfs == pytest.approx(20 * math.log10(rms / 32768))
    else:
        assert measured.peak_dbfs == measured.rms_dbfs == -math.inf
    assert measured.clipped == sum(abs(value) >= 32767 for value in values)


def test_silence_is_a_share_of_the_duration() -> None:
    """It is counted in windows of 10 ms below -60 dBFS; the last window may be shorter."""
    quiet, loud = [20, -20] * 160, [3000] * 320

    assert levels(wav_of(quiet * 3 + loud)).silence == 0.75
    assert levels(wav_of(loud + quiet[:80])).silence == 0.2
    assert levels(wav_of([0] * 500)).silence == 1
    assert levels(wav_of([40, -40] * 160)).silence == 0


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_every_sample_format_gives_the_same_results(tag: int, bits: int) -> None:
    """The clip is a sine at half of full scale, as much silence, and one clipped sample."""
    values = [math.sin(i / 5) / 2 for i in range(3200)] + [0.0] * 3200
    wav = other_format([*values, 1.0], tag, bits)
    measured = levels(wav)

    assert measured.peak_dbfs == pytest.approx(0, abs=0.07)
    assert measured.rms_dbfs == pytest.approx(-12.04, abs=0.05)
    assert measured.clipped == 1
    assert measured.silence == pytest.approx(0.5, abs=0.001)
    assert peaks(other_format(values, tag, bits), 2) == [
        (pytest.approx(-0.5, abs=0.01), pytest.approx(0.5, abs=0.01)), (0, 0),
    ]  # fmt: skip
    info = inspect(wav)
    assert to_wav(samples(wav, info).values, info) == wav


def test_floats_beyond_full_scale_count_as_clipped() -> None:
    """They are drawn at full scale, and their true peak is measured."""
    wav = other_format([2.0, -3.0, 0.5], 3, 32)

    assert levels(wav).clipped == 2
    assert levels(wav).peak_dbfs == pytest.approx(20 * math.log10(3))
    assert peaks(wav, 1) == [(-1, 127 / 128)]


def test_known_extremes_are_drawn_as_known_characters() -> None:
    """Full scale fills the height, silence is a line in the middle, two segments share a character."""
    assert braille([(-1, 1), (-1, 1)], 2) == ["⣿", "⣿"]
    assert braille([(0, 0), (-1, 1), (0, 0)], 2) == ["⢸⠀", "⢹⠁"]
    assert braille([(-1, 0)], 1) == ["⡄"]
    assert bars([(0, 0), (-0.01, 0), (0, 0.5), (-1, 1)]) == " ▁▄█"


def test_a_drawing_has_the_shape_of_the_clip() -> None:
    """A fade-out is highest at its beginning."""
    values = array("h", (int(30000 * (1 - i / 32000) * math.sin(i / 7)) for i in range(32000)))
    lines = braille(peaks(pcm16_wav(values.tobytes(), sample_rate=32_000, channels=1), 80), 4)
    inked = [sum(bin(ord(line[at]) - 0x2800).count("1") for line in lines) for at in range(40)]

    assert [len(line) for line in lines] == [40] * 4
    assert inked[0] >= 28
    assert sorted(inked, reverse=True) == pytest.approx(inked, abs=2)
    assert inked[-1] <= 6


def test_the_peak_of_a_tone_is_its_amplitude() -> None:
    """An amplitude of 9000 in 32768 is -11.2 dBFS."""
    assert levels(fakes.tone(0.5)).peak_dbfs == pytest.approx(-11.22, abs=0.01)
