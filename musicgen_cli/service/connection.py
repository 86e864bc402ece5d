"""One HTTP/1.1 connection: how long each part of a request may take, and which connections can be closed for others."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from musicgen_cli import limits
from musicgen_cli.service.callers import network

_DISCARDED_BYTES = limits.SOUND_REQUEST_BYTES  # of a body that nobody reads, so that its sender reads the answer


class Connection(H11Protocol):
    """
    uvicorn's connection with limits on the time for a head, a body, and the reading of an answer.

    uvicorn limits the wait for a second request on a connection, but neither for the first nor for a head or a body
    that arrives byte by byte. A request that is refused by its head is answered at once; its body is then read and
    thrown away, because a client that still sends when the connection is closed gets a reset instead of the answer.
    """

    HEAD_TIMEOUT_S = 10.0  # for the head of a request to arrive
    BODY_TIMEOUT_S = 15.0  # for a body that nobody reads; the middleware has a limit for those that it reads
    READ_TIMEOUT_S = 30.0  # for the client to read READ_BYTES of what is buffered for it, or all of it
    READ_BYTES = 64 * 1024

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a head."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self.network = network(self.client[0] if self.client else "")
        self._awaited: Any = None  # the part of a request that the timer is for: h11.IDLE, its head; h11.SEND_BODY
        self._arrival_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._discarded = 0  # bytes of the present body
        self._watch_arrival()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being worked on: none has arrived in full, or the answer is complete."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def data_received(self, data: bytes) -> None:
        """Parse the data, and limit the time for what is still to come."""
        super().data_received(data)
        self._watch_arrival()
        if self._awaited is h11.SEND_BODY and self.cycle.response_complete:
            self._discarded += len(data)
            if self._discarded > _DISCARDED_BYTES:
                self.transport.abort()

    def on_response_complete(self) -> None:
        """Count as idle from now on; what was sent of a body that nobody read is thrown away."""
        self.idle_since = self.loop.time()
        self.cycle.body.clear()
        self._watch_reading()
        super().on_response_complete()  # parses the next request, if it is there
        self._watch_arrival()

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be parsed, unless the request was answered already; the connection is closed."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # the app may be about to answer this request, whose head was good
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Start to check that the client reads, now that more is buffered for it than the transport takes."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """Check what little is left from now on."""
        super().resume_writing()
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
        for timer in (self._arrival_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _watch_arrival(self) -> None:
        """Limit the time for the part of a request that is to come next; it isn't prolonged by single bytes."""
        state = self.conn.their_state
        if self._awaited is state:
            return
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
        self._awaited, self._arrival_timer, self._discarded = state, None, 0
        if state is h11.IDLE:
            self._arrival_timer = self.loop.call_later(self.HEAD_TIMEOUT_S, self.transport.abort)
        elif state is h11.SEND_BODY:
            self._arrival_timer = self.loop.call_later(self.BODY_TIMEOUT_S, self._end_body)

    def _end_body(self) -> None:
        """Close the connection, unless the body is still being read."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            self._arrival_timer = self.loop.call_later(self.BODY_TIMEOUT_S, self._end_body)

    def _watch_reading(self) -> None:
        """Close the connection unless its client goes on reading what is buffered now; also if it is being closed."""
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        unread = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() > max(0, unread - self.READ_BYTES):
                self.transport.abort()
            else:
                self._watch_reading()

        if unread:
            self._read_timer = self.loop.call_later(self.READ_TIMEOUT_S, check)


def idle_longest(idle: Iterable[Connection], count: int) -> list[Connection]:
    """
    Return which idle connections to close so that others can come: at most `count`.

    Each is the one that has been idle longest of the client that has most of them, so that a client with a few keeps
    them, whoever else comes with many. Behind a reverse proxy all clients are one.
    """
    by_client: dict[str, deque[Connection]] = {}
    for connection in sorted(idle, key=lambda each: each.idle_since):
        by_client.setdefault(connection.network, deque()).append(connection)
    ranked = [(-len(own), client) for client, own in by_client.items()]
    heapq.heapify(ranked)
    chosen: list[Connection] = []
    while ranked and len(chosen) < count:
        _, client = ranked[0]
        chosen.append(by_client[client].popleft())
        if by_client[client]:
            heapq.heapreplace(ranked, (-len(by_client[client]), client))
        else:
            heapq.heappop(ranked)
    return chosen
