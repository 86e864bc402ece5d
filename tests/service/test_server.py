"""The service as a process: how it starts, limits its connections, and ends."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.service.acceptor import connection_limit
from musicgen_cli.service.connection import Connection
from musicgen_cli.service.server import ServeOptions, listen, serve
from tests.support.fake_engine import FakeEngine
from tests.support.programs import environment
from tests.support.services import PREDICT_HEAD, FakeService, StartService
from tests.support.waiting import wait_until

Process = subprocess.Popen[str]
StartProgram = Callable[..., Process]


@pytest.fixture
def program() -> Iterator[StartProgram]:
    """Start processes that serve, with the options of `tests.support.service_program`; none outlives the test."""
    processes: list[Process] = []

    def start_program(**options: object) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.support.service_program", json.dumps({"port": 0} | options)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_program
    for process in processes:
        process.kill()
        process.communicate()


def first_line(process: Process) -> str:
    """Read the first line of stdout, within half a minute."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 30)[0], "the process wrote nothing"
    return process.stdout.readline().rstrip("\n")


def continue_request(process: Process) -> None:
    """Let the running request go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=20) as client:
        yield client


StartBusy = Callable[[], tuple[Process, list[Future[httpx.Response]]]]


@pytest.fixture
def busy(program: StartProgram, client: httpx.Client) -> Iterator[StartBusy]:
    """Start a process with one request that runs and two that wait; return it and the three answers."""
    pool = ThreadPoolExecutor(max_workers=3)

    def start_busy() -> tuple[Process, list[Future[httpx.Response]]]:
        process = program()
        url = first_line(process)

        def send() -> Future[httpx.Response]:
            return pool.submit(client.post, f"{url}/predict", json={"duration": 0.5})

        answers = [send()]
        wait_until(lambda: client.get(f"{url}/health").json()["queue"]["running"])
        answers += [send(), send()]
        wait_until(lambda: client.get(f"{url}/health").json()["queue"]["waiting"] == 2)
        return process, answers

    yield start_busy
    pool.shutdown()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_request_finish_and_refuses_the_rest(busy: StartBusy, sig: signal.Signals) -> None:
    """The running request is answered, the waiting ones are refused at once, and the process ends without an error."""
    process, (running, *waiting) = busy()

    process.send_signal(sig)

    for refused in waiting:
        answer = refused.result(30)
        assert answer.status_code == 503
        assert answer.json() == {"detail": "the service is stopping"}
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert not running.done()
    continue_request(process)
    assert running.result(30).status_code == 200
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.split("\n")[-3:-1] == ["closed", "returned"]
    lines = err.splitlines()
    assert sum(" method=POST path=/predict status=503 " in line for line in lines) == 2
    head = r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ level=info event=answered request=[0-9a-f]{16} "
    assert all(re.match(head, line) for line in lines)


def test_a_second_signal_kills(busy: StartBusy) -> None:
    """Nobody needs to wait for the running request."""
    process, (running, *waiting) = busy()

    process.send_signal(signal.SIGTERM)
    waiting[0].result(30)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == -signal.SIGTERM
    with pytest.raises(httpx.HTTPError):
        running.result(30)


def test_a_stop_takes_a_bounded_time(start: StartService, engine: FakeEngine) -> None:
    """A request that is not finished in time is cancelled at its next step and refused with Retry-After."""
    service = start(engine, stop_s=0.1)
    engine.hold()
    running = service.later()
    wait_until(lambda: engine.requests)

    service.stop()

    answer = running.result()
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the service is stopping"}
    assert "retry-after" in answer.headers
    assert len(engine.cancelled_by) == 1


def test_a_request_that_arrives_during_the_stop_is_refused(start: StartService, engine: FakeEngine) -> None:
    """A request whose body was not complete when the stop began is answered 503, and no clip is generated."""
    service = start(engine)
    engine.hold()
    running = service.later()
    wait_until(lambda: engine.requests)
    waiting = service.later()
    with service.connect(PREDICT_HEAD) as late:
        late.sendall(b"Content-Length: 2\r\n\r\n{")
        wait_until(lambda: service.counts()["waiting"])
        service.stop()
        assert waiting.result().status_code == 503

        late.sendall(b"}")

        answer = late.recv(4096)
    engine.release()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in answer
    assert running.result().status_code == 200
    assert len(engine.requests) == 1


def test_a_signal_while_the_model_is_being_loaded_ends_the_process(program: StartProgram) -> None:
    """There is nothing to finish, and loading may take long."""
    process = program(failure="loading")
    assert first_line(process) == "loading"

    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0


def test_a_model_that_cannot_be_loaded_ends_the_process(program: StartProgram) -> None:
    """`serve` raises the reason."""
    process = program(failure="absent")

    out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (1, "MusicgenError: no model here\n", "")


def test_a_bug_in_loading_ends_the_process_too(program: StartProgram) -> None:
    """An unexpected exception comes out of `serve` with its traceback."""
    process = program(failure="broken")

    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (1, "")
    assert err.rstrip().endswith("ZeroDivisionError")


def never() -> Engine:
    """Fail the test: the model must not be loaded."""
    pytest.fail("the model was loaded")


def test_a_port_in_use_is_reported_before_the_model_is_loaded() -> None:
    """The message is one line, and the hint says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MusicgenError, match=f"^port {port} on 127.0.0.1 is in use$") as caught:
            serve(never, ServeOptions(port=port))

    assert "--port" in str(caught.value.hint)
    assert caught.value.exit_code == 1


