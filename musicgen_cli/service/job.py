"""One request inside the service: its state, its progress, and how it is cancelled."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.service.callers import Caller

_NOBODY = Caller("")


class JobCancelledError(Exception):
    """Raised into the engine between two steps: the job was cancelled."""


@dataclass(eq=False, slots=True)
class Job:
    """
    A request to `/predict`, from its arrival to its answer; also the engine's progress listener for it.

    Times are of the monotonic clock.
    """

    request: GenerateRequest
    caller: Caller = _NOBODY  # callers of the same client share its turns; only the caller sees the progress
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    steps: int = 0
    total: int = 0  # 0 until the engine has reported a step
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    cancelled: bool = False

    @property
    def client(self) -> str:
        """Whose turn it takes."""
        return self.caller.client

    def step(self, done: int, total: int) -> None:
        """
        Record the progress, on the engine's thread for this clip.

        Raises:
            JobCancelledError: The job was cancelled.
        """
        self.steps, self.total = done, total
        if self.cancelled:
            raise JobCancelledError

    def note(self, text: str) -> None:
        """Ignore a note: nothing is sent to the client before the answer."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples: the answer contains all of them."""

    def remaining_s(self, pace: float | None) -> float | None:
        """
        Estimate the seconds of work left: from the job's own steps, else from `pace`; None without either.

        Args:
            pace: Seconds of work per second of sound, of earlier requests.
        """
        spent_s = 0.0 if self.started is None else time.monotonic() - self.started
        if self.steps:
            return spent_s * (self.total - self.steps) / self.steps
        return None if pace is None else max(0.0, self.request.duration * pace - spent_s)
