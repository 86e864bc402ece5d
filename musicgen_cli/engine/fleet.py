"""Several HTTP services as one engine: each request goes to the least busy one that can be reached."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Abilities, Clip, Engine, Inputs, Origin, ProgressListener
from musicgen_cli.errors import NO_SERVICE_HINT, NoServiceError, NotOfferedError, ServiceError, ServiceUnreachableError
from musicgen_cli.limits import BACKOFF_FIRST_S, BACKOFF_MOST_S
from musicgen_cli.text import number


@dataclass(slots=True)
class _Member:
    """One service and its state."""

    engine: Engine
    running: int = 0  # requests
    backoff_s: float = 0.0  # 0: it is up; else the wait after its last failure
    retry_at: float = -math.inf  # when it may be tried again, on the monotonic clock


class Fleet:
    """
    An engine made of several services with the same model.

    A service that cannot be reached is left out, and tried again with one request at a time after a wait that doubles
    from `BACKOFF_FIRST_S` to `BACKOFF_MOST_S`.
    """

    def __init__(
        self, engines: Sequence[Engine], *, model: str | None, max_outage_s: float, warn: Callable[[str], None]
    ) -> None:
        """
        Start with all services taken to be up.

        Args:
            engines: At least one.
            model: The model that all of them have, None if it is not known. A clip by another model is refused.
            max_outage_s: How long all of them may be down at the same time before requests fail.
            warn: Is called with one line when a service is left out, and when it is back.
        """
        self.origin = Origin("http", model=model)
        self.slots = sum(engine.slots for engine in engines)
        self.abilities = Abilities()  # its members are asked when a request needs more
        self._members = [_Member(engine) for engine in engines]
        self._max_outage_s = max_outage_s
        self._warn = warn
        self._changed = threading.Condition()  # guards the members' state and `_outage_since`
        self._outage_since: float | None = None  # when the last service went down; None while one is up

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        """
        Generate one clip on the least busy service; if that cannot be reached, on another.

        Raises:
            NoServiceError: All services have been down for `max_outage_s`.
            NotOfferedError: None of the services can make such a clip, but for those that have been down as long.
            ServiceError: The service has another model than the fleet.
            MusicgenError: What the service's own engine raises.
        """
        unable: dict[int, NotOfferedError] = {}  # by number, the members that can't serve this request
        while True:
            member = self._acquire(unable)
            try:
                clip = member.engine.generate(request, listener, inputs)
            except ServiceUnreachableError as err:
                self._release(member, err)
                continue
            except NotOfferedError as err:
                self._release(member)
                unable[self._members.index(member)] = err
                continue
            except BaseException:
                self._release(member)
                raise
            self._release(member)
            if self.origin.model is not None and clip.origin.model not in {None, self.origin.model}:
                raise ServiceError(
                    f"{member.engine.origin.url} has the model {clip.origin.model!r} now, not {self.origin.model!r}",
                    hint="run the same command again to use the new model",
                )
            return clip

    def mark_down(self, engine: Engine, err: ServiceUnreachableError) -> None:
        """Leave out one of the services, which could not be reached before the first request."""
        for member in self._members:
            if member.engine is engine:
                member.running += 1
                self._release(member, err)

    def close(self) -> None:
        """Close the engines of all services."""
        for member in self._members:
            member.engine.close()

    def _acquire(self, unable: Mapping[int, NotOfferedError]) -> _Member:
        """
        Choose the service for the next request, waiting while all are down.

        Args:
            unable: Why services can't serve this request, by their number.
        """
        started = time.monotonic()
        with self._changed:
            while True:
                now = time.monotonic()
                able = [member for number, member in enumerate(self._members) if number not in unable]
                if not able or (unable and now - started >= self._max_outage_s):
                    raise next(iter(unable.values()))
                # One request at a time finds out whether a service is still down.
                ready = [m for m in able if not m.backoff_s or (m.retry_at <= now and not m.running)]
                if ready:
                    member = min(ready, key=lambda m: (m.running, m.backoff_s))
                    member.running += 1
                    return member
                if self._outage_since is not None and now - self._outage_since >= self._max_outage_s:
                    raise NoServiceError(
                        f"no musicgen service could be reached for {number(self._max_outage_s)} s",
                        hint=f"{NO_SERVICE_HINT}; the same command again makes what is missing",
                    )
                self._changed.wait(max(0.05, min(m.retry_at for m in able) - now))

    def _release(self, member: _Member, err: ServiceUnreachableError | None = None) -> None:
        """Record that a request of a service has ended; `err` if the service could not be reached."""
        with self._changed:
            member.running -= 1
            was_up = not member.backoff_s
            if err is None:
                member.backoff_s = 0.0
                self._outage_since = None
            else:
                member.backoff_s = min(2 * member.backoff_s, BACKOFF_MOST_S) or BACKOFF_FIRST_S
                member.retry_at = time.monotonic() + member.backoff_s
                if self._outage_since is None and all(m.backoff_s for m in self._members):
                    self._outage_since = time.monotonic()
            is_up = not member.backoff_s
            self._changed.notify_all()
        if was_up and not is_up:
            self._warn(f"{err}; it is left out, and tried again later")
        elif is_up and not was_up:
            self._warn(f"{member.engine.origin.url} is back")
