"""The service as a process: the port, the log, the signals, the end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Collection
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import HANDLED_SIGNALS

from musicgen_cli import limits
from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import InvalidValueError, MusicgenError, StoppedError, UsageError
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.log import to_stderr
from musicgen_cli.text import number

STOP_S = 60.0  # given to the running request after SIGTERM; systemd kills after 90 s
_KEEP_ALIVE_S = 15  # clients such as httpx drop an idle connection after 5 s: ours must be the longer
_HEAD_BYTES = 16 * 1024


def serve(
    make_engine: Callable[[], Engine],
    *,
    host: str = "127.0.0.1",
    port: int = limits.DEFAULT_PORT,
    queue_limit: int = limits.QUEUE,
    api_key: str | None = None,
    allow_hosts: Collection[str] = (),
    max_duration: float = limits.DURATION.high,
    log_prompts: bool = False,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """
    Serve until a signal ends it; to be called on the main thread of a process that does nothing else.

    The port opens at once, the model is loaded behind it. At SIGTERM or Ctrl-C the running request is finished and
    answered, the waiting ones are refused; after STOP_S the running one is stopped at its next step and refused too.
    A second signal kills the process.

    Args:
        make_engine: Loads the model; called once, on another thread.
        host: Address or name to listen on; one that isn't loopback needs a key.
        port: To listen on; 0 takes a free one.
        queue_limit: How many requests may wait.
        api_key: Asked of every request but `/health`.
        allow_hosts: More names that clients may put into the Host header.
        max_duration: In seconds; longer requests are clamped to it.
        log_prompts: Write prompts to the log.
        on_ready: Hears the service's address once the model is loaded.

    Returns:
        After SIGTERM. Where the engine's thread can't be awaited (the model is still being loaded, or a step outlasts
        STOP_S) the process ends here, with 0 after SIGTERM and 130 after Ctrl-C.

    Raises:
        UsageError: Another host than loopback without a key, or a number out of range.
        MusicgenError: The address can't be listened on.
        StoppedError: Ctrl-C, after the clean stop.
        Exception: Whatever `make_engine` raised.
    """
    for name, value, allowed in (
        ("port", port, limits.Range(0, 65535, default=limits.DEFAULT_PORT)),
        ("max_duration", max_duration, limits.DURATION),
    ):
        if value not in allowed:
            raise InvalidValueError(f"{name} must be {allowed}, got {number(value)}")
    if queue_limit < 0:
        raise InvalidValueError(f"queue must be 0 or more, got {queue_limit}")
    listener = listen(host, port, keyed=bool(api_key))
    queue = AdmissionQueue(make_engine, limit=queue_limit)
    app = create_app(
        queue, hosts={host, *allow_hosts}, api_key=api_key, max_duration=max_duration, log_prompts=log_prompts
    )
    server = Server(app, queue, on_ready=on_ready)
    with to_stderr():
        server.run(sockets=[listener])
    if server.failure is not None:
        raise server.failure
    if queue.working:
        # The interpreter would wait for the thread, and native code can't be interrupted. Nothing is lost: what this
        # process has made it has sent.
        logging.shutdown()
        os._exit(StoppedError.exit_code if server.stopped_by == signal.SIGINT else 0)
    queue.finish()
    if server.stopped_by == signal.SIGINT:
        raise StoppedError


def listen(host: str, port: int, *, keyed: bool) -> socket.socket:
    """
    Open the port, before any model is loaded.

    Raises:
        UsageError: Another host than loopback without a key.
        MusicgenError: The address can't be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost may stand for both families; every client tries IPv4.
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        if not keyed and not ipaddress.ip_address(address[0]).is_loopback:
            raise UsageError(
                f"serving on {host} needs an API key: others can reach it",
                hint="`--api-key` or MUSICGEN_API_KEY sets one; `--host 127.0.0.1` keeps the service on this machine",
            )
        listener = socket.create_server(address, family=family)
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise MusicgenError(
                f"port {port} on {host} is in use",
                hint="`musicgen doctor` shows whether a service runs there; `--port` takes another",
            ) from err
        raise MusicgenError(f"can't listen on {host}, port {port}: {err.strerror or err}") from err
    # asyncio does this only for sockets made with an explicit protocol; without it each answer, being a head and a
    # body, waits 40 ms for the client's delayed acknowledgement. Accepted connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Server(uvicorn.Server):
    """uvicorn over our app: loads the model behind the open port, and stops as `serve` says."""

    def __init__(
        self,
        app: FastAPI,
        queue: AdmissionQueue,
        *,
        on_ready: Callable[[str], None] = lambda _: None,
        stop_s: float = STOP_S,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                # For what `abandon` can't end: a step that hangs, a client that doesn't read.
                timeout_graceful_shutdown=math.ceil(stop_s) + 5,
                h11_max_incomplete_event_size=_HEAD_BYTES,
            )
        )
        self.failure: BaseException | None = None  # why the model couldn't be loaded
        self.stopped_by: int | None = None  # the signal
        self._queue = queue
        self._on_ready = on_ready
        self._stop_s = stop_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then begin to load."""
        await super().startup(sockets)
        assert sockets
        address = sockets[0].getsockname()
        self._loading = asyncio.create_task(self._queue.load())
        self._loading.add_done_callback(lambda task: self._loaded(task, address))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what waits, finish what runs, within bounds."""
        self._queue.close()
        patience = asyncio.get_running_loop().call_later(self._stop_s, self._queue.abandon)
        await super().shutdown(sockets)
        patience.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature of a handler
        """Begin to stop; uvicorn puts the old handlers back at the end."""
        self.stopped_by = sig
        self.should_exit = True
        for each in HANDLED_SIGNALS:
            signal.signal(each, signal.SIG_DFL)  # a second one kills, even where Python is stuck

    def _loaded(self, task: asyncio.Task[None], address: tuple[str, int]) -> None:
        if task.cancelled():
            return
        self.failure = task.exception()
        if self.failure is not None:
            self.should_exit = True
            return
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self._on_ready(f"http://{host}:{address[1]}")


