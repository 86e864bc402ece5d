"""A service over a fake engine: a real uvicorn on a free port of loopback, in a thread."""

import base64
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.log import KeyValueFormatter
from musicgen_cli.service.server import Server, listen
from tests.support.fake_engine import FakeEngine


def until(condition, within_s=10.0):
    """Wait for what another thread brings about; return what `condition` then says."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)
    return found


class Service:
    """A service that runs, and a client of it."""

    def __init__(self, make_engine, *, limit=16, stop_s=60.0, **options):
        self.ready = threading.Event()
        self.queue = AdmissionQueue(make_engine, limit=limit)
        listener = listen("127.0.0.1", 0, has_key=False)
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.told = []
        self.server = Server(
            create_app(self.queue, **options),
            self.queue,
            on_ready=lambda url: (self.told.append(url), self.ready.set()),
            stop_s=stop_s,
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()
        self.client = httpx.Client(
            base_url=self.url, timeout=20, trust_env=False, limits=httpx.Limits(max_connections=None)
        )
        self._later = ThreadPoolExecutor(max_workers=32)

    def post(self, body=None, **options):
        if isinstance(body, bytes):
            options.setdefault("headers", {}).setdefault("Content-Type", "application/json")
            return self.client.post("/predict", content=body, **options)
        return self.client.post("/predict", json={"duration": 0.5} | (body or {}), **options)

    def get(self, path, **options):
        return self.client.get(path, **options)

    def later(self, body=None, **options) -> "Future[httpx.Response]":
        return self._later.submit(self.post, body, **options)

    def counts(self):
        return self.get("/health").json()["queue"]

    def raw(self, data=b""):
        """Open a connection and send bytes as they are."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection

    def ask(self, body=b'{"duration": 0.5}'):
        """Send a whole request on a connection that the test will close."""
        head = (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        return self.raw(head % len(body) + body)

    def stop(self):
        self.server.should_exit = True

    def end(self):
        self.client.close()
        self.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self._later.shutdown()
        self.queue.shut_down()


@pytest.fixture
def start():
    """Start services that end with the test; a held engine is let go first."""
    running = []

    def start(engine=None, *, make_engine=None, **options):
        engine = engine or FakeEngine()
        service = Service(make_engine or (lambda: engine), **options)
        service.engine = engine
        running.append(service)
        if make_engine is None:
            assert service.ready.wait(10)
        return service

    yield start
    for service in running:
        service.engine.go.set()
        service.end()


@pytest.fixture
def service(start):
    """Start a service with no options."""
    return start()


@pytest.fixture(scope="module")
def shared_with():
    """Start services that tests share which leave nothing behind."""
    running = []

    def start(**options):
        engine = FakeEngine()
        service = Service(lambda: engine, **options)
        service.engine = engine
        running.append(service)
        assert service.ready.wait(10)
        return service

    yield start
    for service in running:
        service.end()


@pytest.fixture(scope="module", params=["uvicorn", "ray"])
def shared(request):
    """Share a service with no options: our own process, and replicas on Ray Serve."""
    if request.param == "uvicorn":
        return request.getfixturevalue("shared_with")()
    pytest.importorskip("ray", reason="needs the extra cluster")
    return request.getfixturevalue("on_ray")


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """Start Ray with two nodes on this machine."""
    from tests.support.rays import Rays

    rays = Rays(tmp_path_factory.mktemp("rays"))
    yield rays
    rays.end()


@pytest.fixture(scope="module")
def on_ray(ray_cluster):
    """Serve the fake engine there."""
    return ray_cluster.serve_fakes()


@pytest.fixture(name="until")
def _until():
    return until


@pytest.fixture(name="engine")
def _engine():
    return FakeEngine()


@pytest.fixture
def logged(caplog):
    """Return the lines of the log so far that contain some words."""
    caplog.set_level("INFO", "musicgen_cli.service")
    return lambda *words: [
        line for record in caplog.records if all(word in (line := KeyValueFormatter().format(record)) for word in words)
    ]


@pytest.fixture(name="decode")
def _decode():
    """Take the sound out of an answer."""
    return lambda answer: base64.b64decode(answer.json()["audio_base64"], validate=True)
