from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.decoding.seam import Seam


def joined(seam: Seam, samples: Any, sizes: list[int]) -> Any:
    """Pass samples on in pieces of the given sizes, and then the rest."""
    bounds = np.cumsum([0, *sizes, samples.shape[1]])
    return np.concatenate([seam.join(samples[:, a:b]) for a, b in pairwise(bounds)], axis=1)


@pytest.mark.parametrize("sizes", [[], [1] * 150, [95, 5, 3], [99, 1, 1], [120]])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_end_of_the_sound_fades_into_what_follows(sizes: list[int], channels: int) -> None:
    """The context before it is skipped; the pieces in which samples come don't matter."""
    rng = np.random.default_rng(1)
    end = rng.normal(size=(channels, 10)).astype(np.float32)
    samples = rng.normal(size=(channels, 200)).astype(np.float32)
    result = joined(Seam(end, context=100), samples, sizes)

    assert result.shape == (channels, 110)
    assert np.array_equal(result[:, 10:], samples[:, 100:])
    share = (result[:, :10] - end) / (samples[:, 90:100] - end)
    assert np.allclose(share, np.sin(np.linspace(0, np.pi / 2, 12)[1:-1]) ** 2, atol=1e-3)


def test_a_context_that_is_the_sound_itself_changes_nothing() -> None:
    """Not even in the last bit: a codec that makes the same samples again leaves them as they are."""
    samples = np.random.default_rng(2).normal(size=(1, 500)).astype(np.float32)

    assert np.array_equal(Seam(samples[:, 80:100], context=100).join(samples), samples[:, 80:])


def test_there_is_no_step_at_the_seam() -> None:
    """Even between opposite levels, no two samples differ by more than the fade needs."""
    result = Seam(np.full((1, 320), 0.5, np.float32), context=1000).join(np.full((1, 2000), -0.5, np.float32))
    whole = np.concatenate([[0.5], result[0]])

    assert np.abs(np.diff(whole)).max() < 2 / 320
