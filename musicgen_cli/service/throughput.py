"""How fast the service has been recently: the basis of estimated waits and of deadline checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LATEST_WEIGHT = 0.3  # of the latest clip in the moving average of the pace
_HALF_LIFE_S = 60.0  # of work, after which sound and time count half in the rate


class Throughput:
    """Measures clips while they are generated, alone or several at the same time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace: float | None = None  # seconds a clip takes per second of its sound; None before the first clip
        self._clock = clock
        self._running = 0
        self._updated = 0.0  # when the two sums were last brought up to date
        self._work_s = 0.0  # time with at least one clip running; decays
        self._sound_s = 0.0  # of the clips finished in that time; decays

    @contextmanager
    def measure(self, duration: float) -> Iterator[None]:
        """Measure the generation of a clip of `duration` seconds; a failure does not change the pace."""
        started = self.begin()
        made_s = 0.0
        try:
            yield
            made_s = duration
        finally:
            self.end(started, made_s)

    def begin(self) -> float:
        """Begin to measure; `end` takes what this returns."""
        started = self._update()
        self._running += 1
        return started

    def end(self, started: float, sound_s: float) -> None:
        """
        End to measure.

        Args:
            started: What `begin` returned.
            sound_s: Seconds of sound that were generated; 0 if it failed, which does not change the pace.
        """
        now = self._update()
        self._running -= 1
        if sound_s > 0:
            pace = (now - started) / sound_s
            self.pace = pace if self.pace is None else self.pace + _LATEST_WEIGHT * (pace - self.pace)
            self._sound_s += sound_s

    @property
    def rate(self) -> float | None:
        """Seconds of sound per second of work, of all clips together; None before the first clip."""
        return self._sound_s / self._work_s if self._sound_s and self._work_s else None

    def relax(self) -> None:
        """Lower the pace by a tenth, so that after some refusals a request is let through and measured anew."""
        if self.pace is not None:
            self.pace *= 0.9

    def _update(self) -> float:
        """Add the time since the last update to the sums, and return the present time."""
        now = self._clock()
        if self._running:
            elapsed_s = now - self._updated
            decay = 0.5 ** (elapsed_s / _HALF_LIFE_S)
            self._work_s = self._work_s * decay + elapsed_s
            self._sound_s *= decay
        self._updated = now
        return now
