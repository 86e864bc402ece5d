"""What the client hears of a request while it waits for the answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import client
from musicgen_cli.engine.client import RemoteEngine
from tests.support import fakes

REQUEST = GenerateRequest(prompt="calm ambient piano", duration=1.0, seed=7, client_job_id="job-1")

Said = tuple[int, bytes]  # status, body


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PROGRESS_S", 0.01)


class Ear:
    """A listener that remembers."""

    def __init__(self, stop: Exception | None = None) -> None:
        self.steps: list[tuple[int, int]] = []
        self.stop = stop

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))
        if self.stop:
            raise self.stop

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        raise AssertionError("a service tells no samples")


class Telling:
    """A service that says certain things of a request's progress, and answers it when it was asked so often."""

    def __init__(self, progress: list[Said], *, asks: int | None = None) -> None:
        self.progress = progress
        self.asks = asks or len(progress) + 1  # by then the listener has heard them all
        self.asked: list[str] = []
        self.keys: set[str | None] = set()
        self.enough = threading.Event()
        self.left = threading.Event()

    @contextmanager
    def running(self) -> Iterator[str]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                while not service.enough.wait(0.01):
                    if service.left.is_set():
                        return
                self.answer(200, json.dumps(fakes.good_answer(body)).encode())

            def do_GET(self) -> None:
                service.keys.add(self.headers["Authorization"])
                service.asked.append(self.path)
                asks = len(service.asked)
                if asks >= service.asks:
                    service.enough.set()
                self.answer(*service.progress[min(asks, len(service.progress)) - 1])

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/under"
            finally:
                self.left.set()
                server.shutdown()
                thread.join()


def said(steps: object, total: object, state: str = "running") -> Said:
    return 200, json.dumps({"steps": steps, "total": total, "state": state}).encode()


def ask(url: str, ear: Ear) -> bytes:
    return RemoteEngine(url, timeout_s=60, max_wait_s=0, api_key="k").generate(REQUEST, ear).wav


def test_steps_are_told_as_the_service_tells_them() -> None:
    """Before the first step there is nothing to tell; the key goes with each question."""
    service = Telling([said(0, 0, "waiting"), said(3, 53), said(51, 53)])

    with service.running() as url:
        ear = Ear()
        assert ask(url, ear) == fakes.tone(1.0, seed=7)

    assert ear.steps[:2] == [(3, 53), (51, 53)]
    assert set(service.asked) == {"/under/progress/job-1"}
    assert service.keys == {"Bearer k"}


JUNK: list[Said] = [
    (404, b'{"detail": "Not Found"}'),
    (500, b""),
    (200, b"ok"),
    (200, b"[3, 53]"),
    (200, b"[" * 60_000),
    (200, b" " * 100_000),
    said("3", 53),
    said(True, 53),
    said(54, 53),
    said(-1, 53),
    said(1.5, 53),
    said(None, None),
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda said: f"{said[0]} {said[1][:20].decode()}")
def test_a_service_that_does_not_tell_is_asked_three_times(junk: Said) -> None:
    """Its answer is as good without."""
    service = Telling([junk], asks=3)

    with service.running() as url:
        ear = Ear()
        assert ask(url, ear) == fakes.tone(1.0, seed=7)

    assert ear.steps == []
    assert len(service.asked) == 3


def test_one_that_tells_now_and_then_is_asked_on() -> None:
    """Three misses in a row are needed."""
    bad = JUNK[0]
    service = Telling([bad, bad, said(1, 53), bad, bad, said(2, 53)])

    with service.running() as url:
        ear = Ear()
        ask(url, ear)

    assert ear.steps[:2] == [(1, 53), (2, 53)]


def test_what_the_listener_raises_stops_the_request() -> None:
    """A service that is still at work isn't waited for."""
    service = Telling([said(1, 53)], asks=1_000_000)

    with service.running() as url, pytest.raises(ZeroDivisionError):
        ask(url, Ear(ZeroDivisionError()))

    assert not service.enough.is_set()


def test_a_request_without_a_name_cannot_be_followed() -> None:
    """Nothing is asked."""
    service = Telling([said(1, 53)])
    service.enough.set()

    with service.running() as url:
        request = REQUEST.model_copy(update={"client_job_id": None})
        RemoteEngine(url, timeout_s=60, max_wait_s=0).generate(request, Ear())

    assert service.asked == []
