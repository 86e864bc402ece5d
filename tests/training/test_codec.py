from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the recipe needs torch")
pytest.importorskip("transformers", reason="the recipe needs transformers")

import numpy as np

from training.nano import codec, codes, composer, fidelity, measures, plan, synthesis

pytestmark = pytest.mark.oracle
torch.set_num_threads(1)  # several test processes share the cores


@pytest.fixture(scope="module")
def rounded() -> Any:
    """Compute the codec, rounded to float16 as in the checkpoint."""
    return codec.build().half().float()


@pytest.mark.parametrize("seed", [2, 8])
def test_the_codec_agrees_with_the_synthesis(rounded: Any, seed: int) -> None:
    """With weights rounded to float16 they agree to 36 dB, for a soft piece and one that the limiter compresses."""
    piece_plan, _ = plan.draw(seed)

    assert fidelity.agreement_db(rounded, composer.compose(piece_plan, seed, 150)) >= 36


def test_a_chord_sounds_until_the_next_one(rounded: Any) -> None:
    """A pad stays within 6 dB for more than 800 ms; the next chord leaves no hole, and a rest silences it by 25 dB."""
    tables = codes.ids()
    piece = np.zeros((codes.STREAMS, 250), np.int16)
    for frame, name in ((0, ("chord", "pad", 0, "major", 1)), (100, ("chord", "pad", 5, "major", 1)), (200, ("rest",))):
        piece[2, frame] = tables[2][name]

    samples = fidelity.decode(rounded, piece)
    level = measures.envelope(samples)

    assert measures.held_ms(samples) >= 800
    assert level[20:390].min() > level[20:390].max() - 12
    assert level[450:].max() < level[20:390].min() - 25


def test_a_release_leaves_the_next_chord_alone(rounded: Any) -> None:
    """A chord that takes another one away soon after sounds as loud as a first chord."""
    tables = codes.ids()
    alone, after = np.zeros((2, codes.STREAMS, 100), np.int16)
    alone[2, 10] = after[2, 10] = tables[2]["chord", "organ", 7, "major", 1]
    after[2, 5] = tables[2]["chord", "organ", 0, "minor", 1]

    levels = [measures.envelope(fidelity.decode(rounded, piece)) for piece in (alone, after)]

    assert np.abs(levels[0][60:] - levels[1][60:]).max() < 3


def test_a_wrong_weight_is_noticed(rounded: Any) -> None:
    """Oscillators that are damped by a hundredth too much fail the comparison."""
    piece_plan, _ = plan.draw(0)
    piece = composer.compose(piece_plan, 0, 150)
    recurrent_weight = rounded.decoder.layers[1].lstm.weight_hh_l0
    original = recurrent_weight.detach().clone()
    with torch.no_grad():
        recurrent_weight.mul_(0.99)
    try:
        assert fidelity.agreement_db(rounded, piece) < 36
    finally:
        with torch.no_grad():
            recurrent_weight.copy_(original)


def test_nothing_is_louder_than_full_scale(rounded: Any) -> None:
    """Even the loudest codes of all streams together, frame after frame, stay within full scale."""
    loudest = np.array([[np.abs(table).sum(1).argmax()] * 60 for table in codes.vectors()], np.int16)

    samples = fidelity.decode(rounded, loudest)

    assert 0.9 < np.abs(samples).max() <= 1.0


def test_silent_codes_are_silent(rounded: Any) -> None:
    """The biases of the limiter cancel out exactly."""
    assert np.abs(fidelity.decode(rounded, np.zeros((codes.STREAMS, 50), np.int16))).max() == 0


def test_the_limiter_leaves_soft_samples_unchanged() -> None:
    """It is exact up to its threshold, and rises after it without reaching 1."""
    samples = np.linspace(-3, 3, 601)
    limited = synthesis.limit(samples)
    soft = np.abs(samples) <= synthesis.LINEAR_TO

    assert np.array_equal(limited[soft], samples[soft])
    assert (np.diff(limited) > 0).all()
    assert np.abs(limited).max() < 1
