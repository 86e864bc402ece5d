"""A request on its way through the service."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from musicgen_cli.contract import GenerateRequest


class AbandonedError(Exception):
    """Raised into the engine at its next step: nobody waits for this clip any more."""


@dataclass(eq=False, slots=True)
class Job:
    """One request; as the engine's listener it hears the steps, and stops them. Times are of the monotonic clock."""

    request: GenerateRequest
    client: str = ""  # whose it is, for the order: an address
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    steps: int = 0
    total: int = 0  # 0 until the engine has said it
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    abandoned: bool = False

    def step(self, done: int, total: int) -> None:
        """
        Hear of a step, on the engine's thread for this clip.

        Raises:
            AbandonedError: The clip isn't wanted any more.
        """
        self.steps, self.total = done, total
        if self.abandoned:
            raise AbandonedError

    def note(self, text: str) -> None:
        """Ignore a note: nobody could be told before the answer."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples: the answer has them all."""

    def left_s(self, pace: float | None) -> float | None:
        """
        Reckon the seconds of work left; None while nothing is known.

        Args:
            pace: Seconds of work per second of sound, of requests before this one.
        """
        spent_s = 0.0 if self.started is None else time.monotonic() - self.started
        if self.steps:
            return spent_s * (self.total - self.steps) / self.steps
        return None if pace is None else max(0.0, self.request.duration * pace - spent_s)
