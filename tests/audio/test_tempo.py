"""The tempo of clips whose beat is known."""

from __future__ import annotations

import math
from array import array

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.audio.tempo import CLEAR, measure_tempo
from musicgen_cli.audio.wav import pcm16_wav
from tests.support.beats import beats

RATE = 32_000


@pytest.mark.parametrize("bpm", [90, 100, 117.3, 124, 130.43, 150])
def test_a_steady_beat_is_measured_to_a_thousandth(bpm: float) -> None:
    """With bass drum, snare and hi-hat, as dance music has them; the measurement is sure of it."""
    tempo = measure_tempo(beats(bpm, 10.0))

    assert tempo is not None
    assert tempo.bpm == pytest.approx(bpm, rel=1e-3)
    assert tempo.confidence > 2 * CLEAR


@pytest.mark.parametrize("bpm", [62, 75.5, 174])
def test_a_slow_or_fast_beat_is_measured_up_to_an_octave(bpm: float) -> None:
    """Half or double the tempo has the same beats, and a listener may tap it, too."""
    tempo = measure_tempo(beats(bpm, 12.0))

    assert tempo is not None
    assert min(abs(tempo.bpm / bpm - ratio) for ratio in (0.5, 1, 2)) < 1e-3


def test_a_tempo_that_is_known_roughly_is_found_exactly() -> None:
    """Even where half of it would be a more usual tempo."""
    tempo = measure_tempo(beats(176.0, 10.0), near=172)

    assert tempo is not None
    assert tempo.bpm == pytest.approx(176.0, rel=1e-3)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_clip_of_fewer_than_four_beats_has_no_tempo(seconds: float) -> None:
    """There is nothing to compare."""
    assert measure_tempo(beats(120, seconds)) is None


def test_a_clip_without_onsets_has_no_clear_tempo() -> None:
    """Silence, and a single tone."""
    silence = pcm16_wav(bytes(2 * 8 * RATE), sample_rate=RATE, channels=1)
    tone = array("h", (round(9000 * math.sin(2 * math.pi * 220 * i / RATE)) for i in range(8 * RATE)))

    assert measure_tempo(silence) is None
    measured = measure_tempo(pcm16_wav(tone.tobytes(), sample_rate=RATE, channels=1))
    assert measured is None or measured.confidence < 1
