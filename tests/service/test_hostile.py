"""A running `musicgen serve` against clients that mean harm: others are served meanwhile, its memory is bounded."""

import contextlib
import json
import os
import random
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PATIENCE_S = 60
MEMORY_MB = 64  # what all the harm of one test may cost


class Process:
    """The service, an honest client of it, and its log."""

    def __init__(self, log):
        command = [sys.executable, "-W", "error", "-m", "musicgen_cli", "serve", "--model", "nano", "--port", "0"]
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr)
        end = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"serving on http://127\.0\.0\.1:(\d+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        self.port = int(found[1])
        self.client = self.named("127.0.0.1")

    def named(self, address):
        """Return a client that comes from an address of loopback, each time anew: who is idle may be sent away."""
        bounds = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.HTTPTransport(local_address=address, limits=bounds)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", transport=transport, timeout=PATIENCE_S)

    def raw(self, data=b"", address="127.0.0.1"):
        """Open a connection and send bytes as they are."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S, source_address=(address, 0))
        with contextlib.suppress(ConnectionError):  # it may not want to hear all of it
            connection.sendall(data)
        return connection

    def serves(self):
        """Make a clip for the honest client."""
        answer = self.client.post("/predict", json={"duration": 0.5, "seed": 1})
        assert answer.status_code == 200, answer.text
        return answer.json()["audio_base64"]

    def memory_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def count(self, name):
        return self.client.get("/health").json()["queue"][name]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Start the service once, for what harms it would harm the tests after."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    running = Process(tmp_path_factory.mktemp("log") / "log")
    with ThreadPoolExecutor(4) as pool:  # as much memory as its slots take together
        (sound,) = set(pool.map(lambda _: running.serves(), range(8)))
    yield running
    assert running.serves() == sound
    running.client.close()
    running.process.terminate()
    assert running.process.wait(PATIENCE_S) == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "level=error" not in log


@pytest.fixture(autouse=True)
def _unharmed(service):
    """After each, an honest client is served, and the memory is where it was."""
    before = service.memory_mb()
    yield
    service.serves()
    assert service.memory_mb() - before < MEMORY_MB


def ending(connection):
    """Read until the other side closes or stops talking; return what it said."""
    said = b""
    with connection, contextlib.suppress(ConnectionError):
        while select.select([connection], [], [], 0.3 if said else PATIENCE_S)[0] and (part := connection.recv(65536)):
            said += part
    return said


def test_a_thousand_idle_connections(service):
    """Some that never say a word, some after a question, some in the middle of a head."""
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            words = [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: lo"]
            stack.enter_context(service.raw(words[number % 3]))
            if number % 200 == 0:
                service.serves()
        service.serves()


def test_heads_and_bodies_that_trickle(service):
    """Two hundred senders of a byte now and then."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(service.raw(b"GET /health HTTP/1.1\r\nX: ")) for _ in range(100)]
        slow += [stack.enter_context(service.raw(HEAD + b"Content-Length: 60000\r\n\r\n")) for _ in range(100)]
        for _ in range(3):
            for connection in slow:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b" ")
            service.serves()


JUNK = {
    "nothing of http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "http 0.9": b"GET /health\r\n\r\n",
    "http 9.9": b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a foreign address": b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path outside": b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of escapes": b"GET /progress/%00%0d%0aX:%20y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long path": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many headers": b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "a folded header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tb\r\n\r\n",
    "a header of NUL": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "a method of its own": b"BREW /predict HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an upgrade": b"GET /predict HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "a length of words": HEAD + b"Content-Length: two\r\n\r\n{}",
    "a length beyond all": HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
    "chunks of nothing like": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk beyond all": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
    "packed": HEAD + b"Transfer-Encoding: gzip\r\n\r\n\x1f\x8b",
    "a packed body": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
    "deep": HEAD + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000,
    "deep objects": HEAD + b"Content-Length: 60000\r\n\r\n" + b'{"a":' * 12_000,
    "many names": HEAD + b"Content-Length: 60001\r\n\r\n{" + b'"a":1,' * 9_999 + b'"b":1}',
    "a large number": HEAD + b"Content-Length: 60012\r\n\r\n" + b'{"top_k": ' + b"9" * 60_000 + b" }",
    "utf-16": HEAD + b"Content-Length: 6\r\n\r\n" + b"\xff\xfe{\x00}\x00",
    "another kind": HEAD.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\n{}",
    "two kinds": HEAD + b"Content-Type: text/plain\r\nContent-Length: 1\r\n\r\n{",
    "an expectation": HEAD + b"Expect: 200-fine\r\nContent-Length: 1\r\n\r\n{",
    "junk in a pipe": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(range(256)) * 200,
}


