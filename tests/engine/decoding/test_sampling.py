from __future__ import annotations

from collections import abc
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.decoding.sampling import apply_guidance, probabilities, sample, uniforms
from tests.support.decoding import sampling


def test_guidance_extrapolates_from_unconditional_to_conditional() -> None:
    """The result is uncond + scale * (cond - uncond); a single row is returned as it is."""
    logits = np.float32([[[1.0, 2.0]], [[0.0, 4.0]]])

    assert apply_guidance(logits, 3.0).tolist() == [[3.0, -2.0]]
    assert apply_guidance(logits[:1], 3.0).tolist() == [[1.0, 2.0]]


def possible_codes(logits: abc.Sequence[float], **parameters: Any) -> list[int]:
    """Return the codes whose probability is not 0."""
    (weights,) = probabilities(np.float32([logits]), sampling(**parameters))
    codes: list[int] = np.flatnonzero(weights).tolist()
    return codes


def test_top_k_keeps_codes_equal_to_the_kth() -> None:
    """0 is off, and so is any number that is not smaller than the vocabulary."""
    logits = [1, 3, 2, 2, 0]

    assert possible_codes(logits, top_k=2) == [1, 2, 3]
    assert possible_codes(logits, top_k=1) == [1]
    for off in (0, 5, 1000):
        assert possible_codes(logits, top_k=off) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_most_likely_codes_up_to_it() -> None:
    """1 is off; 0 keeps the most likely code, among equals the last."""
    logits = np.log([0.1, 0.4, 0.3, 0.2]).tolist()

    assert possible_codes(logits, top_p=0.65) == [1, 2]
    assert possible_codes(logits, top_p=0.75) == [1, 2, 3]
    assert possible_codes(logits, top_p=1.0) == [0, 1, 2, 3]
    assert possible_codes(logits, top_p=0.0) == [1]
    assert possible_codes([0, 0, 0, 0], top_p=0.0) == [3]


def test_a_low_temperature_sharpens_the_distribution() -> None:
    """The lowest one that is allowed leaves a single code where logits differ, and no infinity."""
    assert probabilities(np.float32([[0, 1, 400]]), sampling(temperature=0.01)).tolist() == [[0, 0, 1]]


def test_codebooks_do_not_affect_each_other() -> None:
    """Each has its own maximum, its own k-th code and its own total."""
    logits = (np.random.default_rng(0).normal(size=(4, 50)) * [[1], [5], [0.1], [20]]).astype(np.float32)
    parameters: tuple[dict[str, Any], ...] = (
        {"top_k": 7},
        {"top_p": 0.8},
        {"top_k": 20, "top_p": 0.5, "temperature": 0.3},
    )
    for values in parameters:
        together = probabilities(logits, sampling(**values))
        alone = [probabilities(row[None], sampling(**values))[0] for row in logits]
        assert np.array_equal(together, alone)


def test_sampling_inverts_the_cumulative_distribution() -> None:
    """A uniform on a boundary belongs to the code above it; a code of probability 0 is never sampled."""
    weights = np.array([0.0, 2.0, 0.0, 6.0, 0.0])
    numbers = np.array([0.0, 0.2499, 0.25, 0.5, 1 - 2.0**-53])

    assert sample(np.tile(weights, (5, 1)), numbers).tolist() == [1, 1, 3, 3, 3]


def test_sampled_codes_follow_the_probabilities() -> None:
    """20,000 samples, to three standard deviations."""
    weights = probabilities(np.log(np.float32([[1, 2, 3, 4]])), sampling())
    codes = sample(np.tile(weights, (20_000, 1)), uniforms(7, 5000, 4).ravel())

    frequencies = np.bincount(codes, minlength=4) / len(codes)
    assert np.abs(frequencies - [0.1, 0.2, 0.3, 0.4]).max() < 3 * (0.25 / 20_000) ** 0.5


def philox(key: int, counter: int) -> list[int]:
    """Compute Philox4x64-10 by Salmon et al. 2011, section 4.2 (with the constants of the Random123 library)."""
    mask, keys, words = 2**64 - 1, [key, 0], [counter, 0, 0, 0]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(b >> 64) ^ words[1] ^ keys[0], b & mask, (a >> 64) ^ words[3] ^ keys[1], a & mask]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) & mask, (keys[1] + 0xBB67AE8584CAA73B) & mask]
    return words


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1])
def test_uniforms_are_a_published_function_of_the_seed(seed: int) -> None:
    """The expected numbers are computed from the paper, so no version of numpy can change what a seed means."""
    words = [word for counter in range(1, 7) for word in philox(seed, counter)]

    assert uniforms(seed, 6, 4).ravel().tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_a_uniform_depends_on_step_and_codebook_alone() -> None:
    """A longer clip begins with the numbers of a shorter one."""
    assert np.array_equal(uniforms(3, 500, 4)[:20], uniforms(3, 20, 4))
