"""
What published models generate, as known from elsewhere: the values in the tests of transformers.

Source: tests/models/musicgen/test_modeling_musicgen.py of huggingface/transformers (commit 01080c6), classes
MusicgenIntegrationTests and MusicgenStereoIntegrationTests; musicgen_melody/test_modeling_musicgen_melody.py, class
MusicgenMelodyIntegrationTests. They were made greedily, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from musicgen_cli.checkpoint.checkpoint import Checkpoint, local_name
from musicgen_cli.checkpoint.tensors import FloatArray


@dataclass(frozen=True, slots=True)
class PublishedClip:
    """The start of a greedy clip."""

    prompt: str | None
    guidance_scale: float  # 1 = off
    steps: int  # "new tokens" in transformers
    samples: Sequence[Sequence[float]]  # the first ones of each channel
    has_tune: bool = False  # whether it follows `beeps`


def clips_of(checkpoint: Checkpoint) -> Sequence[PublishedClip]:
    """Return the clips that are known of a model, by its name or by where it was pulled from."""
    source = checkpoint.manifest.source if checkpoint.manifest else checkpoint.name
    return CLIPS.get(local_name(source), ())


def beeps() -> FloatArray:
    """Return the tune of those tests, mono at 32,000 Hz: a second whose first half has two beeps of 440 Hz."""
    time = np.arange(32_000) / 32_000
    is_heard = (time % 0.25 >= 0.125) & (time < 0.5)
    return (np.cos(2 * np.pi * 440 * time) * is_heard).astype(np.float32)


_80S = "80s music"
_MELODY_80S = [  # with guidance and without it
    *(1.2741e-04, -8.0474e-05, 5.5789e-04, 1.0402e-03, 2.6547e-04, 1.5597e-05, -1.4210e-04, -9.7309e-05),
    *(6.4504e-04, 5.0903e-04, 9.6475e-04, 1.0499e-03, 3.7215e-05, -5.3651e-04, -3.6578e-04, -2.5678e-04),
]

CLIPS: Mapping[str, tuple[PublishedClip, ...]] = {
    "small": (
        PublishedClip(
            _80S,
            3.0,
            10,
            [
                [
                    *(0.0283, 0.0246, 0.0650, 0.0640, 0.0599, 0.0711, 0.0420, 0.0112),
                    *(0.0511, 0.0746, 0.1363, 0.1213, 0.0185, -0.0578, -0.0908, 0.0443),
                ]
            ],
        ),
        PublishedClip(
            _80S,
            1.0,
            10,
            [
                [
                    *(-1.1998e-04, -2.2302e-04, 4.6296e-04, 1.0524e-03, 2.4827e-04),
                    *(-4.0288e-05, -1.2468e-04, 4.9846e-05, 7.1485e-04, 4.4197e-04),
                ]
            ],
        ),
        PublishedClip(
            None,
            1.0,
            5,
            [
                [
                    *(0.0056, 0.0064, 0.0063, 0.0054, 0.0042, 0.0033, 0.0024, 0.0015),
                    *(0.0015, 0.0010, 0.0004, -0.0012, -0.0036, -0.0055, -0.0067, -0.0071),
                ]
            ],
        ),
    ),
    "melody": (
        PublishedClip(_80S, 3.0, 10, [_MELODY_80S]),
        PublishedClip(_80S, 1.0, 10, [_MELODY_80S[:10]]),
        PublishedClip(
            _80S,
            1.0,
            10,
            [
                [
                    *(-1.1999e-04, -2.2303e-04, 4.6296e-04, 1.0524e-03, 2.4827e-04, -4.0294e-05),
                    *(-1.2468e-04, 4.9846e-05, 7.1484e-04, 4.4198e-04, 7.9063e-04, 8.8141e-04),
                    *(-6.1807e-05, -6.1856e-04, -3.6235e-04, -2.7226e-04),
                ]
            ],
            has_tune=True,
        ),
        PublishedClip(
            None,
            1.0,
            10,
            [
                [
                    *(1.2741e-04, -8.0466e-05, 5.5789e-04, 1.0402e-03, 2.6547e-04, 1.5587e-05),
                    *(-1.4210e-04, -9.7303e-05, 6.4504e-04, 5.0903e-04, 9.6474e-04, 1.0498e-03),
                    *(3.7210e-05, -5.3652e-04, -3.6579e-04, -2.5678e-04),
                ]
            ],
        ),
    ),
    "stereo-small": (
        PublishedClip(
            None,
            1.0,
            12,
            [
                [
                    *(0.0017, 0.0004, 0.0004, 0.0005, 0.0002, 0.0002, -0.0002, -0.0013),
                    *(-0.0010, -0.0015, -0.0018, -0.0032, -0.0060, -0.0082, -0.0096, -0.0099),
                ],
                [
                    *(0.0038, 0.0028, 0.0031, 0.0032, 0.0031, 0.0032, 0.0030, 0.0019),
                    *(0.0021, 0.0015, 0.0009, -0.0008, -0.0040, -0.0067, -0.0087, -0.0096),
                ],
            ],
        ),
    ),
}
