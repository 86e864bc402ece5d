"""Proxies on loopback: SOCKS 5 and HTTP, which lead to one port whatever host is asked for, and ones that refuse."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
TIMEOUT_S = 60.0


@dataclass
class Proxy:
    """A running proxy."""

    port: int
    requests: list[str] = field(default_factory=list)  # HOST:PORT, or the first line of an HTTP request


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def socks_proxy(target: int | None) -> Iterator[Proxy]:
    """Run a SOCKS 5 proxy without authentication, which connects to the port `target`, or says that it can't."""

    def talk(client: socket.socket, proxy: Proxy) -> None:
        _, count = _read(client, 2)
        _read(client, count)
        client.sendall(b"\x05\x00")
        _, _, _, kind = _read(client, 4)
        if kind == 3:
            host = _read(client, _read(client, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _read(client, size))
        (port,) = struct.unpack("!H", _read(client, 2))
        proxy.requests.append(f"{host}:{port}")
        client.sendall(b"\x05" + (b"\x04" if target is None else b"\x00") + b"\x00\x01" + bytes(6))
        if target is not None:
            _join(client, target)

    with _running(talk) as proxy:
        yield proxy


@contextmanager
def http_proxy(answer: bytes) -> Iterator[Proxy]:
    """Run an HTTP proxy that gives every request the same answer, CONNECT too."""

    def talk(client: socket.socket, proxy: Proxy) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += _read(client, 1)
        proxy.requests.append(head.split(b"\r\n")[0].decode())
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):  # a reset would destroy the answer
            pass

    with _running(talk) as proxy:
        yield proxy


def refusal(status: str) -> bytes:
    """Return the answer of a proxy that can't do what it was asked for: HTML, as proxies send it."""
    body = b"<html>sorry</html>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@contextmanager
def _running(talk: Callable[[socket.socket, Proxy], None]) -> Iterator[Proxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(listener.getsockname()[1])

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(TIMEOUT_S)
            talk(client, proxy)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT_S)


def _join(client: socket.socket, port: int) -> None:
    """Pass bytes both ways until either side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as server:
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join(TIMEOUT_S)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise ConnectionError("the client disconnected")
        data += part
    return data
