"""The checks and the access log of every request: body size and speed, host, key, one line each."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Callable

import pytest

from tests.support.fake_engine import FakeEngine
from tests.support.services import (
    JSON_HEADER,
    PREDICT_HEAD,
    FakeService,
    Logged,
    ServiceClient,
    StartService,
)
from tests.support.waiting import wait_until

KIB64 = 64 * 1024


def receive_all(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    with connection, contextlib.suppress(ConnectionResetError):  # how it closes on bytes that it left unread
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_body_of_64_kib_passes(shared: ServiceClient) -> None:
    """The limit itself is allowed."""
    assert shared.post(b'{"duration": 0.5}'.ljust(KIB64)).status_code == 200


def test_a_larger_body_is_413(shared: ServiceClient) -> None:
    """One byte more is refused."""
    answer = shared.post(b'{"duration": 0.5}'.ljust(KIB64 + 1))

    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body must be at most 65536 bytes"}


def test_a_larger_body_without_its_length_is_413(shared: ServiceClient) -> None:
    """Chunks are counted as they arrive."""
    chunks = (b" " * 1000 for _ in range(100))

    answer = shared.client.post("/predict", content=chunks, headers=JSON_HEADER)

    assert answer.status_code == 413


def test_an_endless_body_is_cut_off(service: FakeService, logged: Logged) -> None:
    """A client that never stops sending is answered and disconnected."""
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    sent = 0

    with service.connect(PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        try:
            while sent < 100_000_000:
                connection.sendall(chunk)
                sent += 0x2000
        except ConnectionError:
            pass

    assert sent < 100_000_000
    assert wait_until(lambda: logged(" status=413 "))
    assert service.get("/health").status_code == 200


def test_a_body_that_trickles_is_408(start: StartService) -> None:
    """A body must be complete in time, however steadily it arrives; then the connection is closed."""
    service = start(body_s=0.2)
    connection = service.connect(PREDICT_HEAD + b"Content-Length: 1000\r\n\r\n")
    end = time.monotonic() + 10
    while not select.select([connection], [], [], 0.02)[0]:
        assert time.monotonic() < end
        connection.sendall(b" ")

    answer = receive_all(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"detail":"the body did not arrive within 0.2 s"}' in answer


def test_a_body_cut_short_is_no_error(service: FakeService, caplog: pytest.LogCaptureFixture, logged: Logged) -> None:
    """A client that disconnects in the middle of its body is logged as 499, and no clip is generated."""
    service.connect(PREDICT_HEAD + b'Content-Length: 1000\r\n\r\n{"duration": 0.5}').close()

    assert wait_until(lambda: logged(" status=499 "))
    assert service.engine.requests == []
    assert {record.levelname for record in caplog.records} == {"INFO"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:2006",
        "localhost",
        "LOCALHOST:80",
        "localhost.",
        "[::1]",
        "[::1]:2006",
        "127.1.2.3",
        "music.example",
        "Music.Example:2006",
    ],
)
def test_allowed_host_names_are_answered(named: FakeService, host: str) -> None:
    """Loopback by any of its names, and the names that were allowed; the port does not matter."""
    assert named.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:2006",
        "localhost@evil.example",
        "evil.example@localhost",
        "192.168.1.5",
        "[fe80::1]",
        "[::1",
        "",
        ":2006",
    ],
)
@pytest.mark.parametrize("path", ["/health", "/progress/x"])
def test_a_foreign_host_name_is_421(named: FakeService, host: str, path: str) -> None:
    """A web page whose name was rebound to this machine gets nothing, not even the health report."""
    answer = named.get(path, headers={"Host": host})

    assert answer.status_code == 421
    assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.168.1.5", "192.168.1.5"),
        ("192.168.1.5:8080", "192.168.1.5"),
        ("GPUbox.lan:2006", "gpubox.lan"),
        ("[fd00::5]:2006", "fd00::5"),
    ],
)
def test_a_421_names_the_host_and_the_option_that_allows_it(
    named: FakeService, start: StartService, host: str, name: str
) -> None:
    """As behind a container's published port. With what it says, and with `*`, the same request is answered."""
    detail = named.get("/health", headers={"Host": host}).json()["detail"]
    assert detail == f"this service doesn't answer to the host {name!r}: start it with `--allow-host {name}`"

    for allowed in (name, host, "*"):
        assert start(hosts=[allowed]).get("/health", headers={"Host": host}).status_code == 200, allowed


@pytest.mark.parametrize("path", ["/health", "/metrics", "/progress/x"])
def test_head_is_answered_like_get(shared: ServiceClient, path: str) -> None:
    """The same status and headers, without the body."""
    answers = [shared.client.request(method, path) for method in ("GET", "HEAD")]
    get, head = answers

    assert head.status_code == get.status_code == (404 if "progress" in path else 200)
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.content == b""
    assert shared.client.head("/predict").status_code == 405


@pytest.fixture(scope="module")
def named(start_shared: Callable[..., FakeService]) -> FakeService:
    return start_shared(hosts=["music.example"])


@pytest.fixture(scope="module")
def keyed(start_shared: Callable[..., FakeService]) -> FakeService:
    return start_shared(api_keys=["sesäme"])


