from __future__ import annotations

import math
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.audio.wav import inspect, pcm16_wav, rewrapped, samples
from musicgen_cli.audio.waveform import bars, braille, levels, peaks
from tests.support import fakes


def sound(values: list[int], *, rate: int = 32_000, channels: int = 1) -> bytes:
    return pcm16_wav(struct.pack(f"<{len(values)}h", *values), sample_rate=rate, channels=channels)


def other_form(values: list[float], tag: int, bits: int) -> bytes:
    """Write samples of -1 to 1 in another form than 16 bits."""
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
    """Each stretch's lowest and highest sample, never on the wrong side by more than a step."""
    found = peaks(sound(values), columns)

    assert len(found) == columns
    for column, (low, high) in enumerate(found):
        start = column * len(values) // columns
        stretch = values[start : max(start + 1, (column + 1) * len(values) // columns)]
        assert 0 <= min(stretch) / 32768 - low < 1 / 128
        assert 0 <= max(stretch) / 32768 - high < 1 / 128


def test_peaks_look_at_every_channel() -> None:
    """What sounds on the right alone is drawn, too."""
    assert peaks(sound([0, 16384, 0, 16384], channels=2), 2) == [(0, 0.5), (0, 0.5)]


@settings(deadline=None)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=2000))
def test_levels_are_exact(values: list[int]) -> None:
    """As the formulas in their plainest form."""
    found = levels(sound(values))
    loudest = max(map(abs, values))

    if loudest:
        assert found.peak_dbfs == pytest.approx(20 * math.log10(loudest / 32768), abs=1e-9)
        rms = math.sqrt(sum(value * value for value in values) / len(values))
        assert found.rms_dbfs == pytest.approx(20 * math.log10(rms / 32768))
    else:
        assert found.peak_dbfs == found.rms_dbfs == -math.inf
    assert found.clipped == sum(abs(value) >= 32767 for value in values)


def test_silence_is_a_share_of_the_time() -> None:
    """Windows of 10 ms under -60 dBFS, the last one as long as it is."""
    quiet, loud = [20, -20] * 160, [3000] * 320

    assert levels(sound(quiet * 3 + loud)).silence == 0.75
    assert levels(sound(loud + quiet[:80])).silence == 0.2
    assert levels(sound([0] * 500)).silence == 1
    assert levels(sound([40, -40] * 160)).silence == 0


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_every_form_of_a_wav_is_seen_alike(tag: int, bits: int) -> None:
    """A sine at half of full scale, a silent half, and one clipped sample."""
    values = [math.sin(i / 5) / 2 for i in range(3200)] + [0.0] * 3200
    wav = other_form([*values, 1.0], tag, bits)
    found = levels(wav)

    assert found.peak_dbfs == pytest.approx(0, abs=0.07)
    assert found.rms_dbfs == pytest.approx(-12.04, abs=0.05)
    assert (found.clipped, found.silence) == (1, pytest.approx(0.5, abs=0.001))
    assert peaks(other_form(values, tag, bits), 2) == [
        (pytest.approx(-0.5, abs=0.01), pytest.approx(0.5, abs=0.01)), (0, 0),
    ]  # fmt: skip
    info = inspect(wav)
    assert rewrapped(samples(wav, info).values, info) == wav


def test_floats_beyond_full_scale_are_clipped_ones() -> None:
    """They can't be drawn, but they are counted."""
    wav = other_form([2.0, -3.0, 0.5], 3, 32)

    assert levels(wav).clipped == 2
    assert levels(wav).peak_dbfs == pytest.approx(20 * math.log10(3))
    assert peaks(wav, 1) == [(-1, 127 / 128)]


def test_a_drawing_is_what_it_says() -> None:
    """Full scale fills the height, silence is a line in the middle, two stretches share a character."""
    assert braille([(-1, 1), (-1, 1)], 2) == ["⣿", "⣿"]
    assert braille([(0, 0), (-1, 1), (0, 0)], 2) == ["⢸⠀", "⢹⠁"]
    assert braille([(-1, 0)], 1) == ["⡄"]
    assert bars([(0, 0), (-0.01, 0), (0, 0.5), (-1, 1)]) == " ▁▄█"


def test_a_drawing_has_the_shape_of_the_sound() -> None:
    """A fade is widest at its beginning."""
    values = array("h", (int(30000 * (1 - i / 32000) * math.sin(i / 7)) for i in range(32000)))
    lines = braille(peaks(pcm16_wav(values.tobytes(), sample_rate=32_000, channels=1), 80), 4)
    inked = [sum(bin(ord(line[at]) - 0x2800).count("1") for line in lines) for at in range(40)]

    assert [len(line) for line in lines] == [40] * 4
    assert inked[0] >= 28
    assert sorted(inked, reverse=True) == pytest.approx(inked, abs=2)
    assert inked[-1] <= 6


def test_a_stored_tone_is_what_it_was_made_as() -> None:
    """-11.2 dBFS is 9000 of 32768."""
    assert levels(fakes.tone(0.5)).peak_dbfs == pytest.approx(-11.22, abs=0.01)
