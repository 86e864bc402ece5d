from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

import numpy as np

from training.nano import audio_analysis
from training.nano.audio_analysis import SAMPLE_RATE, FloatArray

TIME = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE


def tone(midi: float) -> FloatArray:
    """Return 8 s of a sine at full scale."""
    return np.asarray(np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * TIME))


@pytest.mark.parametrize("beats", [70, 96, 120, 150])
def test_the_tempo_of_clicks_is_recognised(beats: int) -> None:
    """The tempo of noise bursts is measured within 2 %, or half or twice of it."""
    clicks = np.random.default_rng(0).standard_normal(len(TIME)) * np.exp(-(TIME % (60 / beats)) / 0.03)

    tempo = audio_analysis.analyze(0.1 * clicks).tempo

    assert any(abs(tempo * factor / beats - 1) < 0.02 for factor in (0.5, 1, 2))


@pytest.mark.parametrize(("pitches", "key"), [((60, 64, 67, 65, 60), "C major"), ((57, 60, 64, 62, 57), "A minor")])
def test_the_key_of_a_chord_is_recognised(pitches: tuple[int, ...], key: str) -> None:
    """Tonic and mode are those of the chord."""
    chord = np.sum([tone(pitch) for pitch in pitches], axis=0)

    analysis = audio_analysis.analyze(0.05 * chord)

    assert analysis.key == key
    assert analysis.key.endswith(analysis.mode)


def test_level_and_peak_are_relative_to_full_scale() -> None:
    """A sine at full scale has a level of -3 dB and a peak of 1."""
    analysis = audio_analysis.analyze(tone(69))

    assert analysis.level_db == pytest.approx(-3.01, abs=0.01)
    assert analysis.peak == pytest.approx(1, abs=0.001)


def test_a_classifier_learns_a_rare_label() -> None:
    """A rare label that depends on a feature is recognised; a random one is assigned to about half of the clips."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((2000, 10))
    truth = np.stack([features[:, 3] > 2, rng.random(2000) < 0.5], axis=1)
    classifiers = audio_analysis.fit(features[:1500], ("rare", "random"), truth[:1500])

    assigned = np.array([list(classifiers.scores(row).values()) for row in features[1500:]]) > 0

    assert assigned[truth[1500:, 0], 0].mean() > 0.9
    assert assigned[~truth[1500:, 0], 0].mean() < 0.15
    assert 0.3 < assigned[:, 1].mean() < 0.7
