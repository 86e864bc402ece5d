"""One request inside the service: its state, its progress, its turns, and how it is cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Inputs
from musicgen_cli.service.callers import Caller

_NOBODY = Caller("")


class JobCancelledError(Exception):
    """Raised into the engine between two steps: the job was cancelled."""


@dataclass(eq=False, slots=True)
class Job:
    """
    A request to `/predict`, from its arrival to its answer; also the engine's progress listener for it.

    A clip of several windows takes a turn for each of them, and may have to wait between two. Times are of the
    monotonic clock.
    """

    request: GenerateRequest
    caller: Caller = _NOBODY  # callers of the same client share its turns; only the caller sees the progress
    inputs: Inputs = NO_INPUTS  # forgotten when the job ends
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    steps: int = 0
    total: int = 0  # 0 until the engine has reported a step
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None  # its first turn
    cancelled: bool = False
    on_pause: Callable[[Job], None] | None = None  # called between two windows; returns when the next one may begin
    work_s: float = field(init=False)  # seconds of sound to generate: the clip's, and those that it makes again
    source: str | None = field(init=False)  # what it is made from, for the log
    _spent_s: float = field(default=0.0, init=False)  # in turns that have ended
    _turn_started: float | None = field(default=None, init=False)  # of the present turn
    _skipped: int = field(default=0, init=False)  # steps that were done before, by a service that was stopped
    _counted_s: float = field(default=0.0, init=False)  # of `work_s`, in turns that have ended

    def __post_init__(self) -> None:
        self.work_s = self.request.duration
        recipe = self.inputs.recipe
        while recipe is not None:
            self.work_s += recipe.request.duration
            recipe = recipe.inputs.recipe
        kinds = ("recipe", self.inputs.recipe), ("sound", self.inputs.continue_wav), ("melody", self.inputs.melody_wav)
        self.source = "+".join(kind for kind, value in kinds if value is not None) or None

    @property
    def client(self) -> str:
        """Whose turn it takes."""
        return self.caller.client

    @property
    def is_begun(self) -> bool:
        """Whether it has had a turn."""
        return self.started is not None

    @property
    def is_long(self) -> bool:
        """Whether it takes several turns."""
        return self.work_s > limits.CONTEXT_S

    def begin_turn(self) -> None:
        """Record that it runs now."""
        self.state, self._turn_started = "running", time.monotonic()
        if self.started is None:
            self.started = self._turn_started

    def end_turn(self) -> float:
        """Record that it waits for its next turn, or has ended well; return the seconds of sound that the turn made."""
        self._spent_s = self._all_spent_s()
        self._turn_started = None
        made_s = self.work_s * (self.steps - self._skipped) / self.total if self.total else self.work_s
        made_s, self._counted_s = made_s - self._counted_s, made_s
        return made_s

    def step(self, done: int, total: int) -> None:
        """
        Record the progress, on the engine's thread for this clip.

        Raises:
            JobCancelledError: The job was cancelled.
        """
        if not self.total:
            self._skipped = done - 1
        self.steps, self.total = done, total
        self._check()

    def note(self, text: str) -> None:
        """Ignore a note: nothing is sent to the client before the answer."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples: the answer contains all of them."""

    def pause(self) -> None:
        """
        Return when the next window may begin.

        Raises:
            JobCancelledError: The job was cancelled.
        """
        if self.on_pause is not None:
            self.on_pause(self)
        self._check()

    def remaining_s(self, pace: float | None) -> float | None:
        """
        Estimate the seconds of work left: from the job's own steps, else from `pace`; None without either.

        Args:
            pace: Seconds of work per second of sound, of earlier requests.
        """
        spent_s = self._all_spent_s()
        if self.steps:
            return spent_s * (self.total - self.steps) / (self.steps - self._skipped)
        return None if pace is None else max(0.0, self.work_s * pace - spent_s)

    def turn_left_s(self, pace: float | None) -> float | None:
        """Estimate the seconds until its present turn, or its next one if it waits, has ended; as `remaining_s`."""
        left_s = self.remaining_s(pace)
        if not left_s or not self.is_long:
            return left_s
        left_of_sound = self.work_s * (1 - self.steps / self.total) if self.total else self.work_s
        spent_s = 0.0 if self._turn_started is None else time.monotonic() - self._turn_started
        return min(left_s, max(0.0, limits.CONTEXT_S * left_s / left_of_sound - spent_s)) if left_of_sound else left_s

    def _all_spent_s(self) -> float:
        return self._spent_s + (0.0 if self._turn_started is None else time.monotonic() - self._turn_started)

    def _check(self) -> None:
        if self.cancelled:
            raise JobCancelledError
