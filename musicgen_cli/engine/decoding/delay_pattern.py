"""The delay pattern: which codebook gets a code at which decoder step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DelayPattern:
    """
    The delay pattern of one clip.

    The code of codebook k for frame t is generated at step ``t + delay(k)``. Before its first frame and after its last
    one, a codebook's token is the start and padding token.

    Source:
        MusicgenForCausalLM.build_delay_pattern_mask; the codebooks of a stereo model alternate between left and right,
        and both of a pair have the same delay.
    """

    codebooks: int  # of all channels together
    channels: int
    frames: int

    @property
    def steps(self) -> int:
        """The number of decoder steps up to the last code of the last frame."""
        return self.frames + self.codebooks // self.channels - 1

    def delay(self, codebook: int) -> int:
        """Return how many steps a codebook is behind the first one."""
        return codebook // self.channels

    def codebooks_at(self, step: int, *, first: int = 0) -> list[int]:
        """Return the codebooks that get a code at a step, for a frame that isn't before `first`."""
        return [k for k in range(self.codebooks) if first <= step - self.delay(k) < self.frames]

    def align(self, tokens: IntArray) -> IntArray:
        """
        Remove the delays from tokens.

        Args:
            tokens: Shape ``(codebooks, steps)``, of the steps that are done.

        Returns:
            The codes of the frames that are complete, shape ``(codebooks, frames)``.
        """
        complete = max(0, tokens.shape[1] - self.delay(self.codebooks - 1))
        return np.stack([row[self.delay(k) :][:complete] for k, row in enumerate(tokens)])


def num_samples(duration: float, sample_rate: int) -> int:
    """Return the number of samples in `duration` seconds at `sample_rate` Hz."""
    return round(duration * sample_rate)


def num_frames(samples: int, hop: int) -> int:
    """
    Return the number of frames of `hop` samples that hold `samples` samples.

    Computed from integers: 0.07 s at 100 Hz is a little more than 7 samples in floating point.
    """
    return -(-samples // hop)