def check_refusal(said):
    """Check that junk gets a 4xx or nothing, but for a question before it, and no internals; return statuses."""
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", said)]
    assert all(status == 200 or 400 <= status < 500 for status in statuses), said[:500]
    for word in (b"Traceback", b"musicgen_cli", b"File ", b"site-packages", b"python"):
        assert word not in said
    return statuses


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_refused(service, name):
    """Each is answered with a 4xx, or isn't answered at all."""
    with service.raw(JUNK[name]) as connection:
        connection.shutdown(socket.SHUT_WR)
        check_refusal(ending(connection))


def test_requests_that_were_changed_at_random(service):
    """Four hundred of them, some bytes changed, cut, doubled or moved."""
    chance = random.Random(1)
    body = b'{"prompt": "a lute", "duration": 0.5, "seed": 5, "top_k": 7.5}'  # refused where it comes whole
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
        with service.raw(bytes(data)) as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            answered += any(400 <= status < 500 for status in check_refusal(ending(connection)))
    assert answered > 200


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 999999999999"])
def test_a_body_without_end(service, framing):
    """It is read no further than shows that it is too large, whoever sends it side by side."""
    block = b" " * 0x10000 if framing.startswith(b"Content") else b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    def pour(_):
        sent = 0
        with service.raw(HEAD + framing + b"\r\n\r\n") as connection, contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                connection.sendall(block)
                sent += len(block)
        return sent

    with ThreadPoolExecutor(8) as pool:
        pouring = pool.map(pour, range(8))
        service.serves()
        assert max(pouring) < 50_000_000


def test_questions_in_a_pipe_whose_answers_nobody_reads(service):
    """The answers that wait are bounded, for no more is read than was answered."""
    ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(service.raw())
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(50):
                    connection.send(ask)
        service.serves()


def test_one_client_with_64_requests_does_not_starve_another(service):
    """The other's requests are never refused, and each is served while those still wait."""
    with service.named("127.0.0.2") as greedy, service.named("127.0.0.3") as modest, ThreadPoolExecutor(64) as pool:
        stop, statuses = threading.Event(), []

        def press(_):
            while not stop.is_set():
                statuses.append(greedy.post("/predict", json={"duration": 0.8}).status_code)
                time.sleep(0.05)

        pressing = [pool.submit(press, number) for number in range(64)]
        try:
            end = time.monotonic() + PATIENCE_S
            while service.count("waiting") < 16:
                assert time.monotonic() < end
            for seed in range(5):
                answer = modest.post("/predict", json={"duration": 0.5, "seed": seed})
                assert answer.status_code == 200
        finally:
            stop.set()
        for each in pressing:
            each.result(PATIENCE_S)

    assert set(statuses) == {200, 429}


def test_clients_that_go_away_free_their_slots(service):
    """Nothing of their long clips is made to the end, and nobody waits for it."""
    with contextlib.ExitStack() as stack:
        for number in range(8):
            body = json.dumps({"duration": 30, "client_job_id": f"gone-{number}"}).encode()
            head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
            stack.enter_context(service.raw(head + body, f"127.0.0.{10 + number}"))
        end = time.monotonic() + PATIENCE_S
        while service.count("running") + service.count("waiting") < 8:
            assert time.monotonic() < end

    while service.count("running") + service.count("waiting"):
        assert time.monotonic() < end + PATIENCE_S
        time.sleep(0.02)
    for number in range(8):
        progress = service.client.get(f"/progress/gone-{number}").json()
        assert progress["state"] == "failed"
        assert progress["steps"] < 1503


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals")
def test_a_process_that_is_stopped_and_goes_on_serves(service):
    """A laptop that slept finds its service as it was, but for the connections whose time has run out."""
    import signal

    service.process.send_signal(signal.SIGSTOP)
    with service.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        service.process.send_signal(signal.SIGCONT)
        assert ending(connection).startswith(b"HTTP/1.1 200 ")
