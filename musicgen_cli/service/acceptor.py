"""
Accepts connections, at most as many as the process may have files.

asyncio's own server accepts all that wait, whether there are files for them or not: without any left it logs a
traceback for each, thousands a second. uvicorn's limit refuses new connections and keeps idle ones, so that a thousand
idle ones lock everybody out. Here connections that have been idle longest are closed for further ones, and of clients
with many only some further ones are let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import socket
from collections.abc import Callable, Collection, Iterator

from musicgen_cli.errors import system_reason
from musicgen_cli.service.callers import network
from musicgen_cli.service.connection import Connection, idle_longest
from musicgen_cli.service.crowd import REFUSAL, Crowd
from musicgen_cli.service.log import fields

CONNECTIONS = 1_000  # at least, if there are files for them
_OTHER_FILES = 64  # of the process: model, log, libraries; some 20 were counted
_BACKLOG = 2_048  # connections that wait in the system until they are accepted
_RETRY_S = 0.1  # after the system had no file left
_LOWERED_S = 60.0  # for which there are fewer connections then
_SPARE_FILES = 8  # that are left to the rest of the process then
_LEAST = 4  # connections
_FULL_S = 0.1  # between two looks for a connection that has ended, if none is idle
_BURST = 32  # connections that are accepted before requests are worked on again
_CLOSED_SHARE = 16  # 1 of 16 idle connections is closed at once, as finding them costs time

log = logging.getLogger(__name__)


def connection_limit(queue_limit: int) -> int:
    """
    Return how many connections may be open, so that files are left for the rest of the process.

    Args:
        queue_limit: Requests that may wait; each has a connection.
    """
    wanted = max(CONNECTIONS, 4 * queue_limit)
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else min(wanted, max(files - _OTHER_FILES, files // 2))


class Acceptor:
    """
    Accepts connections until it is closed.

    Args:
        listener: A socket that listens.
        make_connection: Makes the protocol of a connection, which adds itself to `connections` and leaves them.
        connections: All that are open.
        limit: Of open connections.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_connection: Callable[[], asyncio.Protocol],
        connections: Collection[object],
        limit: int,
    ) -> None:
        self._listener = listener
        self._make_connection = make_connection
        self._connections = connections
        self._limit = self._usual_limit = limit
        self._crowd = Crowd()
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()  # accepted, and not yet among the connections
        listener.setblocking(False)
        listener.listen(_BACKLOG)
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Accept no more."""
        self._accepting.cancel()

    async def _accept(self) -> None:
        """Accept connections; whatever happens to one of them, the next is accepted."""
        for number in itertools.count(1):
            try:
                if number % _BURST == 0:
                    await asyncio.sleep(0)
                while self._count() >= self._limit:
                    await self._make_room()
                accepted, address = await self._loop.sock_accept(self._listener)
            except ConnectionAbortedError:  # the client is gone again
                continue
            except OSError as err:  # no file or memory is left, in the process or in the system
                log.warning("connection not accepted", extra=fields(reason=system_reason(err), open=self._count()))
                self._lower_limit()
                await asyncio.sleep(_RETRY_S)
                continue
            client = network(address[0])
            if self._crowd.refuses(client, self._held(), self._limit):
                self._refuse(accepted, client)
                continue
            opening = self._loop.create_task(self._open(accepted))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    def _held(self) -> Iterator[tuple[str, bool]]:
        return ((each.network, each.is_idle) for each in self._connections if isinstance(each, Connection))

    def _refuse(self, accepted: socket.socket, client: str) -> None:
        """Answer a connection before anything is read, and close it."""
        log.warning("connection refused", extra=fields(client=client, open=self._count(), limit=self._limit))
        with accepted, contextlib.suppress(OSError):  # the client is gone
            accepted.send(REFUSAL)

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_connection, accepted)
        except OSError:  # the client has closed it again
            accepted.close()

    def _lower_limit(self) -> None:
        """Have fewer connections than now for a while, because there are fewer files than were counted on."""
        if self._limit == self._usual_limit:
            self._loop.call_later(_LOWERED_S, self._restore_limit)
        self._limit = max(_LEAST, min(self._limit, self._count()) - _SPARE_FILES)

    def _restore_limit(self) -> None:
        self._limit = self._usual_limit

    async def _make_room(self) -> None:
        """Close the connections that have been idle longest; wait if none is idle."""
        idle = [each for each in self._connections if isinstance(each, Connection) and each.is_idle]
        dropped = idle_longest(idle, math.ceil(len(idle) / _CLOSED_SHARE))
        for connection in dropped:
            connection.transport.abort()
        log.warning(
            "idle connections closed" if dropped else "no connection is idle",
            extra=fields(closed=len(dropped), open=self._count(), limit=self._limit),
        )
        await asyncio.sleep(0 if dropped else _FULL_S)  # asyncio closes their files at its next turn

    def _count(self) -> int:
        return len(self._connections) + len(self._opening)
