"""Helpers for tests of batches: a service that answers many requests at once, and the takes of a store."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Protocol

from musicgen_cli.store import Artifact, Store
from tests.support import fakes
from tests.support.command_line import Result
from tests.support.http_server import LocalHTTPServer

Answer = Callable[[dict[str, Any]], tuple[int, bytes] | None]  # status and body; None resets the connection

_STOP_S = 60.0


class RunRows(Protocol):
    """Writes rows to a file and runs them as a batch of half a second each."""

    def __call__(self, lines: str | bytes, *words: object, name: str = "rows") -> Result: ...


@contextmanager
def serving(answer: Answer, *, model: str | None = "nano", port: int = 0) -> Iterator[str]:
    """
    Answer `POST /predict` by `answer`, and `GET /health` with the name of a model.

    Yields:
        The address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, json.dumps({"status": "ok", "model": model}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if (reply := answer(body)) is None:
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.reply(*reply)

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status in {429, 503}:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with LocalHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(_STOP_S)
            assert not thread.is_alive()


def good(body: dict[str, Any]) -> tuple[int, bytes]:
    """Answer with a sound."""
    return 200, json.dumps(fakes.good_answer(body)).encode()


def takes_in(store_path: Path) -> list[Artifact]:
    """Return all takes of a store, oldest first."""
    return list(Store(store_path).newest(None))[::-1]
