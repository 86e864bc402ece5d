"""The service as a process: how it starts, what it withstands, how it ends."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.service.server import Connection, ServeOptions, listen, serve
from tests.support.programs import environment

PREDICT = {"json": {"duration": 0.5}, "timeout": 20}


@pytest.fixture
def program():
    """Start serving processes; none outlives the test."""
    started = []

    def program(**options):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.support.service_program", json.dumps({"port": 0} | options)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield program
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def client():
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def busy(program, client, until):
    """Start a process with one request running and two waiting."""
    pool = ThreadPoolExecutor(max_workers=3)

    def busy():
        process = program()
        url = process.stdout.readline().strip()
        answers = [pool.submit(client.post, f"{url}/predict", **PREDICT)]
        until(lambda: client.get(f"{url}/health").json()["queue"]["running"])
        answers += [pool.submit(client.post, f"{url}/predict", **PREDICT) for _ in range(2)]
        until(lambda: client.get(f"{url}/health").json()["queue"]["waiting"] == 2)
        return process, answers

    yield busy
    pool.shutdown()


@pytest.mark.parametrize(
    ("sig", "code", "last"),
    [(signal.SIGTERM, 0, "returned"), (signal.SIGINT, 130, "StoppedError: interrupted")],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_lets_the_running_request_finish_and_refuses_the_rest(busy, sig, code, last):
    """The running one is answered, those that wait are told so at once, and the process ends cleanly."""
    process, (running, *waiting) = busy()

    process.send_signal(sig)

    for refused in waiting:
        answer = refused.result(30)
        assert answer.status_code == 503
        assert answer.json() == {"detail": "the service is stopping"}
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert not running.done()
    process.stdin.write("\n")
    process.stdin.flush()
    assert running.result(30).status_code == 200
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out.split("\n")[-3:-1] == ["closed", last]
    lines = err.splitlines()
    assert sum(" method=POST path=/predict status=503 " in line for line in lines) == 2
    head = r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ level=info event=answered request=[0-9a-f]{16} "
    assert all(re.match(head, line) for line in lines)


def test_a_second_signal_kills(busy):
    """Who can't wait for the running request needn't."""
    process, (running, *waiting) = busy()

    process.send_signal(signal.SIGTERM)
    waiting[0].result(30)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == -signal.SIGTERM
    with pytest.raises(httpx.HTTPError):
        running.result(30)


def test_a_stop_is_bounded(start, engine, until):
    """A request that isn't done in time is stopped at its next step and told to come back."""
    service = start(engine, stop_s=0.1)
    engine.go.clear()
    running = service.later()
    until(lambda: engine.requests)

    service.stop()

    answer = running.result()
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the service is stopping"}
    assert "retry-after" in answer.headers
    assert len(engine.stops) == 1


