"""`musicgen serve` under attack by hostile clients: others are served meanwhile, and its memory is bounded."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("onnxruntime", reason="needs the extra local")

from tests.support.service_process import ServiceProcess
from tests.support.services import PREDICT_HEAD as HEAD

TIMEOUT_S = 60
MEMORY_MB = 64  # by which the service's memory may grow in one test


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Start one service for all tests: what harms it would make a later test fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    service = ServiceProcess(tmp_path_factory.mktemp("log") / "log")
    with ThreadPoolExecutor(4) as pool:  # so that its memory is what all its slots need
        (sound,) = set(pool.map(lambda _: service.generate(), range(8)))
    yield service
    assert service.generate() == sound
    service.client.close()
    service.process.terminate()
    assert service.process.wait(TIMEOUT_S) == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "level=error" not in log


@pytest.fixture(autouse=True)
def _unharmed(service: ServiceProcess) -> Iterator[None]:
    """After each test an honest client is served, and the memory has hardly grown."""
    before = service.memory_mb()
    yield
    service.generate()
    assert service.memory_mb() - before < MEMORY_MB


def receive_all(connection: socket.socket) -> bytes:
    """Read until the other side closes the connection, or sends nothing more for a moment."""
    received = b""
    with connection, contextlib.suppress(ConnectionError):
        while select.select([connection], [], [], 0.3 if received else TIMEOUT_S)[0]:
            if not (part := connection.recv(65536)):
                break
            received += part
    return received


def test_a_thousand_idle_connections(service: ServiceProcess) -> None:
    """Some send nothing, some are idle after a request, some in the middle of a head."""
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            data = [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: lo"]
            stack.enter_context(service.connect(data[number % 3]))
            if number % 200 == 0:
                service.generate()
        service.generate()


def test_heads_and_bodies_that_trickle(service: ServiceProcess) -> None:
    """Two hundred connections send a byte from time to time."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(service.connect(b"GET /health HTTP/1.1\r\nX: ")) for _ in range(100)]
        slow += [stack.enter_context(service.connect(HEAD + b"Content-Length: 60000\r\n\r\n")) for _ in range(100)]
        for _ in range(3):
            for connection in slow:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b" ")
            service.generate()


JUNK = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "http 0.9": b"GET /health\r\n\r\n",
    "http 9.9": b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a foreign url": b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path outside": b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of escapes": b"GET /progress/%00%0d%0aX:%20y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long path": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many headers": b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "a folded header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tb\r\n\r\n",
    "a header of NUL": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "an unknown method": b"BREW /predict HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an upgrade": b"GET /predict HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "a length of words": HEAD + b"Content-Length: two\r\n\r\n{}",
    "a huge length": HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
    "malformed chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a huge chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
    "a transfer encoding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n\x1f\x8b",
    "a compressed body": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
    "deep": HEAD + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000,
    "deep objects": HEAD + b"Content-Length: 60000\r\n\r\n" + b'{"a":' * 12_000,
    "many names": HEAD + b"Content-Length: 60001\r\n\r\n{" + b'"a":1,' * 9_999 + b'"b":1}',
    "a large number": HEAD + b"Content-Length: 60012\r\n\r\n" + b'{"top_k": ' + b"9" * 60_000 + b" }",
    "utf-16": HEAD + b"Content-Length: 6\r\n\r\n" + b"\xff\xfe{\x00}\x00",
    "another content type": HEAD.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\n{}",
    "two content types": HEAD + b"Content-Type: text/plain\r\nContent-Length: 1\r\n\r\n{",
    "an expectation": HEAD + b"Expect: 200-fine\r\nContent-Length: 1\r\n\r\n{",
    "pipelined junk": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(range(256)) * 200,
}


