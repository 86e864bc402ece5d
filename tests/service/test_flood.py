"""
`musicgen serve` where it may open 1,024 files, flooded by clients that hold connections, bodies and places.

Each test bounds memory, open files, the log and the time that others wait. Times are generous: they tell a service that
works from one that is locked, not a quick one from a slow one.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

import httpx  # after what may skip it

from tests.support.flood import Flood
from tests.support.service_process import ServiceProcess
from tests.support.services import PREDICT_HEAD as HEAD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and addresses such as 127.0.0.2")

FILES = 1024
MEMORY_MB = 64  # by which the service's memory may grow
LOG_BYTES = 100_000  # for a whole test
ANSWER_S = 20.0  # within which others are served
CENSUS_S = 0.1  # after which the service counts connections again


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """Start a service; afterwards, check that it has neither failed nor written much, and keeps no connection."""
    service = ServiceProcess(tmp_path / "log", files=FILES)
    with ThreadPoolExecutor(4) as pool:  # so that its memory is what all its slots need
        (sound,) = set(pool.map(lambda _: service.generate(), range(8)))
    before = service.memory_mb()
    try:
        yield service
        # An answer comes after all earlier connections were accepted; then it closes them, and counts what is left.
        wait_until(lambda: service.client.get("/health").status_code == 200)
        wait_until(lambda: service.files() < 200, 60)
        time.sleep(2 * CENSUS_S)
        assert service.generate() == sound
        assert service.memory_mb() - before < MEMORY_MB
        log = service.stop()
    finally:
        service.process.kill()
        service.process.wait(60)
    assert len(log) < LOG_BYTES
    assert "Traceback" not in log
    assert "level=error" not in log


def check_others_are_served(service: ServiceProcess, times: int = 5) -> None:
    """Others get their clips and the service's health, and it keeps below its limit of files."""
    for _ in range(times):
        started = time.monotonic()
        service.generate()
        assert service.client.get("/health").status_code == 200
        assert time.monotonic() - started < ANSWER_S
        assert service.files() < FILES


PARTS = {
    "nothing": (b"", b""),
    "half a head": (b"POST /predict HTTP/1.1\r\nHost: lo", b""),
    "a head that trickles": (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
    "a body that trickles": (HEAD + b"Content-Length: 65536\r\n\r\n" + b" " * 61_000, b" "),
    "a body that is refused": (HEAD.replace(b"application/json", b"text/plain") + b"Content-Length: 9\r\n\r\n", b""),
    "a finished request": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
}


@pytest.mark.parametrize("part", PARTS)
def test_two_thousand_connections_do_not_lock_others_out(service: ServiceProcess, part: str, file_limit: None) -> None:
    """More than there are files for, again and again: the oldest are closed, and honest clients are served."""
    data, trickle = PARTS[part]
    with Flood(service.port, 2000, (data,), trickle) as flood:
        check_others_are_served(service)
        wait_until(lambda: flood.opened > 2000, 60)  # some were closed


def refused_types(client: httpx.Client) -> float:
    """Return how many requests to /predict were refused for their content type."""
    match = re.search(r'^musicgen_requests_total\{status="415"\} (\S+)', client.get("/metrics").text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def test_one_address_with_many_connections_costs_others_little(service: ServiceProcess, file_limit: None) -> None:
    """Few of those that it opens again are let in; the others are told when to come back; who has few is served."""
    data, _ = PARTS["a body that is refused"]
    with service.client_from("127.0.0.9") as other, contextlib.ExitStack() as stack:
        stack.enter_context(Flood(service.port, 2000, (data,)))
        stack.enter_context(service.connect(address="127.0.0.9"))  # the flood isn't by itself, for 10 s
        wait_until(lambda: "connection refused" in service.log.read_text(), 60)
        before, started = refused_types(other), time.monotonic()
        while (elapsed_s := time.monotonic() - started) < 3:
            stack.enter_context(service.connect(address="127.0.0.9"))
            assert other.post("/predict", json={"duration": 0.5}).status_code == 200
        assert refused_types(other) - before < 150 * elapsed_s + 200  # of 960 places a tenth a second
        answer = wait_until(lambda: refusal(service), 60)
    assert b"\r\nRetry-After: 1\r\n" in answer


def refusal(service: ServiceProcess) -> bytes:
    """Open a connection from the flood's address; return the answer if it is refused."""
    received = b""
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.suppress(ConnectionError), service.connect(head) as connection:
        received = connection.recv(4096)
    return received if received.startswith(b"HTTP/1.1 503 ") else b""


def test_one_address_by_itself_is_never_refused(service: ServiceProcess, file_limit: None) -> None:
    """Behind a reverse proxy all clients have one address: as many idle connections are closed as it takes."""
    with Flood(service.port, 2000, (PARTS["half a head"][0],)) as flood:
        check_others_are_served(service)  # from the same address
        wait_until(lambda: flood.opened > 3000, 60)
    log = service.log.read_text()
    assert "idle connections closed" in log
    assert "connection refused" not in log


@pytest.fixture
def file_limit() -> Iterator[None]:
    """Let this process have the files of its side of the connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("needs 4,096 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_house_costs_no_time(service: ServiceProcess, file_limit: None) -> None:
    """Nothing spins while connections wait to be accepted and none is closed."""
    with contextlib.ExitStack() as stack:
        for _ in range(1500):
            stack.enter_context(service.connect())
        service.generate()
        before, started = service.cpu_s(), time.monotonic()
        time.sleep(2)
        assert service.cpu_s() - before < 0.5 * (time.monotonic() - started)


def test_clients_at_sixty_addresses_do_not_keep_the_queue_from_others(service: ServiceProcess) -> None:
    """Each sends again as soon as it is refused; another client, which waits when it is told to, gets its clips."""
    stop = threading.Event()
    statuses: list[int] = []

    def press(number: int) -> None:
        with service.client_from(f"127.0.1.{number}") as client:
            while not stop.is_set():
                statuses.append(client.post("/predict", json={"duration": 1.0}).status_code)
                time.sleep(0.05)

    with ThreadPoolExecutor(60) as pool, service.client_from("127.0.0.9") as other:
        pressing = [pool.submit(press, number) for number in range(1, 61)]
        try:
            wait_until(lambda: statuses.count(429) > 300, 60)
            refused = 0
            for seed in range(5):
                while (answer := other.post("/predict", json={"duration": 0.5, "seed": seed})).status_code == 429:
                    refused += 1
                    time.sleep(int(answer.headers["Retry-After"]))
                assert answer.status_code == 200
        finally:
            stop.set()
        for future in pressing:
            future.result(60)

    assert refused <= 5


def test_without_a_file_left_nothing_spins(service: ServiceProcess) -> None:
    """The limit is lowered after the service has counted on it: it waits, says so once a minute, and serves others."""
    import resource

    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (service.files() + 20, hard))
    with Flood(service.port, 200):
        check_others_are_served(service)
        before, started = service.cpu_s(), time.monotonic()
        time.sleep(3)
        assert service.cpu_s() - before < 0.5 * (time.monotonic() - started)
    assert "connection not accepted" in service.log.read_text()
    assert len(service.log.read_text()) < 20_000
