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
ARRIVING_BYTES = 64 * limits.REQUEST_BYTES  # of all bodies that are arriving
ARRIVING_SOUND_BYTES = 4 * limits.SOUND_REQUEST_BYTES  # of those with sounds, which have a limit of their own
SOUND_BYTES_PER_S = 128 * 1024  # a body with a sound must arrive at least as fast, after the time that all have
_CLOSE = {"Connection": "close"}


class Bodies:
    """
    Reads bodies.

    A body that is larger than usual ones has a sound in it; whether it is wanted is asked as soon as that is known, by
    its head or by what has arrived of it.

    When all that arrive are too large together, the largest of the client with the most bytes is given up, of several
    the oldest. Usual requests are small, and a large one that is sent at once is complete at once. Its connection stays
    open, and the server throws away what still comes: a client that means harm would only open another one.

    Args:
        body_s: Seconds within which a body must arrive.
        total_bytes: Of all usual bodies that are arriving.
        total_sound_bytes: Of all larger ones.
    """

    def __init__(
        self, body_s: float, total_bytes: int = ARRIVING_BYTES, total_sound_bytes: int = ARRIVING_SOUND_BYTES
    ) -> None:
        self._body_s = body_s
        self._usual, self._large = _Budget(total_bytes), _Budget(total_sound_bytes)

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
        if declared > limits.REQUEST_BYTES:
            _check_large(declared, admit_large)
        async with self._arrival(client) as body:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size = len(body.data) + len(chunk)
                if size > limits.REQUEST_BYTES:
                    _check_large(size, admit_large if body.budget is self._usual else _admitted)
                    body.move_to(self._large)
                    body.extend_deadline(self._body_s + size / SOUND_BYTES_PER_S)
                body.add(chunk)
                body.budget.bound()
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
                body = _Body(client, deadline, self._usual)
                yield body
        except TimeoutError as err:
            if body is not None and body.is_given_up:
                raise _too_many() from err
            seconds = self._body_s if body is None else body.seconds
            raise HTTPException(408, f"the body did not arrive within {seconds:g} s", _CLOSE) from err
        finally:
            if body is not None:
                body.budget.forget(body)


class _Budget:
    """Bodies that are arriving, and how large they may be together."""

    def __init__(self, total_bytes: int) -> None:
        self.arriving: dict[_Body, None] = {}  # the oldest first
        self.bytes = 0  # of all of them
        self._total_bytes = total_bytes

    def bound(self) -> None:
        """Give bodies up until the others are small enough together."""
        while self.bytes > self._total_bytes:
            sizes: Counter[str] = Counter()
            for body in self.arriving:
                sizes[body.client] += len(body.data)
            ((client, _),) = sizes.most_common(1)
            largest = max((body for body in self.arriving if body.client == client), key=lambda body: len(body.data))
            self.forget(largest)
            largest.give_up()

    def forget(self, body: _Body) -> None:
        """Don't count a body any more."""
        if body in self.arriving:
            del self.arriving[body]
            self.bytes -= len(body.data)


class _Body:
    """A body that is arriving."""

    def __init__(self, client: str, deadline: asyncio.Timeout, budget: _Budget) -> None:
        self.client = client
        self.data = bytearray()
        self.budget = budget
        self.is_given_up = False
        self._deadline = deadline
        self._started = asyncio.get_running_loop().time()
        budget.arriving[self] = None

    @property
    def seconds(self) -> float:
        """How long it may take, from its beginning, as far as it has arrived."""
        ends = self._deadline.when()
        assert ends is not None
        return round(ends - self._started, 1)

    def add(self, chunk: bytes) -> None:
        """Add what has arrived."""
        self.data += chunk
        self.budget.bytes += len(chunk)

    def move_to(self, budget: _Budget) -> None:
        """Count among others from now on."""
        if self.budget is not budget:
            self.budget.forget(self)
            self.budget = budget
            budget.arriving[self] = None
            budget.bytes += len(self.data)

    def extend_deadline(self, seconds: float) -> None:
        """Let it arrive until so long after its beginning."""
        self._deadline.reschedule(self._started + seconds)

    def give_up(self) -> None:
        """Free its bytes, and end its reading at once."""
        self.data.clear()
        self.is_given_up = True
        self._deadline.reschedule(asyncio.get_running_loop().time())


def _admitted() -> None:
    """Admit a large body that was admitted before."""


def _check_large(size: int, admit: Callable[[], None] | None) -> None:
    """
    Refuse a body that is larger than usual, unless it may be.

    Raises:
        HTTPException: 413.
        Exception: Whatever `admit` raised.
    """
    most = limits.REQUEST_BYTES if admit is None else limits.SOUND_REQUEST_BYTES
    if size > most:
        raise HTTPException(413, f"the body must be at most {most} bytes")
    if admit is not None:
        admit()


def _too_many() -> HTTPException:
    return HTTPException(503, "too many bodies are arriving", {"Retry-After": "1"})


def _declared_bytes(scope: Scope) -> int:
    """Return the Content-Length, 0 without one; the server has checked that it is a number."""
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0
