"""Several services as one engine: each request goes to one that is free, and none to one that is down."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Engine, Origin, ProgressListener
from musicgen_cli.errors import NoServiceError, ServiceError, ServiceUnreachableError
from musicgen_cli.limits import BACKOFF_FIRST_S, BACKOFF_MOST_S
from musicgen_cli.text import number


@dataclass(slots=True)
class _Member:
    engine: Engine
    running: int = 0
    pause_s: float = 0.0  # 0: it is up
    ask_at: float = -math.inf


class Fleet:
    """
    An engine made of several that have the same model.

    Args:
        engines: At least one.
        model: What all of them have, None if it isn't known; a clip by another is refused.
        patience_s: How long none of them may be reachable.
        warn: Hears which one is left out, and which one is back.
    """

    def __init__(
        self, engines: Sequence[Engine], *, model: str | None, patience_s: float, warn: Callable[[str], None]
    ) -> None:
        self.origin = Origin("http", model=model)
        self.slots = sum(engine.slots for engine in engines)
        self._members = [_Member(engine) for engine in engines]
        self._patience_s = patience_s
        self._warn = warn
        self._changed = threading.Condition()
        self._none_since: float | None = None

    def generate(self, request: GenerateRequest, listener: ProgressListener) -> Clip:
        """
        Make one clip on the service that has least to do; where one can't be reached, on another.

        Raises:
            NoServiceError: There has been none for `patience_s`.
            MusicgenError: What the service's own engine raises.
        """
        while True:
            member = self._take()
            try:
                clip = member.engine.generate(request, listener)
            except ServiceUnreachableError as err:
                self._leave(member, err)
                continue
            except BaseException:
                self._leave(member)
                raise
            self._leave(member)
            if self.origin.model is not None and clip.origin.model not in {None, self.origin.model}:
                raise ServiceError(
                    f"{member.engine.origin.url} has the model {clip.origin.model!r} now, not {self.origin.model!r}",
                    hint="the same command again begins with the new model",
                )
            return clip

    def leave_out(self, engine: Engine, err: ServiceUnreachableError) -> None:
        """Ask a service later only, for it can't be reached now."""
        for member in self._members:
            if member.engine is engine:
                member.running += 1
                self._leave(member, err)

    def close(self) -> None:
        """Free what the engines hold."""
        for member in self._members:
            member.engine.close()

    def _take(self) -> _Member:
        with self._changed:
            while True:
                now = time.monotonic()
                # Of those that are down one request at a time finds out whether they still are.
                free = [m for m in self._members if not m.pause_s or (m.ask_at <= now and not m.running)]
                if free:
                    member = min(free, key=lambda m: (m.running, m.pause_s))
                    member.running += 1
                    return member
                if self._none_since is not None and now - self._none_since >= self._patience_s:
                    raise NoServiceError(
                        f"no musicgen service could be reached for {number(self._patience_s)} s",
                        hint="start one with musicgen serve; the same command again makes what is missing",
                    )
                self._changed.wait(max(0.05, min(m.ask_at for m in self._members) - now))

    def _leave(self, member: _Member, err: ServiceUnreachableError | None = None) -> None:
        """Note that a request has ended, and whether its service is there."""
        with self._changed:
            member.running -= 1
            was_up = not member.pause_s
            if err is None:
                member.pause_s = 0.0
                self._none_since = None
            else:
                member.pause_s = min(2 * member.pause_s, BACKOFF_MOST_S) or BACKOFF_FIRST_S
                member.ask_at = time.monotonic() + member.pause_s
                if self._none_since is None and all(m.pause_s for m in self._members):
                    self._none_since = time.monotonic()
            is_up = not member.pause_s
            self._changed.notify_all()
        if was_up and not is_up:
            self._warn(f"{err}; it is left out, and asked again later")
        elif is_up and not was_up:
            self._warn(f"{member.engine.origin.url} is back")
