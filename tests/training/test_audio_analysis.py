from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from training.nano import audio_analysis
from training.nano.audio_analysis import RATE

TIME = np.arange(8 * RATE) / RATE


def tone(midi: float) -> np.ndarray:
    return np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * TIME)


@pytest.mark.parametrize("beats", [70, 96, 120, 150])
def test_a_beat_has_a_tempo(beats: int) -> None:
    """Within 2 %, or half or twice of it."""
    clicks = np.random.default_rng(0).standard_normal(len(TIME)) * np.exp(-(TIME % (60 / beats)) / 0.03)

    heard = audio_analysis.listen(0.1 * clicks).tempo

    assert any(abs(heard * times / beats - 1) < 0.02 for times in (0.5, 1, 2))


@pytest.mark.parametrize(("pitches", "key"), [((60, 64, 67, 65, 60), "C major"), ((57, 60, 64, 62, 57), "A minor")])
def test_chords_have_a_key(pitches: tuple[int, ...], key: str) -> None:
    """Its tonic and its mode."""
    heard = audio_analysis.listen(0.05 * sum(tone(pitch) for pitch in pitches))

    assert heard.key == key
    assert heard.key.endswith(heard.mode)


def test_level_and_peak_are_of_full_scale() -> None:
    """A full sine has -3 dB."""
    heard = audio_analysis.listen(tone(69))

    assert heard.level_db == pytest.approx(-3.01, abs=0.01)
    assert heard.peak == pytest.approx(1, abs=0.001)


def test_a_classifier_learns_what_can_be_told_however_rare_it_is() -> None:
    """And a label that nothing tells is heard in half of the clips."""
    draw = np.random.default_rng(1)
    features = draw.standard_normal((2000, 10))
    truth = np.stack([features[:, 3] > 2, draw.random(2000) < 0.5], axis=1)
    ear = audio_analysis.fit(features[:1500], ("told", "noise"), truth[:1500])

    found = np.array([list(ear.scores(row).values()) for row in features[1500:]]) > 0

    assert found[truth[1500:, 0], 0].mean() > 0.9
    assert found[~truth[1500:, 0], 0].mean() < 0.15
    assert 0.3 < found[:, 1].mean() < 0.7
