from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the recipe needs torch")
pytest.importorskip("transformers", reason="the recipe needs transformers")

from training.nano import codec, codes, composer, fidelity, plan, synthesis

pytestmark = pytest.mark.oracle
torch.set_num_threads(1)  # several processes of tests share the cores


@pytest.fixture(scope="module")
def rounded() -> Any:
    """Compute the codec, rounded as the checkpoint keeps it."""
    return codec.build().half().float()


@pytest.mark.parametrize("seed", [2, 8])
def test_the_codec_is_the_synthesis_it_stands_for(rounded: Any, seed: int) -> None:
    """To 36 dB, with weights in float16, for quiet pieces and for those that the limiter bends."""
    wanted, _ = plan.draw(seed)

    assert fidelity.agreement_db(rounded, composer.compose(wanted, seed, 150)) >= 36


def test_a_wrong_weight_is_noticed(rounded: Any) -> None:
    """Oscillators that ring a hundredth too short: the comparison can fail."""
    wanted, _ = plan.draw(0)
    made = composer.compose(wanted, 0, 150)
    turn = rounded.decoder.layers[1].lstm.weight_hh_l0
    right = turn.detach().clone()
    with torch.no_grad():
        turn.mul_(0.99)
    try:
        assert fidelity.agreement_db(rounded, made) < 36
    finally:
        with torch.no_grad():
            turn.copy_(right)


def test_nothing_is_louder_than_full_scale(rounded: Any) -> None:
    """Not even all of the loudest codes at once."""
    made = np.array([[np.abs(table).sum(1).argmax()] * 60 for table in codes.vectors()])

    sound = fidelity.play(rounded, made)

    assert 0.9 < np.abs(sound).max() <= 1.0


def test_silent_codes_are_silent(rounded: Any) -> None:
    """The biases of the limiter cancel out exactly."""
    assert np.abs(fidelity.play(rounded, np.zeros((codes.STREAMS, 50), int))).max() == 0


def test_the_limiter_leaves_alone_what_is_soft() -> None:
    """It is exact up to its bend, and rises after it."""
    sound = np.linspace(-3, 3, 601)
    limited = synthesis.limited(sound)

    assert np.array_equal(limited[np.abs(sound) <= synthesis.LINEAR_TO], sound[np.abs(sound) <= synthesis.LINEAR_TO])
    assert (np.diff(limited) > 0).all()
    assert np.abs(limited).max() < 1
