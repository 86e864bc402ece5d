"""
Thousands of changed requests to a running service: none is answered with 5xx, and others are served meanwhile.

The changes follow from a seed, so that a failure can be repeated: its message holds the seed, the number and the bytes.
"""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from tests.support.service_process import ServiceProcess
from tests.support.services import PREDICT_HEAD as HEAD

SEEDS = (1, 2, 3, 4)  # each has a thread of its own
REQUESTS = 1000  # of each seed
ANSWER_S = 20.0  # within which others are served
MEMORY_MB = 64  # by which the service's memory may grow

BODY = b'{"prompt": "a lute", "duration": 0.5, "seed": 5, "top_k": 250, "client_job_id": "a:1", "do_sample": true}'
TEMPLATES = (
    HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    HEAD + b"Accept: audio/wav\r\nX-Deadline-S: 9\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\ntraceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n\r\n",
    b"GET /progress/a:1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n\r\n",
    b"HEAD /metrics HTTP/1.1\r\nHost: [::1]:2006\r\nConnection: close\r\n\r\n",
)
TOKENS = (
    b"\r\n", b"\n", b"\0", b" ", b":", b",", b"%00", b"%ff", b"/", b"//", b"..", b"?", b"#", b"\xff", b"\xed\xa0\x80",
    b"Content-Length: 0\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
    b"Host: evil.example\r\n", b"HTTP/1.0", b"HTTP/2.0", b"0\r\n\r\n", b"ffffffff\r\n", b"-1", b"1e999", b"NaN",
    b"null", b"true", b"[]", b"{}", b'"', b'"\\ud800"', b"9" * 400, b"[" * 400, b'{"a":' * 100, b'"seed": 1e400',
)  # fmt: skip


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """Start a service; clips are short, because some of the changed requests are still valid."""
    service = ServiceProcess(tmp_path / "log", "--max-duration", "0.5")
    with ThreadPoolExecutor(8) as pool:  # so that its memory is what all its slots need
        list(pool.map(lambda _: service.generate(), range(16)))
    yield service
    service.process.kill()
    service.process.wait(60)


def changed(rng: random.Random) -> bytes:
    """Return one or two requests with some bytes changed, removed, repeated or inserted."""
    data = bytearray(b"".join(rng.choices(TEMPLATES, k=rng.choice((1, 1, 1, 2)))))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(data) + 1), rng.randint(1, 20)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at:at] = rng.choice(TOKENS)
            case 4:
                data[at : at + size] = rng.choice(TOKENS)
            case 5:  # after the end of a line, where a header could begin
                at = data.find(b"\r\n", at) + 2
                data[at:at] = rng.choice(TOKENS)
        data = data or bytearray(b"G")
    return bytes(data)


def answer_to(service: ServiceProcess, data: bytes, rng: random.Random) -> bytes:
    """Send bytes, in one piece or two, and read until the other side closes or has said all."""
    received = b""
    cut = rng.randrange(len(data)) if rng.random() < 0.2 else 0
    with service.connect(data[:cut]) as connection, contextlib.suppress(ConnectionError, TimeoutError):
        connection.settimeout(ANSWER_S)
        connection.sendall(data[cut:])
        with contextlib.suppress(OSError):  # ENOTCONN, if the service has closed the connection meanwhile
            connection.shutdown(socket.SHUT_WR)
        while select.select([connection], [], [], 0.05 if received else ANSWER_S)[0]:
            if not (part := connection.recv(1 << 20)):
                break
            received += part
    return received


def test_changed_requests_break_nothing(service: ServiceProcess) -> None:
    """Neither the service nor the honest client beside it; its memory, its files and its log stay small."""
    memory, files = service.memory_mb(), service.files()

    def attack(seed: int) -> Counter[bytes]:
        statuses: Counter[bytes] = Counter()
        rng = random.Random(seed)
        for number in range(REQUESTS):
            data = changed(rng)
            answer = answer_to(service, data, rng)
            found = re.findall(rb"HTTP/1\.1 (\d{3})", answer)
            statuses.update(found or [b"none"])
            # 503: the deadline can't be met, or the queue is full of what was abandoned
            assert not [status for status in found if status >= b"500" and status != b"503"], (seed, number, data)
            assert b"Traceback" not in answer, (seed, number, data)
        return statuses

    waits, total = [], Counter[bytes]()
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        attacks = [pool.submit(attack, seed) for seed in SEEDS]
        while not all(each.done() for each in attacks):
            started = time.monotonic()
            service.generate()
            waits.append(time.monotonic() - started)
            time.sleep(0.1)
        for each in attacks:
            total += each.result()

    assert max(waits) < ANSWER_S
    assert total[b"200"] > 100, total
    assert sum(count for status, count in total.items() if status.startswith(b"4")) > 1000, total
    assert service.memory_mb() - memory < MEMORY_MB
    assert service.files() <= files + 20
    log = service.stop()
    assert "Traceback" not in log
    assert "level=error" not in log
    assert len(log) < 1_000_000