def check_refusal(answer: bytes) -> list[int]:
    """Check that junk gets 4xx or nothing, apart from 200 to a valid request before it, and no internals."""
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]
    assert all(status == 200 or 400 <= status < 500 for status in statuses), answer[:500]
    for word in (b"Traceback", b"musicgen_cli", b"File ", b"site-packages", b"python"):
        assert word not in answer
    return statuses


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_refused(service: ServiceProcess, name: str) -> None:
    """It is answered with a 4xx or not at all."""
    with service.connect(JUNK[name]) as connection:
        connection.shutdown(socket.SHUT_WR)
        check_refusal(receive_all(connection))


def test_requests_that_were_changed_at_random(service: ServiceProcess) -> None:
    """Four hundred requests with bytes changed, removed, repeated or inserted."""
    chance = random.Random(1)
    body = b'{"prompt": "a lute", "duration": 0.5, "seed": 5, "top_k": 7.5}'  # refused even if nothing was changed
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    answered = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at, size = chance.randrange(len(data)), chance.randint(1, 20)
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + size]
                case 2:
                    data[at:at] = data[at : at + size]
                case 3:
                    data[at:at] = chance.randbytes(size)
        with service.connect(bytes(data)) as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            answered += any(400 <= status < 500 for status in check_refusal(receive_all(connection)))
    assert answered > 200


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 999999999999"])
def test_a_body_without_end(service: ServiceProcess, framing: bytes) -> None:
    """It is read only until it is known to be too large, from eight clients at the same time."""
    block = b" " * 0x10000 if framing.startswith(b"Content") else b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    def pour(_: int) -> int:
        sent = 0
        with service.connect(HEAD + framing + b"\r\n\r\n") as connection, contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                connection.sendall(block)
                sent += len(block)
        return sent

    with ThreadPoolExecutor(8) as pool:
        pouring = pool.map(pour, range(8))
        service.generate()
        assert max(pouring) < 50_000_000


def test_pipelined_requests_whose_answers_are_not_read(service: ServiceProcess) -> None:
    """The buffered answers are bounded, because no further requests are read while answers wait."""
    requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(service.connect())
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(50):
                    connection.send(requests)
        service.generate()


def test_one_client_with_64_requests_does_not_starve_another(service: ServiceProcess) -> None:
    """The other client's requests are never refused, and are served while the first one's still wait."""
    with (
        service.client_from("127.0.0.2") as greedy,
        service.client_from("127.0.0.3") as modest,
        ThreadPoolExecutor(64) as pool,
    ):
        stop = threading.Event()
        statuses: list[int] = []

        def press() -> None:
            while not stop.is_set():
                statuses.append(greedy.post("/predict", json={"duration": 0.8}).status_code)
                time.sleep(0.05)

        pressing = [pool.submit(press) for _ in range(64)]
        try:
            wait_until(lambda: service.count("waiting") >= 16, TIMEOUT_S)
            for seed in range(5):
                answer = modest.post("/predict", json={"duration": 0.5, "seed": seed})
                assert answer.status_code == 200
        finally:
            stop.set()
        for future in pressing:
            future.result(TIMEOUT_S)

    assert set(statuses) == {200, 429}


def test_clients_that_disconnect_free_their_slots(service: ServiceProcess) -> None:
    """None of their long clips is generated to the end."""
    with contextlib.ExitStack() as stack:
        for number in range(8):
            body = json.dumps({"duration": 30, "client_job_id": f"gone-{number}"}).encode()
            head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
            stack.enter_context(service.connect(head + body, f"127.0.0.{10 + number}"))
        wait_until(lambda: service.requests() >= 8, TIMEOUT_S)

    wait_until(lambda: not service.requests(), TIMEOUT_S)
    for number in range(8):
        with service.client_from(f"127.0.0.{10 + number}") as client:
            progress = client.get(f"/progress/gone-{number}").json()
        assert progress["state"] == "failed"
        assert progress["steps"] < 1503


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals")
def test_a_process_that_was_suspended_goes_on(service: ServiceProcess) -> None:
    """After a laptop has slept its service works as before, apart from connections whose time has run out."""
    service.process.send_signal(signal.SIGSTOP)
    with service.connect(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        service.process.send_signal(signal.SIGCONT)
        assert receive_all(connection).startswith(b"HTTP/1.1 200 ")
