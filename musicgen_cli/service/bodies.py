"""The bodies of requests while they arrive: each has a size and a time, and all together have a size."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from musicgen_cli import limits

BODY_S = 10.0  # within which a request's body must arrive
ARRIVING_BYTES = 64 * limits.REQUEST_BYTES  # of all bodies that are arriving
_CLOSE = {"Connection": "close"}


class Bodies:
    """
    Reads bodies.

    When all that arrive are too large together, the largest of the client with the most bytes is given up, of several
    the oldest. Usual requests are small, and a large one that is sent at once is complete at once. Its connection stays
    open, and the server throws away what still comes: a client that means harm would only open another one.

    Args:
        body_s: Seconds within which a body must arrive.
        total_bytes: Of all bodies that are arriving.
    """

    def __init__(self, body_s: float, total_bytes: int = ARRIVING_BYTES) -> None:
        self._body_s = body_s
        self._total_bytes = total_bytes
        self._arriving: dict[_Body, None] = {}  # the oldest first
        self._bytes = 0  # of all of them

    async def read(self, scope: Scope, receive: Receive, client: str) -> bytes:
        """
        Read a body, counting the bytes that arrive, whatever Content-Length says.

        Args:
            client: Who sends it.

        Raises:
            HTTPException: 408: it took too long; 413: it is too large; 503: too many arrive at the same time.
            ClientDisconnect: The client disconnected first.
        """
        if _declared_bytes(scope) > limits.REQUEST_BYTES:
            raise _too_large()
        async with self._arrival(client) as body:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                body.data += chunk
                self._bytes += len(chunk)
                if len(body.data) > limits.REQUEST_BYTES:
                    raise _too_large()
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
            raise HTTPException(408, f"the body did not arrive within {self._body_s:g} s", _CLOSE) from err
        finally:
            if body is not None:
                self._forget(body)

    def _bound(self) -> None:
        """Give bodies up until the others are small enough together."""
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


class _Body:
    """A body that is arriving."""

    def __init__(self, client: str, deadline: asyncio.Timeout) -> None:
        self.client = client
        self.data = bytearray()
        self.is_given_up = False
        self._deadline = deadline

    def give_up(self) -> None:
        """Free its bytes, and end its reading at once."""
        self.data.clear()
        self.is_given_up = True
        self._deadline.reschedule(asyncio.get_running_loop().time())


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body must be at most {limits.REQUEST_BYTES} bytes")


def _too_many() -> HTTPException:
    return HTTPException(503, "too many bodies are arriving", {"Retry-After": "1"})


def _declared_bytes(scope: Scope) -> int:
    """Return the Content-Length, 0 without one; the server has checked that it is a number."""
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0
