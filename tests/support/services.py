"""A running service on a free port of loopback, and a client of it."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import httpx

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Engine
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.server import Server, listen
from tests.support.fake_engine import FakeEngine

T = TypeVar("T")

JSON_HEADER = {"Content-Type": "application/json"}
PREDICT_HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def sound_of(response: httpx.Response) -> bytes:
    """Return the WAV in an answer."""
    return base64.b64decode(response.json()["audio_base64"], validate=True)


class EngineView(Protocol):
    """What a test sees of the engine behind a service."""

    @property
    def requests(self) -> Sequence[GenerateRequest]:
        """The requests that the engine received."""

    @staticmethod
    def sound(request: GenerateRequest) -> bytes:
        """Return the WAV that a request becomes."""


class ServiceClient:
    """A client of a running service."""

    engine: EngineView  # behind the service, where the test can see it

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 20.0) -> None:
        self.url = url
        self.client = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=timeout_s,
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )

    def post(self, body: Mapping[str, object] | bytes | None = None, **options: Any) -> httpx.Response:
        """Send to `/predict`: bytes as they are; else JSON, with a short duration unless `body` has one."""
        if isinstance(body, bytes):
            options["headers"] = JSON_HEADER | options.get("headers", {})
            return self.client.post("/predict", content=body, **options)
        return self.client.post("/predict", json={"duration": 0.5, **(body or {})}, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def counts(self) -> dict[str, int]:
        """Return how many requests wait, run, and may wait."""
        counts: dict[str, int] = self.get("/health").json()["queue"]
        return counts


class Service(ServiceClient):
    """A service in this process, on a thread of its own, and a client of it."""

    def __init__(
        self, make_engine: Callable[[], Engine], *, limit: int = 16, stop_s: float = 60.0, **options: Any
    ) -> None:
        """
        Start to listen and to load the engine.

        Args:
            limit: Requests that may wait.
            stop_s: Time for the running requests once the service stops.
            options: Of `create_app`.
        """
        self.ready = threading.Event()
        self.ready_urls: list[str] = []
        self.queue = AdmissionQueue(make_engine, limit=limit)
        listener = listen("127.0.0.1", 0, has_key=False)
        self.port: int = listener.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{self.port}")
        app = create_app(self.queue, **options)
        self.server = Server(app, self.queue, on_ready=self._on_ready, stop_s=stop_s)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        self._senders = ThreadPoolExecutor(max_workers=32)

    def later(self, body: Mapping[str, object] | bytes | None = None, **options: Any) -> Future[httpx.Response]:
        """Send to `/predict` on another thread."""
        return self._senders.submit(self.post, body, **options)

    def connect(self, data: bytes = b"") -> socket.socket:
        """Open a connection and send bytes as they are."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection

    def send_request(self, body: bytes = b'{"duration": 0.5}') -> socket.socket:
        """Send a whole request to `/predict` on a connection that the test can close."""
        return self.connect(PREDICT_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def stop(self) -> None:
        """Start to stop, as after a signal."""
        self.server.should_exit = True

    def end(self) -> None:
        """Stop, wait until everything has ended, and close the engine."""
        self.client.close()
        self.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._senders.shutdown()
        self.queue.shut_down()

    def _on_ready(self, url: str) -> None:
        self.ready_urls.append(url)
        self.ready.set()


class FakeService(Service):
    """A service over a fake engine."""

    engine: FakeEngine

    def __init__(
        self, engine: FakeEngine | None = None, *, make_engine: Callable[[], Engine] | None = None, **options: Any
    ) -> None:
        """
        Start to listen; without `make_engine`, wait until the engine is loaded.

        Args:
            engine: A new one if None.
            make_engine: Loads the engine instead.
            options: Of `Service`.
        """
        self.engine = engine or FakeEngine()
        super().__init__(make_engine or (lambda: self.engine), **options)
        if make_engine is None:
            assert self.ready.wait(10)

    def end(self) -> None:
        self.engine.release()
        super().end()


class StartService(Protocol):
    """A fixture that starts a service, which ends with the test; the arguments are those of `FakeService`."""

    def __call__(
        self, engine: FakeEngine | None = None, *, make_engine: Callable[[], Engine] | None = None, **options: Any
    ) -> FakeService: ...


Logged = Callable[..., list[str]]  # a fixture that returns the log's lines so far that contain all the given words
