"""What no request passes without: its size, its speed, its host, its key."""

import contextlib
import re
import select

import pytest

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
KIB64 = 64 * 1024


def received(connection):
    """Read until the other side closes."""
    parts = []
    with connection, contextlib.suppress(ConnectionResetError):  # how it closes on bytes that it left unread
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_body_of_64_kib_passes(shared):
    """The bound itself is allowed."""
    assert shared.post(b'{"duration": 0.5}'.ljust(KIB64)).status_code == 200


def test_a_larger_body_is_413(shared):
    """One byte more isn't."""
    answer = shared.post(b'{"duration": 0.5}'.ljust(KIB64 + 1))

    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body must be at most 65536 bytes"}


def test_a_larger_body_without_its_length_is_413(shared):
    """Chunks are counted as they come."""
    chunks = (b" " * 1000 for _ in range(100))

    answer = shared.client.post("/predict", content=chunks, headers={"Content-Type": "application/json"})

    assert answer.status_code == 413


def test_an_endless_body_is_cut_off(service, logged, until):
    """Who never stops sending is answered and disconnected."""
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    sent = 0

    with service.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        try:
            while sent < 100_000_000:
                connection.sendall(chunk)
                sent += 0x2000
        except ConnectionError:
            pass

    assert sent < 100_000_000
    assert until(lambda: logged(" status=413 "))
    assert service.get("/health").status_code == 200


def test_a_body_that_trickles_is_408(start):
    """A body must be whole in time, however busily it trickles; the connection is closed then."""
    service = start(body_s=0.2)
    connection = service.raw(HEAD + b"Content-Length: 1000\r\n\r\n")
    while not select.select([connection], [], [], 0.02)[0]:
        connection.sendall(b" ")

    answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"detail":"the body did not arrive within 0.2 s"}' in answer


def test_a_body_cut_short_costs_nothing(service, caplog, logged, until):
    """A client that goes in the middle of its body isn't an error, and nothing is made for it."""
    service.raw(HEAD + b'Content-Length: 1000\r\n\r\n{"duration": 0.5}').close()

    assert until(lambda: logged(" status=499 "))
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
def test_names_of_ours_are_answered(start_named, host):
    """Loopback by any of its names, and what was allowed, is us; the port doesn't matter."""
    assert start_named.get("/health", headers={"Host": host}).status_code == 200


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
def test_a_foreign_host_name_is_421(start_named, host, path):
    """A web page whose name was rebound to this machine gets nothing, not even health."""
    answer = start_named.get(path, headers={"Host": host})

    assert answer.status_code == 421
    assert list(answer.json()) == ["detail"]


@pytest.fixture(scope="module")
def start_named(shared_with):
    return shared_with(hosts=["music.example"])


@pytest.fixture(scope="module")
def keyed(shared_with):
    return shared_with(api_key="sesäme")


@pytest.mark.parametrize("path", ["/predict", "/progress/x", "/nowhere"])
@pytest.mark.parametrize("given", [None, "", "Bearer", "Basic c2VzYW1l", "sesäme"])
def test_a_missing_key_is_401(keyed, path, given):
    """Everything but health wants the key, as a bearer token."""
    headers = {} if given is None else {"Authorization": given.encode()}

    answer = keyed.client.post(path, json={}, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("given", ["Bearer wrong", "Bearer sesäm", "Bearer sesäme2", "Bearer \xff"])
def test_a_wrong_key_is_403(keyed, given):
    """A key that is there but isn't ours is told apart, and isn't shown."""
    answer = keyed.post(headers={"Authorization": given.encode()})

    assert answer.status_code == 403
    assert answer.json() == {"detail": "the API key is wrong"}


@pytest.mark.parametrize("given", ["Bearer sesäme", "bearer  sesäme"])
def test_the_right_key_opens(keyed, given):
    """The scheme's case doesn't matter (RFC 9110, 11.1)."""
    assert keyed.post(headers={"Authorization": given.encode()}).status_code == 200


def test_health_needs_no_key(keyed):
    """Whoever watches the service needn't know its key."""
    assert keyed.get("/health").status_code == 200


def test_every_answer_has_an_id_of_its_own(shared):
    """Good or bad, an answer can be found in the log."""
    answers = [shared.get("/health"), shared.get("/x"), shared.post(b"{"), shared.post(), shared.post(b" " * 99_999)]
    answers.append(shared.get("/health", headers={"Host": "evil.example"}))

    ids = {answer.headers.get_list("x-request-id")[0] for answer in answers}  # Ray adds one of its own

    assert len(ids) == len(answers)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


def test_a_request_is_one_line_in_the_log(service, logged, until):
    """It tells id, status, seconds, job and steps, and never the prompt."""
    answer = service.post({"prompt": "quite private", "client_job_id": "abc"})

    (line,) = until(lambda: logged("/predict"))
    request_id, number = answer.headers["x-request-id"], r"\d+\.\d+"
    assert re.fullmatch(
        rf"time=\S+Z level=info event=answered request={request_id} client=127.0.0.1 method=POST path=/predict "
        rf"status=200 seconds={number} job=abc waited={number} steps=8 sound=0.5",
        line,
    )


def test_prompts_are_logged_when_asked_for_and_escaped(start, logged, until):
    """A prompt can't start a line of its own or reach the terminal as a command."""
    service = start(log_prompts=True)

    service.post({"prompt": 'a "b"\n\tc \u009b\u202e\x7f'})

    (line,) = until(lambda: logged("prompt="))
    assert line.endswith(r' sound=0.5 prompt="a \"b\"\n\tc \u009b\u202e\u007f"')


def test_a_path_is_logged_as_it_was_sent(service, logged, until):
    """Escapes in a path stay escapes; what would look like a field of its own is quoted."""
    service.get("/%0a%1b[31m")
    service.raw(b"GET /=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").close()

    assert until(lambda: [line for line in logged(" status=404 ") if ' path="/%0a%1b[31m" ' in line.lower()])
    assert until(lambda: logged(' path="/=x" '))


def test_what_is_asked_every_second_is_not_logged(service, logged, until):
    """Health, progress and metrics have a line only where they are refused."""
    service.post({"client_job_id": "abc"})
    for path in ("/health", "/metrics", "/progress/abc", "/progress/other"):
        service.get(path)

    assert until(lambda: logged("path=/progress/other", " status=404 "))
    assert len(logged("GET")) == 1


def test_a_failure_is_one_line_with_its_traceback(start, engine, logged, until):
    """Nothing in the log takes more than one line."""
    engine.failure = RuntimeError("two\nlines")

    start(engine).post()

    (line,) = until(lambda: logged("level=error"))
    assert r"\nRuntimeError: two\nlines" in line
    assert "\n" not in line


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_is_logged_and_answered(service, logged, until):
    """Whoever traces its calls finds this one."""
    parent = f"00-{TRACE[0]}-{TRACE[1]}-01"

    answer = service.post(headers={"traceparent": parent})

    metadata = answer.json()["metadata"]
    assert (metadata["trace_id"], metadata["span_id"]) == TRACE
    assert until(lambda: logged(f" traceparent={parent} "))


@pytest.mark.parametrize(
    "junk",
    ["", "00", f"ff-{TRACE[0]}-{TRACE[1]}-01", f"00-{'0' * 32}-{TRACE[1]}-01", f"00-{TRACE[0]}-{TRACE[1]}-1\t x"],
)
def test_a_trace_that_is_none_is_left_out(shared, junk):
    """It is no reason to refuse a request."""
    answer = shared.post(headers={"traceparent": junk})

    assert answer.status_code == 200
    assert "trace_id" not in answer.json()["metadata"]
