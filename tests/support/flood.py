"""Many connections to a service that hold what they can."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

from tests.support.services import PREDICT_HEAD
from tests.support.waiting import wait_until

HOSTILE = (  # what connections send that then hold what they have
    b"",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX: ",
    PREDICT_HEAD + b"Content-Length: 65536\r\n\r\n" + b" " * 61_000,
    PREDICT_HEAD.replace(b"localhost", b"evil.example") + b"Content-Length: 65536\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
_REOPENED_S = 1.0  # after the service has closed a connection
_TRICKLE_S = 0.5


class Flood:
    """
    Connections that are opened again after the service has closed them, all from one thread.

    Args:
        port: Of the service, on loopback.
        count: Of connections.
        data: What each sends when it is open; the connections take turns among several.
        trickle: What each sends from then on, twice a second.
    """

    def __init__(self, port: int, count: int, data: tuple[bytes, ...] = (b"",), trickle: bytes = b"") -> None:
        self.opened = 0
        self.failure: BaseException | None = None
        self._address = ("127.0.0.1", port)
        self._count, self._data, self._trickle = count, data, trickle
        self._closed: deque[float] = deque()  # when connections were closed that are to be opened again
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.opened >= self._count or not self._thread.is_alive(), 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        assert self.failure is None

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            try:
                for _ in range(self._count):
                    self._open(selector)
                while not self._stop.is_set():
                    self._turn(selector)
            except OSError as err:
                self.failure = err
            finally:
                for connection in _open_ones(selector):
                    connection.close()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        """Notice closed connections for a while, open some again, then send a little on all."""
        until = time.monotonic() + _TRICKLE_S
        while (left_s := until - time.monotonic()) > 0 and not self._stop.is_set():
            for key, _ in selector.select(min(left_s, 0.05)):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if _is_closed(connection):
                    selector.unregister(connection)
                    connection.close()
                    self._closed.append(time.monotonic())
            while self._closed and time.monotonic() - self._closed[0] > _REOPENED_S:
                self._closed.popleft()
                self._open(selector)
        for connection in _open_ones(selector) if self._trickle else []:
            with contextlib.suppress(OSError):
                connection.send(self._trickle)

    def _open(self, selector: selectors.BaseSelector) -> None:
        connection = socket.create_connection(self._address, 60)
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(self._data[self.opened % len(self._data)])
        selector.register(connection, selectors.EVENT_READ)
        self.opened += 1


def _open_ones(selector: selectors.BaseSelector) -> list[socket.socket]:
    return [key.fileobj for key in selector.get_map().values() if isinstance(key.fileobj, socket.socket)]


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(65536)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def main() -> None:
    """Flood the service on the port PORT with COUNT connections until standard input ends: `… PORT COUNT`."""
    port, count = int(sys.argv[1]), int(sys.argv[2])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 64, hard))
    with Flood(port, count, HOSTILE, trickle=b" "):
        print("flooding", flush=True)  # noqa: T201  # the parent waits for it
        sys.stdin.read()


if __name__ == "__main__":
    main()