class Connection(H11Protocol):
    """
    uvicorn's HTTP/1.1 connection, and an end to waiting for the head of a request, and for an answer to be read.

    uvicorn ends the wait for a second request on a connection, but not for the first, and not for one that trickles.
    Its own bound on connections would refuse new ones in favour of the idle; here the one idle longest gives way.
    """

    HEAD_S = 10.0
    UNREAD_S = 30.0  # in which a client must have read something of what waits for it
    IDLE_MOST = 200  # connections without a request under way; the system's bound on files may be 256

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self._reading: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()
        self._wait_for_head()
        idle = [each for each in self.connections if isinstance(each, Connection) and each._is_idle]
        if len(idle) > self.IDLE_MOST:
            min(idle, key=lambda each: each._idle_since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; see whether the head is whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._patience.cancel()
        elif self._patience.cancelled():
            self._wait_for_head()

    def on_response_complete(self) -> None:
        """Begin to be idle, if nothing more was asked."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """See whether the client reads, now that more waits for it than the system takes."""
        super().pause_writing()
        self._see_read(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Leave a client alone that has read."""
        self._stop_seeing()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all waits."""
        self._patience.cancel()
        self._stop_seeing()
        super().connection_lost(exc)

    @property
    def _is_idle(self) -> bool:
        asked = self.cycle is not None and not self.cycle.response_complete
        return not (asked or self.transport.is_closing() or self.transport.get_write_buffer_size())

    def _see_read(self, unread: int) -> None:
        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left < unread:
                self._see_read(left)
            else:
                self.transport.abort()

        self._reading = self.loop.call_later(self.UNREAD_S, look)

    def _stop_seeing(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _wait_for_head(self) -> None:
        self._patience = self.loop.call_later(self.HEAD_S, self.transport.abort)
