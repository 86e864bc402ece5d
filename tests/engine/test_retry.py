"""When the client sends a request again, and after which wait."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from musicgen_cli.engine.responses import broken_error, connection_error
from musicgen_cli.engine.retry import RetryPolicy
from musicgen_cli.errors import NO_SERVICE_HINT, ServiceBusyError, ServiceError, ServiceUnreachableError
from tests.support import fakes
from tests.support.clients import generate
from tests.support.listeners import NotesOnlyListener, RecordingListener


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_busy_service_is_asked_again_after_retry_after(httpserver: HTTPServer, url: str, status: int) -> None:
    """429, 503 and 504 are waited for, and the listener is notified of each wait."""
    busy = Response(json.dumps({"detail": "Service is busy"}), status, {"Retry-After": "1"})
    httpserver.expect_ordered_request("/predict").respond_with_response(busy)
    httpserver.expect_ordered_request("/predict").respond_with_handler(fakes.ours)
    listener, started = NotesOnlyListener(), time.monotonic()

    assert generate(url, listener=listener).seed == 7

    assert time.monotonic() - started >= 1
    assert listener.notes == [f"the service is busy ({status}: Service is busy), trying again in 1 s"]


@pytest.mark.parametrize(
    ("status", "said"), [(502, "can't reach the service"), (504, "got no answer in time from the service")]
)
def test_a_proxy_without_its_service_is_waited_for_and_is_exit_4_in_the_end(
    httpserver: HTTPServer, url: str, status: int, said: str
) -> None:
    """A reverse proxy answers so while the service behind it restarts or hangs."""
    away = Response("<html>sorry</html>", status, {"Retry-After": "1"})
    httpserver.expect_ordered_request("/predict").respond_with_response(away)
    httpserver.expect_ordered_request("/predict").respond_with_handler(fakes.ours)
    httpserver.expect_ordered_request("/predict").respond_with_response(away)
    listener = NotesOnlyListener()

    assert generate(url, listener=listener).seed == 7
    message = f"the proxy at {url.removeprefix('http://')} {said} behind it ({status})"
    assert listener.notes == [f"{message}, trying again in 1 s"]

    with pytest.raises(ServiceUnreachableError) as caught:
        generate(url, max_wait_s=0.5)
    assert str(caught.value) == message
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("after", ["0", "date", "junk", "-5", "999999999999", "1e3", "", None])
def test_retry_after_may_be_a_date_zero_or_junk(httpserver: HTTPServer, url: str, after: str | None) -> None:
    """Junk and waits of more than a minute are ignored, and the usual backoff applies."""
    if after == "date":
        after = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    headers = {} if after is None else {"Retry-After": after}
    httpserver.expect_ordered_request("/predict").respond_with_response(Response("", 503, headers))
    httpserver.expect_ordered_request("/predict").respond_with_handler(fakes.ours)

    assert generate(url, max_wait_s=2).seed == 7


def test_a_service_that_stays_busy_is_given_up(httpserver: HTTPServer, url: str) -> None:
    """If the next wait would exceed the waiting time that is left, the client exits 5 at once."""
    httpserver.expect_request("/predict").respond_with_data("", 503, {"Retry-After": "30"})
    started = time.monotonic()

    with pytest.raises(ServiceBusyError) as caught:
        generate(url, max_wait_s=20)

    assert caught.value.exit_code == 5
    assert time.monotonic() - started < 5
    assert len(httpserver.log) == 1


def _cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _short_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")


def _not_http(connection: socket.socket) -> None:
    connection.sendall(b"220 smtp.example ESMTP\r\n")


@pytest.mark.parametrize("talk", [_cut_off, _reset, _short_chunk, _not_http])
def test_a_connection_that_breaks_is_not_tried_again(talk: Callable[[socket.socket], None]) -> None:
    """The service may still be working on the request, so it is exit 6 after a single one."""
    connections: list[socket.socket] = []

    def counted(connection: socket.socket) -> None:
        connections.append(connection)
        talk(connection)

    with fakes.raw_server(counted) as url, pytest.raises(ServiceError) as caught:
        generate(url)

    assert caught.value.exit_code == 6
    assert len(connections) == 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_a_refused_connection_is_exit_4_after_two_seconds() -> None:
    """A service on loopback may be starting, so it is tried again for a moment."""
    port = _free_port()
    started = time.monotonic()

    with pytest.raises(ServiceUnreachableError) as caught:
        generate(f"http://127.0.0.1:{port}")

    assert 1.5 < time.monotonic() - started < 6
    assert caught.value.exit_code == 4
    assert str(caught.value) == f"no musicgen service at http://127.0.0.1:{port}"
    assert caught.value.hint == NO_SERVICE_HINT


def test_a_service_that_opens_its_port_a_moment_later_is_reached() -> None:
    """`musicgen serve &` and `musicgen generate` work on one line."""
    port = _free_port()
    server = HTTPServer(host="127.0.0.1", port=port)
    server.expect_request("/predict").respond_with_handler(fakes.ours)
    threading.Timer(0.8, server.start).start()
    try:
        assert generate(f"http://127.0.0.1:{port}").seed == 7
    finally:
        server.stop()


def test_an_unknown_host_is_exit_4_at_once() -> None:
    """A name that cannot be resolved is not waited for."""
    started = time.monotonic()
    with pytest.raises(ServiceUnreachableError, match="no such host"):
        generate("http://musicgen.invalid:2006")
    assert time.monotonic() - started < 10


def test_what_this_machine_cant_reach_is_not_blamed_on_the_service() -> None:
    """TCP has no broadcast, so the system refuses by itself to connect to that address."""
    with pytest.raises(ServiceUnreachableError, match=r"^http://255.255.255.255:2006 can't be reached: ") as caught:
        generate("http://255.255.255.255:2006")
    assert "musicgen serve" not in (caught.value.hint or "")


def test_tls_to_a_plain_port_is_exit_4(url: str) -> None:
    """A failed TLS handshake is named as such."""
    with pytest.raises(ServiceUnreachableError, match="no secure connection"):
        generate(url.replace("http://", "https://"))


@pytest.mark.parametrize(("resumes", "waits_for_away", "waits"), [
    (False, True, (False, False)), (True, False, (True, False)), (True, True, (True, True)),
])  # fmt: skip
def test_a_service_that_goes_on_is_waited_for(resumes: bool, waits_for_away: bool, waits: tuple[bool, bool]) -> None:
    """After a broken connection; when it is gone, too, but not if a fleet has others."""
    listener = RecordingListener()
    policy = RetryPolicy(60, listener, loopback=False, waits_for_away=waits_for_away, resumes=resumes)
    gone = connection_error("http://x", httpx.ConnectError("refused"))

    assert (policy(broken_error("http://x", "")) is not False, policy(gone) is not False) == waits
    assert len(listener.notes) == sum(waits)
