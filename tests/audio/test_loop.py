from __future__ import annotations

import math
import random
from array import array
from itertools import pairwise

import pytest

from musicgen_cli.audio.loop import FADE_S, make_loop
from musicgen_cli.audio.wav import WavInfo, inspect, pcm16_wav, samples, to_wav
from tests.support import fakes

RATE = 32_000


def values_of(wav: bytes) -> list[float]:
    return list(samples(wav, inspect(wav)).values)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_end_continues_in_the_start(channels: int) -> None:
    """The step at the seam is no larger than those in the clip, and the loop is shorter by the fade."""
    wav = fakes.tone(4.3, seed=77, channels=channels)
    looped = values_of(make_loop(wav))
    steps = max(abs(b - a) for a, b in pairwise(values_of(wav)[::channels]))

    assert len(looped) == round((4.3 - FADE_S) * RATE) * channels
    for channel in range(channels):
        assert abs(looped[channel] - looped[channel - channels]) <= steps + 1
    behind = round(FADE_S * RATE) * channels
    assert looped[behind:] == values_of(wav)[behind : len(looped)]


def test_a_fade_keeps_the_power() -> None:
    """The power of uncorrelated parts, such as noise, stays the same."""
    noise = random.Random(1)
    sound = array("h", (round(noise.gauss(0, 4000)) for _ in range(3 * RATE)))
    looped = values_of(make_loop(pcm16_wav(sound.tobytes(), sample_rate=RATE, channels=1)))

    for start in range(0, RATE, RATE // 8):
        part = looped[start : start + RATE // 8]
        assert math.sqrt(sum(value * value for value in part) / len(part)) == pytest.approx(4000, rel=0.05)


def test_a_sum_that_is_too_loud_is_clipped_not_wrapped() -> None:
    """Two equal parts at full scale add up to more than full scale."""
    sound = array("h", [32767] * 3 * RATE)
    looped = values_of(make_loop(pcm16_wav(sound.tobytes(), sample_rate=RATE, channels=1)))

    assert min(looped) == max(looped) == 32767


@pytest.mark.parametrize("bits", [8, 16, 24, 32, -32, -64])
def test_every_sample_format_can_be_looped(bits: int) -> None:
    """The loop has the format of the clip."""
    info = WavInfo(8_000, 1, 400, abs(bits), bits < 0, 44)
    kind = {8: "h", 16: "h", 24: "i", 32: "i", -32: "f", -64: "d"}[bits]
    scale = {"h": 2**15, "i": 2**31}.get(kind, 1.0) / 2
    sound = (math.sin(i / 5) * scale for i in range(400))
    wav = to_wav(array(kind, sound if bits < 0 else map(int, sound)), info)
    after = inspect(make_loop(wav))

    assert (after.frames, after.bits, after.is_float) == (300, abs(bits), bits < 0)
    assert max(values_of(make_loop(wav))) <= 1.5 * scale


def test_a_clip_too_short_for_a_fade_stays_as_it_is() -> None:
    """Three frames leave no room for a fade."""
    wav = pcm16_wav(bytes(range(6)), sample_rate=RATE, channels=1)

    assert make_loop(wav) == wav
