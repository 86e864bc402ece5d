from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

import numpy as np

from training.nano import measures
from training.nano.audio_analysis import SAMPLE_RATE, FloatArray

TIME = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE


def sine(hertz: float) -> FloatArray:
    """Return 4 s of a sine at full scale."""
    return np.asarray(np.sin(2 * np.pi * hertz * TIME))


def test_loudness_is_that_of_the_standard() -> None:
    """A sine of 997 Hz at full scale has -3.01 LUFS; half as loud, 6 LU less; followed by silence, the same."""
    assert measures.loudness(sine(997)) == pytest.approx(-3.01, abs=0.05)
    assert measures.loudness(0.5 * sine(997)) == pytest.approx(-9.03, abs=0.05)
    assert measures.loudness(np.concatenate([sine(997), 0 * TIME])) == pytest.approx(-3.01, abs=0.5)
    assert measures.loudness(0 * TIME) == -70


def test_low_frequencies_are_less_loud() -> None:
    """At 50 Hz a sine has 4.63 LU less than at 997 Hz, at 5 kHz 3.32 LU more, by the coefficients of the standard."""
    assert measures.loudness(sine(50)) - measures.loudness(sine(997)) == pytest.approx(-4.63, abs=0.1)
    assert measures.loudness(sine(5000)) - measures.loudness(sine(997)) == pytest.approx(3.32, abs=0.1)


def test_brightness_is_where_the_energy_is() -> None:
    """Of two equal sines of 300 Hz and 3 kHz, half of the energy is in 2-5 kHz, and 99 % lies below 3 kHz."""
    f99, presence = measures.brightness(sine(300) + sine(3000))

    assert f99 == pytest.approx(3000, abs=5)
    assert presence == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("decay_s", [0.1, 0.5, 2.0])
def test_a_decay_is_timed(decay_s: float) -> None:
    """A tone that decays exponentially loses 6 dB in 0.69 times the decay."""
    assert measures.held_ms(sine(440) * np.exp(-TIME / decay_s)) == pytest.approx(691 * decay_s, abs=60)


def test_a_gap_is_found() -> None:
    """A tone that is 20 dB softer for 0.3 s has a gap of -20 dB, and no silence."""
    tone = sine(440) * np.where((TIME > 2) & (TIME < 2.3), 0.1, 1)

    assert measures.deepest_gap_db(tone) == pytest.approx(-20, abs=0.5)
    assert measures.silence(tone) == 0
    assert measures.silence(np.concatenate([tone, 0 * TIME])) == pytest.approx(0.5, abs=0.05)


def test_rhythms_are_compared_by_their_envelopes() -> None:
    """The same pulse a little later, at another pitch, is the same rhythm; another pulse isn't."""
    pulse = [np.where((TIME + shift) % period < 0.1, 1, 0) for shift, period in ((0, 0.5), (0.1, 0.5), (0, 0.37))]
    rhythms = [measures.rhythm(p * sine(hertz)) for p, hertz in zip(pulse, (440, 600, 440), strict=True)]

    nearest = measures.nearest_rhythms(rhythms)

    assert (nearest[:2] > 0.9).all()
    assert nearest[2] < 0.5
