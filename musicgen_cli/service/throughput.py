"""How fast the service is of late: what waits and deadlines are reckoned from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_FRESH = 0.3  # weight of the latest clip in the running average
_HALF_S = 60.0  # of work, after which sound and time count half in the rate


class Throughput:
    """Measures clips while they are made, with as much company as they have."""

    def __init__(self) -> None:
        self.pace: float | None = None  # seconds that a clip takes per second of its sound; None: never measured
        self._working = 0
        self._since = 0.0  # up to then the time at work is in `_spent_s`
        self._spent_s = 0.0  # at work, what is long ago counting less
        self._sound_s = 0.0  # made meanwhile

    @contextmanager
    def at_work(self, duration: float) -> Iterator[None]:
        """Measure the making of a clip of so many seconds; one that fails says nothing of the pace."""
        started = self._pass_time()
        self._working += 1
        try:
            yield
        finally:
            now = self._pass_time()
            self._working -= 1
        pace = (now - started) / duration
        self.pace = pace if self.pace is None else self.pace + _FRESH * (pace - self.pace)
        self._sound_s += duration

    @property
    def made(self) -> float | None:
        """Seconds of sound, of all clips together, that a second of work makes; None before the first."""
        return self._sound_s / self._spent_s if self._sound_s and self._spent_s else None

    def doubt(self) -> None:
        """Take the pace for a little better than it was."""
        if self.pace is not None:
            self.pace *= 0.9

    def _pass_time(self) -> float:
        now = time.monotonic()
        if self._working:
            passed_s = now - self._since
            fade = 0.5 ** (passed_s / _HALF_S)
            self._spent_s = self._spent_s * fade + passed_s
            self._sound_s *= fade
        self._since = now
        return now