def test_a_request_that_arrives_during_the_stop_is_refused(start, engine, until):
    """A body that was still on its way when the stop began is answered, and nothing is made for it."""
    service = start(engine)
    engine.go.clear()
    running = service.later()
    until(lambda: engine.requests)
    waiting = service.later()
    with service.raw(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n") as late:
        late.sendall(b"Content-Length: 2\r\n\r\n{")
        until(lambda: service.counts()["waiting"])
        service.stop()
        assert waiting.result().status_code == 503

        late.sendall(b"}")

        answer = late.recv(4096)
    engine.go.set()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in answer
    assert running.result().status_code == 200
    assert len(engine.requests) == 1


def test_a_signal_while_the_model_is_loaded_ends_the_process(program):
    """There is nothing to finish, and loading can take long."""
    process = program(how="loading")
    assert process.stdout.readline() == "loading\n"

    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0


def test_a_model_that_cannot_be_loaded_ends_the_process(program):
    """The reason reaches the caller of `serve`."""
    process = program(how="absent")

    out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (1, "MusicgenError: no model here\n", "")


def test_a_bug_in_loading_ends_the_process_too(program):
    """Also what nobody has foreseen."""
    process = program(how="broken")

    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (1, "")
    assert err.rstrip().endswith("ZeroDivisionError")


def test_a_port_in_use_is_said_in_one_line():
    """The model isn't even loaded; the hint says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MusicgenError, match=f"^port {port} on 127.0.0.1 is in use$") as caught:
            serve(pytest.fail, ServeOptions(port=port))

    assert "--port" in caught.value.hint
    assert caught.value.exit_code == 1


def test_an_address_that_is_not_ours_is_said_in_one_line():
    """So is an address that this machine doesn't have (TEST-NET-1)."""
    with pytest.raises(MusicgenError, match=r"^can't listen on 192\.0\.2\.1, port 0: "):
        serve(pytest.fail, ServeOptions(host="192.0.2.1", port=0, api_key="k"))


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_are_not_served_without_a_key(host, key):
    """Only loopback is safe without one."""
    with pytest.raises(UsageError, match="needs an API key") as caught:
        serve(pytest.fail, ServeOptions(host=host, port=0, api_key=key))

    assert "MUSICGEN_API_KEY" in caught.value.hint


@pytest.mark.parametrize("option", [{"port": 65536}, {"port": -1}, {"queue_limit": -1}, {"max_duration": 31}])
def test_options_out_of_range_are_refused(option):
    """Before anything is opened."""
    with pytest.raises(InvalidValueError):
        ServeOptions(**option)


def test_with_a_key_others_are_served():
    """The key opens every address."""
    with listen("0.0.0.0", 0, has_key=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_a_name_for_both_families_means_ipv4():
    """Every client tries 127.0.0.1 for localhost; not every one tries ::1."""
    if len({info[0] for info in socket.getaddrinfo("localhost", 0)}) < 2:
        pytest.skip("localhost has one family here")
    with listen("localhost", 0, has_key=False) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_the_service_answers_through_serve(program, client):
    """What `serve` is given reaches the service."""
    process = program(api_key="k", allow_hosts=["music.example"], max_duration=1, log_prompts=True, queue_limit=3)
    url = process.stdout.readline().strip()
    headers = {"Authorization": "Bearer k", "Host": "music.example"}
    process.stdin.write("\n")
    process.stdin.flush()

    answer = client.post(f"{url}/predict", json={"prompt": "a lute"}, headers=headers, timeout=20)

    assert answer.json()["duration"] == 1
    assert client.post(f"{url}/predict", json={}).status_code == 401
    assert client.get(f"{url}/health").json()["queue"]["limit"] == 3
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert err.count('prompt="a lute"') == 1
    assert "server" not in answer.headers


def test_many_idle_connections_do_not_hurt(service):
    """Those that wait longest without a word give way; requests are served all the while."""
    idle = [service.raw() for _ in range(2 * Connection.MAX_IDLE)]
    try:
        assert service.post().status_code == 200
        idle[0].settimeout(5)
        assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle[-1].recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["first", "second"])
def test_a_head_that_trickles_is_cut_off(service, monkeypatch, before):
    """The first request of a connection and those after it have a bounded time to begin."""
    monkeypatch.setattr(Connection, "HEAD_TIMEOUT_S", 0.2)
    with service.raw(before) as connection:
        if before:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.settimeout(0.02)
        with pytest.raises(ConnectionError):  # noqa: PT012  # a loop that only the other side ends
            for _ in range(500):
                connection.sendall(b"G")
                try:
                    if connection.recv(4096) == b"":
                        raise ConnectionError
                except TimeoutError:
                    continue


def test_a_head_that_is_too_large_is_refused(service):
    """A head is bounded, as bodies are."""
    with service.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert service.get("/health").status_code == 200


def test_an_answer_that_nobody_reads_is_not_kept(service, monkeypatch, until):
    """Who takes nothing of it for a while is cut off."""
    monkeypatch.setattr(Connection, "READ_TIMEOUT_S", 0.2)
    connections = service.server.server_state.connections

    def unread():
        return sum(each.transport.get_write_buffer_size() for each in list(connections))

    body = b'{"duration": 30}'
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    answers = 10  # more than the system keeps for us
    with service.raw((head + body) * answers) as deaf:
        until(unread, within_s=60)
        until(lambda: not unread(), within_s=60)
        read = 0
        with contextlib.suppress(ConnectionError):
            while part := deaf.recv(65536):
                read += len(part)

    assert read < answers * 2_560_000
    assert service.get("/health").status_code == 200
