from __future__ import annotations

from collections import abc
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.decoding.sampling import apply_guidance, probabilities, sample, uniforms
from tests.support.decoding import sampling


def test_guidance_goes_away_from_what_comes_without_the_text() -> None:
    """Without + scale (with - without); one row is left as it is."""
    logits = np.float32([[[1.0, 2.0]], [[0.0, 4.0]]])

    assert apply_guidance(logits, 3.0).tolist() == [[3.0, -2.0]]
    assert apply_guidance(logits[:1], 3.0).tolist() == [[1.0, 2.0]]


def drawable(scores: abc.Sequence[float], **values: Any) -> list[int]:
    """Return the codes that may be drawn."""
    (found,) = probabilities(np.float32([scores]), sampling(**values))
    return np.flatnonzero(found).tolist()


def test_top_k_keeps_what_equals_the_last_one_kept() -> None:
    """And 0, or as many as there are, is off."""
    scores = [1, 3, 2, 2, 0]

    assert drawable(scores, top_k=2) == [1, 2, 3]
    assert drawable(scores, top_k=1) == [1]
    for off in (0, 5, 1000):
        assert drawable(scores, top_k=off) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_likeliest_that_reach_it() -> None:
    """1 is off; 0 keeps one, of equals the last."""
    scores = np.log([0.1, 0.4, 0.3, 0.2]).tolist()

    assert drawable(scores, top_p=0.65) == [1, 2]
    assert drawable(scores, top_p=0.75) == [1, 2, 3]
    assert drawable(scores, top_p=1.0) == [0, 1, 2, 3]
    assert drawable(scores, top_p=0.0) == [1]
    assert drawable([0, 0, 0, 0], top_p=0.0) == [3]


def test_a_low_temperature_sharpens() -> None:
    """The lowest that is allowed leaves one code of any that differ, and no infinity."""
    assert probabilities(np.float32([[0, 1, 400]]), sampling(temperature=0.01)).tolist() == [[0, 0, 1]]


def test_codebooks_dont_disturb_each_other() -> None:
    """Each has its own best, its own k-th best and its own sum."""
    scores = (np.random.default_rng(0).normal(size=(4, 50)) * [[1], [5], [0.1], [20]]).astype(np.float32)
    for values in ({"top_k": 7}, {"top_p": 0.8}, {"top_k": 20, "top_p": 0.5, "temperature": 0.3}):
        together = probabilities(scores, sampling(**values))
        alone = [probabilities(row[None], sampling(**values))[0] for row in scores]
        assert np.array_equal(together, alone)


def test_drawing_inverts_the_distribution() -> None:
    """The bounds belong to the code above; what has no chance is never drawn."""
    given = np.array([0.0, 2.0, 0.0, 6.0, 0.0])
    asked = np.array([0.0, 0.2499, 0.25, 0.5, 1 - 2.0**-53])

    assert sample(np.tile(given, (5, 1)), asked).tolist() == [1, 1, 3, 3, 3]


def test_draws_follow_the_probabilities() -> None:
    """20,000 of them, to three standard deviations."""
    found = probabilities(np.log(np.float32([[1, 2, 3, 4]])), sampling())
    drawn = sample(np.tile(found, (20_000, 1)), uniforms(7, 5000, 4).ravel())

    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - [0.1, 0.2, 0.3, 0.4]).max() < 3 * (0.25 / 20_000) ** 0.5


def philox(key: int, counter: int) -> list[int]:
    """Philox4x64-10, written down from Salmon et al. 2011, section 4.2 (constants of the Random123 library)."""
    mask, keys, words = 2**64 - 1, [key, 0], [counter, 0, 0, 0]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(b >> 64) ^ words[1] ^ keys[0], b & mask, (a >> 64) ^ words[3] ^ keys[1], a & mask]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) & mask, (keys[1] + 0xBB67AE8584CAA73B) & mask]
    return words


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1])
def test_chances_are_a_published_function_of_the_seed(seed: int) -> None:
    """Computed here from the paper, so that no version of numpy can change what a seed means."""
    words = [word for counter in range(1, 7) for word in philox(seed, counter)]

    assert uniforms(seed, 6, 4).ravel().tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_a_chance_depends_on_step_and_codebook_alone() -> None:
    """A longer clip begins as a shorter one does."""
    assert np.array_equal(uniforms(3, 500, 4)[:20], uniforms(3, 20, 4))
