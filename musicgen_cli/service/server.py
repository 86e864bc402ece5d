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
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.server import HANDLED_SIGNALS

from musicgen_cli import limits
from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.service.acceptor import Acceptor, connection_limit
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.connection import Connection
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
    api_keys: Sequence[str] = field(default=(), repr=False)  # one of which every request but `/health` must have
    allow_hosts: Collection[str] = ()  # further names accepted in the Host header; "*": all
    max_duration: float = limits.CONTEXT_S  # in seconds; longer requests are clamped to it
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
        InvalidValueError: The process may not open enough files for the queue.
        MusicgenError: The service cannot listen on the address.
        Exception: Whatever `make_engine` raised.
    """
    connections = connection_limit(options.queue_limit)
    if 2 * options.queue_limit > connections:
        raise InvalidValueError(
            f"queue must be at most {connections // 2}, as each request that waits needs an open file, "
            f"got {options.queue_limit}",
            hint="`ulimit -n` shows how many files a process may open, and raises the number",
        )
    listener = listen(options.host, options.port, has_key=any(options.api_keys))
    queue = AdmissionQueue(make_engine, limit=options.queue_limit)
    app = create_app(
        queue,
        hosts={options.host, *options.allow_hosts},
        api_keys=options.api_keys,
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
                hint="MUSICGEN_API_KEY or `--api-key-file` sets one; `--host 127.0.0.1` serves this machine alone",
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
        """Accept connections in our own way, then start to load the model; `lifespan` is off and needs no start."""
        assert sockets
        (listener,) = sockets
        state = self.server_state
        self._acceptor = Acceptor(
            listener,
            lambda: Connection(self.config, state, {}),
            state.connections,
            connection_limit(self._queue.limit),
        )
        self.servers = []  # asyncio's, of which there is none
        self.started = True
        address = listener.getsockname()
        self._loading = asyncio.create_task(self._queue.load())
        self._loading.add_done_callback(lambda task: self._on_loaded(task, address))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse the waiting requests and finish the running ones, for at most `stop_s`."""
        self._queue.drain()
        self._acceptor.close()
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
