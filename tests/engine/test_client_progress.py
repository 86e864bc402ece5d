"""The progress that the client reports while it waits for the answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from musicgen_cli.engine import client
from musicgen_cli.engine.client import RemoteEngine
from tests.support import fakes
from tests.support.clients import REQUEST
from tests.support.http_server import LocalHTTPServer
from tests.support.listeners import RaisingListener, RecordingListener, StepsOnlyListener

Reply = tuple[int, bytes]  # status, body

_ANSWER_S = 60.0  # after which a request is answered however often its progress was asked for


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PROGRESS_S", 0.01)


class ProgressService:
    """A service that gives certain replies to `/progress`, and answers `/predict` after a number of them."""

    def __init__(self, replies: Sequence[Reply], *, polls: int | None = None) -> None:
        """
        Prepare the service.

        Args:
            replies: To one poll after the other; the last one is repeated.
            polls: After which the request is answered; None: one more than there are replies, so that the listener
                has received all of them.
        """
        self.paths: list[str] = []  # that were polled
        self.keys: set[str | None] = set()
        self.answering = threading.Event()
        self.cancelled = False  # whether the test ended before the request was answered
        self._replies = replies
        self._polls = polls or len(replies) + 1
        self._ending = threading.Event()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free port; yield the address, which has a path."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.answering.wait(_ANSWER_S)
                if not service._ending.is_set():
                    self.reply(200, json.dumps(fakes.good_answer(body)).encode())

            def do_GET(self) -> None:
                service.keys.add(self.headers["Authorization"])
                service.paths.append(self.path)
                polls = len(service.paths)
                if polls >= service._polls:
                    service.answering.set()
                self.reply(*service._replies[min(polls, len(service._replies)) - 1])

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with LocalHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/under"
            finally:
                self.cancelled = not self.answering.is_set()
                self._ending.set()
                self.answering.set()
                server.shutdown()
                thread.join()


def progress(steps: object, total: object, state: str = "running") -> Reply:
    return 200, json.dumps({"steps": steps, "total": total, "state": state}).encode()


def generate(url: str, listener: RecordingListener) -> bytes:
    return RemoteEngine(url, timeout_s=60, max_wait_s=0, api_key="k").generate(REQUEST, listener).wav


def test_steps_are_reported_as_the_service_reports_them() -> None:
    """Before the first step nothing is reported; the key is sent with each poll."""
    service = ProgressService([progress(0, 0, "waiting"), progress(3, 53), progress(51, 53)])

    with service.running() as url:
        listener = StepsOnlyListener()
        assert generate(url, listener) == fakes.tone(1.0, seed=7)

    assert listener.steps[:2] == [(3, 53), (51, 53)]
    assert set(service.paths) == {"/under/progress/job-1"}
    assert service.keys == {"Bearer k"}


JUNK: list[Reply] = [
    (404, b'{"detail": "Not Found"}'),
    (500, b""),
    (200, b"ok"),
    (200, b"[3, 53]"),
    (200, b"[" * 60_000),
    (200, b" " * 100_000),
    progress("3", 53),
    progress(True, 53),
    progress(54, 53),
    progress(-1, 53),
    progress(1.5, 53),
    progress(None, None),
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda reply: f"{reply[0]} {reply[1][:20].decode()}")
def test_a_service_without_progress_is_polled_three_times(junk: Reply) -> None:
    """Its answer is accepted all the same."""
    service = ProgressService([junk], polls=3)

    with service.running() as url:
        listener = StepsOnlyListener()
        assert generate(url, listener) == fakes.tone(1.0, seed=7)

    assert listener.steps == []
    assert len(service.paths) == 3


def test_a_service_with_gaps_in_its_progress_is_polled_on() -> None:
    """Only three misses in a row end the polling."""
    bad = JUNK[0]
    service = ProgressService([bad, bad, progress(1, 53), bad, bad, progress(2, 53)])

    with service.running() as url:
        listener = StepsOnlyListener()
        generate(url, listener)

    assert listener.steps[:2] == [(1, 53), (2, 53)]


def test_an_exception_from_the_listener_cancels_the_request() -> None:
    """The client does not wait for the service, which is still working."""
    service = ProgressService([progress(1, 53)], polls=1_000_000)

    with service.running() as url, pytest.raises(ZeroDivisionError):
        generate(url, RaisingListener(ZeroDivisionError()))

    assert service.cancelled


def test_a_request_without_an_id_is_not_polled() -> None:
    """Progress can only be asked for by `client_job_id`."""
    service = ProgressService([progress(1, 53)])
    service.answering.set()

    with service.running() as url:
        request = REQUEST.model_copy(update={"client_job_id": None})
        RemoteEngine(url, timeout_s=60, max_wait_s=0).generate(request, StepsOnlyListener())

    assert service.paths == []
