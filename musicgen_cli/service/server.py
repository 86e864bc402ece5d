"""The service as a process: listening, loading the model, signals, and a bounded shutdown."""

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
from dataclasses import dataclass, field
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import HANDLED_SIGNALS

from musicgen_cli import limits
from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.log import to_stderr
from musicgen_cli.text import number

STOP_S = 60.0  # for the running requests to finish after SIGTERM; systemd kills after 90 s
_KEEP_ALIVE_S = 15  # longer than clients such as httpx keep an idle connection, 5 s, so that they are first to close it
_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """
    Options of `serve`.

    Raises:
        InvalidValueError: A number is out of range.
    """

    host: str = "127.0.0.1"  # address or name to listen on; one that is not loopback needs a key
    port: int = limits.DEFAULT_PORT  # 0: any free port
    queue_limit: int = limits.QUEUE  # requests that may wait
    api_key: str | None = field(default=None, repr=False)  # required of every request except `/health`
    allow_hosts: Collection[str] = ()  # further names accepted in the Host header; "*": all
    max_duration: float = limits.DURATION.high  # in seconds; longer requests are clamped to it
    log_prompts: bool = False  # write prompts to the log

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("port", self.port, limits.Range(0, 65535, default=limits.DEFAULT_PORT)),
            ("max_duration", self.max_duration, limits.DURATION),
        ):
            if value not in allowed:
                raise InvalidValueError(f"{name} must be {allowed}, got {number(value)}")
        if self.queue_limit < 0:
            raise InvalidValueError(f"queue must be 0 or more, got {self.queue_limit}")


