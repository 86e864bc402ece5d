"""The bodies of requests while they arrive: each has a size and a time, and all together have a size."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from musicgen_cli import limits

BODY_S = 10.0  # within which a request's body must arrive
ARRIVING_BYTES = 64 * limits.REQUEST_BYTES  # of all usual bodies that are arriving
ARRIVING_SOUNDS = 4  # larger bodies at a time, of which one client may have all but one
SOUND_BYTES_PER_S = 128 * 1024  # a body with a sound must arrive at least as fast, after the time that all have
_CLOSE = {"Connection": "close"}


class Bodies:
    """
    Reads bodies.

    When all that arrive are too large together, the largest of the client with the most bytes is given up, of several
    the oldest. Usual requests are small, and a large one that is sent at once is complete at once. Its connection stays
    open, and the server throws away what still comes: a client that means harm would only open another one.

    A body that is larger than usual ones has a sound in it; whether it is wanted is asked as soon as that is known, by
    its head or by what has arrived of it. Few of these arrive at a time, and further ones are refused: if they pushed
    each other out, none would arrive.

    Args:
        body_s: Seconds within which a body must arrive.
        total_bytes: Of all usual bodies that are arriving.
    """

    def __init__(self, body_s: float, total_bytes: int = ARRIVING_BYTES) -> None:
        self._body_s = body_s
        self._total_bytes = total_bytes
        self._arriving: dict[_Body, None] = {}  # the usual ones, the oldest first
        self._bytes = 0  # of all of them
        self._large: Counter[str] = Counter()  # by client, the number of larger ones

    async def read(
        self, scope: Scope, receive: Receive, client: str, admit_large: Callable[[], None] | None = None
    ) -> bytes:
        """
        Read a body, counting the bytes that arrive, whatever Content-Length says.

        Args:
            client: Who sends it.
            admit_large: Called before more than the usual size is read; it raises what a large body is refused with.
                None refuses all with 413.

        Raises:
            HTTPException: 408: it took too long; 413: it is too large; 503: too many arrive at the same time.
            ClientDisconnect: The client disconnected first.
            Exception: Whatever `admit_large` raised.
        """
        declared = _declared_bytes(scope)
        async with self._arrival(client) as body:
            if declared > limits.REQUEST_BYTES:
                self._admit_large(body, declared, admit_large)
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                if (size := len(body.data) + len(chunk)) > limits.REQUEST_BYTES:
                    self._admit_large(body, size, admit_large)
                    body.extend_deadline(self._body_s + size / SOUND_BYTES_PER_S)
                body.data += chunk
                if not body.is_large:
                    self._bytes += len(chunk)
                    self._bound()
                if body.is_given_up:
                    raise _too_many()
                more = message.get("more_body", False)
            return bytes(body.data)

    @asynccontextmanager
    async def _arrival(self, client: str) -> AsyncIterator[_Body]:
        """Count a body among those that arrive, for a bounded time."""
        body = None
        try:
            async with asyncio.timeout(self._body_s) as deadline:
                body = _Body(client, deadline)
                self._arriving[body] = None
                yield body
        except TimeoutError as err:
            if body is not None and body.is_given_up:
                raise _too_many() from err
            seconds = self._body_s if body is None else body.seconds
            raise HTTPException(408, f"the body did not arrive within {seconds:g} s", _CLOSE) from err
        finally:
            if body is not None:
                self._forget(body)

    def _admit_large(self, body: _Body, size: int, admit: Callable[[], None] | None) -> None:
        """
        Refuse a body that is larger than usual, unless it may be.

        Args:
            size: Its bytes, as far as they are known.

        Raises:
            HTTPException: 413, 503.
            Exception: Whatever `admit` raised.
        """
        most = limits.REQUEST_BYTES if admit is None else limits.SOUND_REQUEST_BYTES
        if size > most:
            raise HTTPException(413, f"the body must be at most {most} bytes")
        if admit is None or body.is_large:
            return
        admit()
        if self._large.total() >= ARRIVING_SOUNDS or self._large[body.client] >= ARRIVING_SOUNDS - 1:
            raise _too_many()
        self._forget(body)
        body.is_large = True
        self._large[body.client] += 1

    def _bound(self) -> None:
        """Give usual bodies up until the others are small enough together."""
        while self._bytes > self._total_bytes:
            sizes: Counter[str] = Counter()
            for body in self._arriving:
                sizes[body.client] += len(body.data)
            ((client, _),) = sizes.most_common(1)
            largest = max((body for body in self._arriving if body.client == client), key=lambda body: len(body.data))
            self._forget(largest)
            largest.give_up()

    def _forget(self, body: _Body) -> None:
        """Don't count a body any more."""
        if body in self._arriving:
            del self._arriving[body]
            self._bytes -= len(body.data)
        elif body.is_large:
            body.is_large = False
            self._large[body.client] -= 1
            self._large += Counter()  # drops clients that have none


class _Body:
    """A body that is arriving."""

    def __init__(self, client: str, deadline: asyncio.Timeout) -> None:
        self.client = client
        self.data = bytearray()
        self.is_large = False
        self.is_given_up = False
        self._deadline = deadline
        self._started = asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        """How long it may take, from its beginning, as far as it has arrived."""
        ends = self._deadline.when()
        assert ends is not None
        return round(ends - self._started, 1)

    def extend_deadline(self, seconds: float) -> None:
        """Let it arrive until so long after its beginning."""
        self._deadline.reschedule(self._started + seconds)

    def give_up(self) -> None:
        """Free its bytes, and end its reading at once."""
        self.data.clear()
        self.is_given_up = True
        self._deadline.reschedule(asyncio.get_running_loop().time())


def _too_many() -> HTTPException:
    return HTTPException(503, "too many bodies are arriving", {"Retry-After": "1"})


def _declared_bytes(scope: Scope) -> int:
    """Return the Content-Length, 0 without one; the server has checked that it is a number."""
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0
