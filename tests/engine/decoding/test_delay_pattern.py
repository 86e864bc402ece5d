from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, num_frames, num_samples


@pytest.mark.parametrize(
    ("codebooks", "channels", "delays", "steps"),
    [(4, 1, [0, 1, 2, 3], 13), (8, 2, [0, 0, 1, 1, 2, 2, 3, 3], 13), (4, 2, [0, 0, 1, 1], 11), (1, 1, [0], 10)],
)
def test_codebooks_are_delayed(codebooks: int, channels: int, delays: list[int], steps: int) -> None:
    """By one step per codebook, or per pair of codebooks in a stereo model."""
    pattern = DelayPattern(codebooks, channels, 10)

    assert [pattern.delay(k) for k in range(codebooks)] == delays
    assert pattern.steps == steps
    assert sum(len(pattern.codebooks_at(step)) for step in range(steps)) == codebooks * 10


def test_align_puts_the_codes_of_a_frame_into_one_column() -> None:
    """The code of codebook k for frame t was generated at step t + delay(k)."""
    tokens = np.arange(4)[:, None] * 100 + np.arange(8)

    assert DelayPattern(4, 1, 5).align(tokens)[:, 2].tolist() == [2, 103, 204, 305]


@pytest.mark.parametrize(
    ("duration", "rate", "hop", "samples", "frames"),
    [
        (0.5, 32_000, 640, 16_000, 25),
        (0.51, 32_000, 640, 16_320, 26),
        (0.58, 32_000, 640, 18_560, 29),
        (1 / 3, 32_000, 640, 10_667, 17),
        (9.99, 32_000, 640, 319_680, 500),
        (30.0, 32_000, 640, 960_000, 1500),
        (0.07, 10_000, 100, 700, 7),  # 0.07 * 100 is 7.000000000000001
        (1.1, 24_000, 320, 26_400, 83),
    ],
)
def test_a_duration_is_a_whole_number_of_samples_in_the_fewest_frames(
    duration: float, rate: int, hop: int, samples: int, frames: int
) -> None:
    """The last frame is the first one that reaches the end."""
    assert num_samples(duration, rate) == samples
    assert num_frames(samples, hop) == frames