@pytest.mark.parametrize("path", ["/predict", "/progress/x", "/nowhere"])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic c2VzYW1l", "sesäme"])
def test_a_missing_key_is_401(keyed: FakeService, path: str, authorization: str | None) -> None:
    """Everything but health needs the key, as a bearer token."""
    headers = {} if authorization is None else {b"Authorization": authorization.encode()}

    answer = keyed.client.post(path, json={}, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["detail"]


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer sesäm", "Bearer sesäme2", "Bearer \xff"])
def test_a_wrong_key_is_403(keyed: FakeService, authorization: str) -> None:
    """A wrong key is distinguished from none, and is not repeated in the answer."""
    answer = keyed.post(headers={"Authorization": authorization.encode()})

    assert answer.status_code == 403
    assert answer.json() == {"detail": "the API key is wrong"}


@pytest.mark.parametrize("authorization", ["Bearer sesäme", "bearer  sesäme"])
def test_the_right_key_is_accepted(keyed: FakeService, authorization: str) -> None:
    """The scheme's case does not matter (RFC 9110, 11.1)."""
    assert keyed.post(headers={"Authorization": authorization.encode()}).status_code == 200


def test_health_needs_no_key(keyed: FakeService) -> None:
    """A monitor of the service need not know its key."""
    assert keyed.get("/health").status_code == 200


def test_every_answer_has_an_id_of_its_own(shared: ServiceClient) -> None:
    """By its id every answer, good or bad, can be found in the log."""
    answers = [shared.get("/health"), shared.get("/x"), shared.post(b"{"), shared.post(), shared.post(b" " * 99_999)]
    answers.append(shared.get("/health", headers={"Host": "evil.example"}))

    ids = {answer.headers.get_list("x-request-id")[0] for answer in answers}  # Ray adds one of its own

    assert len(ids) == len(answers)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


def test_a_request_is_one_line_in_the_log(service: FakeService, logged: Logged) -> None:
    """The line has id, status, seconds, job and steps, and never the prompt."""
    answer = service.post({"prompt": "quite private", "client_job_id": "abc"})

    (line,) = wait_until(lambda: logged("/predict"))
    request_id, number = answer.headers["x-request-id"], r"\d+\.\d+"
    assert re.fullmatch(
        rf"time=\S+Z level=info event=answered request={request_id} client=127.0.0.1 method=POST path=/predict "
        rf"status=200 seconds={number} job=abc waited={number} steps=8 sound=0.5",
        line,
    )


def test_prompts_are_logged_on_request_and_escaped(start: StartService, logged: Logged) -> None:
    """A prompt can neither start a line of its own nor send control sequences to the terminal."""
    service = start(log_prompts=True)

    service.post({"prompt": 'a "b"\n\tc \u009b\u202e\x7f'})

    (line,) = wait_until(lambda: logged("prompt="))
    assert line.endswith(r' sound=0.5 prompt="a \"b\"\n\tc \u009b\u202e\u007f"')


def test_a_path_is_logged_as_it_was_sent(service: FakeService, logged: Logged) -> None:
    """Escapes in a path stay escapes; a path that would look like another field is quoted."""
    service.get("/%0a%1b[31m")
    service.connect(b"GET /=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").close()

    assert wait_until(lambda: [line for line in logged(" status=404 ") if ' path="/%0a%1b[31m" ' in line.lower()])
    assert wait_until(lambda: logged(' path="/=x" '))


def test_polling_is_not_logged(service: FakeService, logged: Logged) -> None:
    """Requests for health, progress and metrics have a line only if they fail."""
    service.post({"client_job_id": "abc"})
    for path in ("/health", "/metrics", "/progress/abc", "/progress/other"):
        service.get(path)

    assert wait_until(lambda: logged("path=/progress/other", " status=404 "))
    assert len(logged("GET")) == 1


def test_a_failure_is_one_line_with_its_traceback(start: StartService, engine: FakeEngine, logged: Logged) -> None:
    """No entry of the log takes more than one line."""
    engine.failure = RuntimeError("two\nlines")

    start(engine).post()

    (line,) = wait_until(lambda: logged("level=error"))
    assert r"\nRuntimeError: two\nlines" in line
    assert "\n" not in line


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_is_logged_and_answered(service: FakeService, logged: Logged) -> None:
    """The ids of a `traceparent` header are in the log and in the answer's metadata."""
    parent = f"00-{TRACE[0]}-{TRACE[1]}-01"

    answer = service.post(headers={"traceparent": parent})

    metadata = answer.json()["metadata"]
    assert (metadata["trace_id"], metadata["span_id"]) == TRACE
    assert wait_until(lambda: logged(f" traceparent={parent} "))


@pytest.mark.parametrize(
    "junk",
    ["", "00", f"ff-{TRACE[0]}-{TRACE[1]}-01", f"00-{'0' * 32}-{TRACE[1]}-01", f"00-{TRACE[0]}-{TRACE[1]}-1\t x"],
)
def test_a_malformed_trace_is_ignored(shared: ServiceClient, junk: str) -> None:
    """It is no reason to refuse a request."""
    answer = shared.post(headers={"traceparent": junk})

    assert answer.status_code == 200
    assert "trace_id" not in answer.json()["metadata"]