def test_an_address_of_another_machine_is_reported() -> None:
    """No machine has 192.0.2.1: it is reserved for documentation (TEST-NET-1)."""
    with pytest.raises(MusicgenError, match=r"^can't listen on 192\.0\.2\.1, port 0: "):
        serve(never, ServeOptions(host="192.0.2.1", port=0, api_keys=["k"]))


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_only_loopback_is_served_without_a_key(host: str, key: str | None) -> None:
    """On every other address the key is required, and an empty one is none."""
    with pytest.raises(UsageError, match="needs an API key") as caught:
        serve(never, ServeOptions(host=host, port=0, api_keys=[key] if key is not None else []))

    assert "MUSICGEN_API_KEY" in str(caught.value.hint)


@pytest.mark.parametrize("option", [{"port": 65536}, {"port": -1}, {"queue_limit": -1}, {"max_duration": 601}])
def test_options_out_of_range_are_refused(option: dict[str, Any]) -> None:
    """Such options cannot even be constructed, so nothing is opened."""
    with pytest.raises(InvalidValueError):
        ServeOptions(**option)


def test_the_key_is_not_in_the_repr_of_the_options() -> None:
    """A traceback or a log line that shows the options must not show the key."""
    assert "s3cret" not in repr(ServeOptions(api_keys=["s3cret"]))


def test_with_a_key_every_address_is_served() -> None:
    """With a key the service may listen on all addresses."""
    with listen("0.0.0.0", 0, has_key=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_a_name_of_both_families_means_ipv4() -> None:
    """Every client tries 127.0.0.1 for localhost; not every one tries ::1."""
    if len({info[0] for info in socket.getaddrinfo("localhost", 0)}) < 2:
        pytest.skip("localhost has one family here")
    with listen("localhost", 0, has_key=False) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


@pytest.mark.skipif(not _has_ipv6(), reason="needs IPv6")
def test_all_addresses_of_ipv6_are_those_of_ipv4_too(program: StartProgram, client: httpx.Client) -> None:
    """`--host ::` answers both families, each by the address that a request came in on."""
    url = first_line(process := program(host="::", api_keys=["key"]))
    port = url.rpartition(":")[2]
    own = _own_address()

    for host in ("127.0.0.1", "[::1]", "localhost", own):
        assert client.get(f"http://{host}:{port}/health").status_code == 200, host
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert "ffff" not in err


def _own_address() -> str:
    """Return an IPv4 address of this machine, preferably one that isn't loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def test_the_options_of_serve_reach_the_service(program: StartProgram, client: httpx.Client) -> None:
    """Each option has its effect on a running service."""
    process = program(api_keys=["k"], allow_hosts=["music.example"], max_duration=1, log_prompts=True, queue_limit=3)
    url = first_line(process)
    headers = {"Authorization": "Bearer k", "Host": "music.example"}
    continue_request(process)

    answer = client.post(f"{url}/predict", json={"prompt": "a lute"}, headers=headers)

    assert answer.json()["duration"] == 1
    assert client.post(f"{url}/predict", json={}).status_code == 401
    assert client.get(f"{url}/health").json()["queue"]["limit"] == 3
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert err.count('prompt="a lute"') == 1
    assert "server" not in answer.headers


def test_many_idle_connections_do_not_block_others(service: FakeService) -> None:
    """Those that have been idle longest are closed; requests are served all the time."""
    resource = pytest.importorskip("resource", reason="needs the limit on open files")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("needs 4,096 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    idle = [service.connect() for _ in range(connection_limit(16) + 100)]
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
def test_a_head_that_trickles_is_cut_off(service: FakeService, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    """Both the first request of a connection and the later ones have a bounded time to begin."""
    monkeypatch.setattr(Connection, "HEAD_TIMEOUT_S", 0.2)
    with service.connect(before) as connection:
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


def test_a_head_that_is_too_large_is_refused(service: FakeService) -> None:
    """The size of a head is limited, as that of a body is."""
    with service.connect(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert service.get("/health").status_code == 200


def test_an_answer_that_is_not_read_is_not_kept(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing of it for a while is disconnected."""
    monkeypatch.setattr(Connection, "READ_TIMEOUT_S", 0.2)
    connections = service.server.server_state.connections

    def unread() -> int:
        transports = [connection.transport for connection in list(connections) if isinstance(connection, Connection)]
        return sum(transport.get_write_buffer_size() for transport in transports)

    request = PREDICT_HEAD + b'Content-Length: 16\r\n\r\n{"duration": 30}'
    answers = 10  # more than the system buffers
    with service.connect(request * answers) as deaf:
        wait_until(unread, timeout_s=60)
        wait_until(lambda: not unread(), timeout_s=60)
        read = 0
        with contextlib.suppress(ConnectionError):
            while part := deaf.recv(65536):
                read += len(part)

    assert read < answers * 2_560_000
    assert service.get("/health").status_code == 200
