"""When a request to an HTTP service is sent again, and after which wait. The only file that imports stamina."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from musicgen_cli import limits
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.engine.responses import is_away, is_refused, retry_after_s
from musicgen_cli.errors import ServiceBusyError, ServiceError

T = TypeVar("T")

_SHORTEST_WAIT_S = 0.05  # "Retry-After: 0" must not become a busy loop
_STARTING_WAIT_S = 0.25  # between two attempts to reach a service that may be starting

# The listener receives a note of each wait; without a handler of its own, stamina's log would reach stderr as well.
logging.getLogger("stamina").addHandler(logging.NullHandler())


async def retry(send: Callable[[], Awaitable[T]], policy: RetryPolicy) -> T:
    """
    Call `send` until it succeeds or the policy gives up.

    Raises:
        Exception: What the last call raised.
    """
    async for attempt in stamina.retry_context(on=policy, attempts=None, timeout=None):
        with attempt:
            return await send()
    raise AssertionError("stamina either returns or raises")


class RetryPolicy:
    """
    Decides after each failure of one request whether it is sent again, and when.

    A busy service is waited for: as long as its Retry-After says, else with jittered exponential backoff. So is one
    that a reverse proxy can't reach, for it may be restarting. A refused connection to loopback is tried again for
    `limits.STARTING_S`, because the service may be starting. Every other failure is final: after a broken connection or
    a time-out the service may still be working on the request. A service that says that it goes on with what was cut
    off has stopped working on it, and is waited for, as it may be restarting.
    """

    def __init__(
        self,
        max_wait_s: float,
        listener: ProgressListener,
        *,
        loopback: bool,
        waits_for_away: bool,
        resumes: bool = False,
    ) -> None:
        """
        Start with all of the waiting time left.

        Args:
            max_wait_s: The sum of all waits for a service that is busy or away.
            listener: Is notified of each of them.
            loopback: Whether the service is on this machine.
            waits_for_away: Whether one that a reverse proxy can't reach is waited for.
            resumes: Whether the service goes on with what was cut off.
        """
        self._resumes = resumes
        self._left_s = max_wait_s
        self._listener = listener
        self._starting_s = limits.STARTING_S if loopback else 0.0
        self._waits_for_away = waits_for_away
        self._backoff_s = limits.BACKOFF_FIRST_S

    def __call__(self, err: Exception) -> float | bool:
        """Return the seconds to wait before the next attempt, or False to give up."""
        if isinstance(err, ServiceBusyError) or (self._waits_for_away and is_away(err)):
            return self._wait(err)
        broke = isinstance(err, ServiceError) and err.connection_broke
        if self._resumes and (broke or (self._waits_for_away and is_refused(err))):
            return self._wait(err)
        if is_refused(err) and self._starting_s > 0:
            self._starting_s -= _STARTING_WAIT_S
            return _STARTING_WAIT_S
        return False

    def _wait(self, err: Exception) -> float | bool:
        wait_s = retry_after_s(err)
        if wait_s is None:
            wait_s = self._backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
            self._backoff_s = min(2 * self._backoff_s, limits.BACKOFF_MOST_S)
        wait_s = max(wait_s, _SHORTEST_WAIT_S)
        if wait_s > self._left_s:
            return False
        self._left_s -= wait_s
        self._listener.note(f"{err}, trying again in {wait_s:.0f} s" if wait_s >= 1 else f"{err}, trying again")
        return wait_s