def serve(
    make_engine: Callable[[], Engine], options: ServeOptions, *, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """
    Serve until a signal ends it. Call it on the main thread of a process that does nothing else.

    The port opens at once, and the model is loaded meanwhile. At SIGTERM or Ctrl-C the running requests are finished
    and answered, and the waiting ones are refused; running ones that take longer than STOP_S are cancelled at their
    next step and refused as well. A second signal kills the process.

    Args:
        make_engine: Loads the model; called once, on another thread.
        on_ready: Called with the service's address once the model is loaded.

    Returns:
        After SIGTERM or Ctrl-C. If the engine's threads cannot be waited for, because the model is still being loaded
        or a step takes longer than STOP_S, the process exits here, with 0.

    Raises:
        UsageError: A host that is not loopback, without a key.
        MusicgenError: The service cannot listen on the address.
        Exception: Whatever `make_engine` raised.
    """
    listener = listen(options.host, options.port, has_key=bool(options.api_key))
    queue = AdmissionQueue(make_engine, limit=options.queue_limit)
    app = create_app(
        queue,
        hosts={options.host, *options.allow_hosts},
        api_key=options.api_key,
        max_duration=options.max_duration,
        log_prompts=options.log_prompts,
    )
    server = Server(app, queue, on_ready=on_ready)
    with to_stderr():
        server.run(sockets=[listener])
    if server.failure is not None:
        raise server.failure
    if queue.busy:
        # The interpreter would wait for the thread, and native code cannot be interrupted. Nothing is lost: every
        # finished answer has been sent.
        logging.shutdown()
        os._exit(0)
    queue.shut_down()


def listen(host: str, port: int, *, has_key: bool) -> socket.socket:
    """
    Open the port.

    Args:
        has_key: Whether requests need an API key.

    Raises:
        UsageError: A host that is not loopback, without a key.
        MusicgenError: The address is in use, or does not belong to this machine.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost may stand for both families; every client tries IPv4.
        family, _, _, _, address = min(addresses, key=lambda info: info[0] != socket.AF_INET)
        if not has_key and not ipaddress.ip_address(address[0]).is_loopback:
            raise UsageError(
                f"serving on {host} needs an API key: others can reach it",
                hint="`--api-key` or MUSICGEN_API_KEY sets one; `--host 127.0.0.1` keeps the service on this machine",
            )
        # "::" is all addresses: those of IPv4 too, whatever the system's default is.
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(address, family=family, dualstack_ipv6=both)
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise MusicgenError(
                f"port {port} on {host} is in use",
                hint="`musicgen doctor` shows whether a service runs there; `--port` takes another",
            ) from err
        raise MusicgenError(f"can't listen on {host}, port {port}: {err.strerror or err}") from err
    # asyncio sets this only on sockets with an explicit protocol. Without it each answer, a head and then a body, waits
    # 40 ms for the client's delayed acknowledgement. Accepted connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Server(uvicorn.Server):
    """uvicorn with the service's app: loads the model behind the open port, and stops as `serve` describes."""

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
                # For what `cancel_running` cannot end: a step that hangs, a client that does not read.
                timeout_graceful_shutdown=math.ceil(stop_s) + 5,
                h11_max_incomplete_event_size=_HEAD_BYTES,
            )
        )
        self.failure: BaseException | None = None  # why the model could not be loaded
        self._queue = queue
        self._on_ready = on_ready
        self._stop_s = stop_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then start to load the model."""
        await super().startup(sockets)
        assert sockets
        address = sockets[0].getsockname()
        self._loading = asyncio.create_task(self._queue.load())
        self._loading.add_done_callback(lambda task: self._on_loaded(task, address))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse the waiting requests and finish the running ones, for at most `stop_s`."""
        self._queue.drain()
        timer = asyncio.get_running_loop().call_later(self._stop_s, self._queue.cancel_running)
        await super().shutdown(sockets)
        timer.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature of a handler
        """Begin the shutdown; uvicorn restores the previous handlers at the end."""
        self.should_exit = True
        for handled in HANDLED_SIGNALS:
            signal.signal(handled, signal.SIG_DFL)  # a second one kills, even if Python is stuck

    def _on_loaded(self, task: asyncio.Task[None], address: tuple[str, int]) -> None:
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
    uvicorn's HTTP/1.1 connection with three more limits: on waiting for a head, on unread answers, on idle connections.

    uvicorn limits the wait for a second request on a connection, but neither for the first nor for a head that arrives
    byte by byte. Its own limit on connections refuses new ones and keeps idle ones; here the connection that has been
    idle longest is closed.
    """

    HEAD_TIMEOUT_S = 10.0  # for the head of a request to arrive
    READ_TIMEOUT_S = 30.0  # for the client to read some of the data that is buffered for it
    MAX_IDLE = 200  # connections without a request; the limit on open files may be as low as 256

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a head, and close the connection that has been idle longest if there are too many."""
        super().connection_made(transport)
        self._read_timer: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()
        self._start_head_timer()
        idle = [other for other in self.connections if isinstance(other, Connection) and other._is_idle]
        if len(idle) > self.MAX_IDLE:
            min(idle, key=lambda other: other._idle_since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse the data; the head's time limit ends once the head is complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_timer.cancel()
        elif self._head_timer.cancelled():
            self._start_head_timer()

    def on_response_complete(self) -> None:
        """Count as idle from now on, unless another request is already there."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start to check that the client reads, now that more is buffered for it than the transport takes."""
        super().pause_writing()
        self._start_read_timer(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop checking: the client has read."""
        self._stop_read_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
        self._head_timer.cancel()
        self._stop_read_timer()
        super().connection_lost(exc)

    @property
    def _is_idle(self) -> bool:
        has_request = self.cycle is not None and not self.cycle.response_complete
        return not (has_request or self.transport.is_closing() or self.transport.get_write_buffer_size())

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.HEAD_TIMEOUT_S, self.transport.abort)

    def _start_read_timer(self, unread: int) -> None:
        """Close the connection unless its client reads some of the `unread` bytes in time."""

        def check() -> None:
            left = self.transport.get_write_buffer_size()
            if left < unread:
                self._start_read_timer(left)
            else:
                self.transport.abort()

        self._read_timer = self.loop.call_later(self.READ_TIMEOUT_S, check)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
