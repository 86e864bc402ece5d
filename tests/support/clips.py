"""A request for a short clip, and listeners that record or stop its generation: for the tests of the local engines."""

from __future__ import annotations

from typing import Any

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NullListener


def request(**parameters: Any) -> GenerateRequest:
    defaults: dict[str, Any] = {"prompt": "calm ambient piano", "duration": 1.0, "seed": 1}
    return GenerateRequest(**defaults | parameters)


class RecordingListener(NullListener):
    """Records the steps and the samples of a clip."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []  # done, total
        self.chunks: list[tuple[bytes, int, int]] = []  # PCM, sample rate, channels
        self.chunk_steps: list[int] = []  # the steps that were done when a chunk came

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        self.chunks.append((pcm, sample_rate, channels))
        self.chunk_steps.append(self.steps[-1][0])

    @property
    def pcm(self) -> bytes:
        """All samples so far."""
        return b"".join(pcm for pcm, _, _ in self.chunks)


class StoppingListener(NullListener):
    """Stops a clip at a step as Ctrl-C does."""

    def __init__(self, stop_at: int) -> None:
        self.stop_at = stop_at

    def step(self, done: int, total: int) -> None:
        if done >= self.stop_at:
            raise KeyboardInterrupt
