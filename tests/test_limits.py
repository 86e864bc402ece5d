from __future__ import annotations

import math

import pytest

from musicgen_cli import limits
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, num_frames, num_samples
from musicgen_cli.limits import Range


def test_a_range_includes_its_bounds_and_excludes_nan() -> None:
    """A value of another type isn't in a range either."""
    allowed = Range(0.5, 30.0, default=10.0, unit="s")

    assert all(value in allowed for value in (0.5, 30))
    assert not any(value in allowed for value in (0.4, 30.1, math.nan, "1"))
    assert str(allowed) == "0.5-30 s"
    assert str(Range(0, 1000, default=250)) == "0-1000"


@pytest.mark.parametrize(("value", "nearest"), [(31, 30), (31.5, 30.0), (0.1, 0.5), (0, 0.5), (7, 7)])
def test_a_value_out_of_range_is_clamped_to_the_nearest_bound(value: float, nearest: float) -> None:
    """An integer stays one if the bound is whole."""
    clamped = Range(0.5, 30.0, default=10.0).clamp(value)

    assert clamped == nearest
    assert isinstance(clamped, int) is (isinstance(value, int) and nearest != 0.5)


def test_every_request_fits_the_models_context() -> None:
    """The longest request has at most 1500 frames, and with the pattern's delays 1503 steps."""
    frames = num_frames(num_samples(limits.CONTEXT_S, limits.SAMPLE_RATE), limits.CODEC_STRIDE)

    assert limits.DURATION.low <= limits.CONTEXT_S <= limits.DURATION.high
    assert frames == limits.CONTEXT_S * limits.FRAMES_PER_SECOND == 1500
    assert DelayPattern(4, 1, frames).steps == 1503  # it is part of the cached graphs' label
