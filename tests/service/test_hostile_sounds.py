"""`musicgen serve` with a model that listens, and hostile sounds: they cost it little, and others nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli import limits
from musicgen_cli.audio.wav import pcm16_wav
from tests.support import fakes
from tests.support.service_process import ServiceProcess
from tests.support.services import PREDICT_HEAD as HEAD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and addresses such as 127.0.0.2")

MEMORY_MB = 64  # by which the service's memory may grow in one test
SECONDS = 30.0  # within which a hostile request is answered
SOUND = fakes.tone(1.0)
MIB = 1 << 20


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def continuation(wav: bytes, **fields: Any) -> dict[str, Any]:
    return {"duration": 0.5, "seed": 1, "continue_base64": encoded(wav), **fields}


@pytest.fixture(scope="module")
def service(listening_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Start one service for all tests: what harms it would make a later test fail."""
    service = ServiceProcess(tmp_path_factory.mktemp("log") / "log", "--model", str(listening_folder))
    large = continuation(pcm16_wav(SOUND[44:] * 97, sample_rate=32_000, channels=1))
    with ThreadPoolExecutor(4) as pool:  # so that its memory is what such requests need
        for body in (continuation(SOUND), large, large):
            answers = pool.map(lambda _, body=body: service.client.post("/predict", json=body).status_code, range(4))
            assert set(answers) <= {200, 503}
    sound = service.generate()
    yield service
    assert service.generate() == sound
    log = service.stop()
    assert "Traceback" not in log
    assert "level=error" not in log


@pytest.fixture(autouse=True)
def _unharmed(service: ServiceProcess) -> Iterator[None]:
    """After each test an honest client's sound is gone on from, and the memory has hardly grown."""
    before = service.memory_mb()
    yield
    answer = service.client.post("/predict", json=continuation(SOUND))
    assert answer.status_code == 200
    wav = base64.b64decode(answer.json()["audio_base64"])
    assert wav[44:60_000] == SOUND[44:60_000]
    assert answer.json()["metadata"]["context_s"] == 1.0
    assert service.memory_mb() - before < MEMORY_MB


def header(size: int, *, rate: int = 32_000, channels: int = 1, bits: int = 16, tag: int = 1) -> bytes:
    """Return the header of a WAV with so many bytes of samples."""
    frame = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * frame & 0xFFFFFFFF, frame, bits)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt \x10\0\0\0" + fmt + b"data" + struct.pack("<I", size)


NOISE = bytes(range(256)) * 1024  # 262,144 bytes
WAVS = {
    "samples that aren't there": (header(10 * len(NOISE)) + NOISE, "the WAV's header says"),
    "a size of 4 GB": (b"RIFF\xff\xff\xff\xffWAVE" + header(len(NOISE))[12:40] + b"\xff" * 4 + NOISE, "header says"),
    "a size that is unknown": (header(len(NOISE))[:40] + b"\0\0\0\0" + NOISE, "no samples"),
    "nothing": (b"", "not a WAV"),
    "an empty WAV": (header(0), ""),
    "no chunk": (b"RIFF\4\0\0\0WAVE", "no data chunk"),
    "millions of chunks": (b"RIFF" + struct.pack("<I", 6_000_004) + b"WAVE" + bytes(6_000_000), ""),
    "flac": (b"fLaC" + NOISE, "not a WAV"),
    "ogg": (b"OggS" + NOISE, "not a WAV"),
    "mp3": (b"ID3\4" + NOISE, "not a WAV"),
    "adpcm": (header(len(NOISE), tag=17, bits=4) + NOISE, ""),
    "NaN": (header(400_000, bits=32, tag=3) + struct.pack("<f", float("nan")) * 100_000, "NaN or infinite"),
    "an infinity in the end": (
        header(400_000, bits=32, tag=3) + struct.pack("<f", 0.1) * 99_999 + struct.pack("<f", float("inf")),
        "NaN or infinite",
    ),
    "400 kHz": (header(len(NOISE), rate=400_000) + NOISE, "has 400000 Hz"),
    "4 GHz": (header(len(NOISE), rate=0xFFFFFFFF) + NOISE, "has 4294967295 Hz"),
    "1 Hz": (header(len(NOISE), rate=1) + NOISE, "has 1 Hz"),
    "0 Hz": (header(len(NOISE), rate=0) + NOISE, ""),
    "64 channels": (header(len(NOISE), channels=64) + NOISE, "has 64 channels"),
    "no channel": (header(len(NOISE), channels=0) + NOISE, ""),
    "25 minutes": (header(6_000_000, rate=4_000, bits=8) + NOISE * 22 + NOISE[:232_832], "has 1500 s, 0.5-100 s"),
    "a moment": (header(3_200) + NOISE[:3_200], "has 0.05 s"),
    "silence": (header(len(NOISE)) + bytes(len(NOISE)), "is silent"),
}


@pytest.mark.parametrize("name", WAVS)
def test_a_hostile_sound_is_refused(service: ServiceProcess, name: str) -> None:
    """The answer names the field and the reason, and shows no internals."""
    wav, reason = WAVS[name]
    started = time.monotonic()
    for field in ("continue_base64", "melody_base64"):
        answer = service.client.post("/predict", json={"duration": 0.5, field: encoded(wav)})
        detail = answer.json()["detail"]
        assert answer.status_code == 422
        assert detail.startswith(field)
        assert reason in detail
        assert len(detail) < 200
    assert time.monotonic() - started < SECONDS


def text(wav: bytes, name: str = "continue_base64") -> bytes:
    return b'"%s": "%s"' % (name.encode(), base64.b64encode(wav))


BODIES = {
    "ten sounds under one name": (b"{%s}" % b", ".join([text(NOISE)] * 9 + [text(b"no sound")]), "continue_base64"),
    "both sounds": (b"{%s, %s}" % (text(SOUND), text(SOUND, "melody_base64")), "melody_base64"),
    "padding": (b'{"continue_base64": "%s"}' % (b"=" * 7 * MIB), "continue_base64 is not base64"),
    "blanks": (b'{"continue_base64": "%s"}' % (b" " * 7 * MIB), "continue_base64 is not base64"),
    "escapes": (b'{"continue_base64": "%s"}' % (b"\\u0041" * MIB), "continue_base64"),
    "surrogates": (b'{"continue_base64": "%s"}' % (b"\\ud800" * MIB), ""),
    "numbers": (b'{"continue_base64": [%s0]}' % (b"0," * 3 * MIB), "continue_base64 must be a WAV"),
    "a number": (b'{"overlap": %s}' % (b"9" * 7 * MIB), "not JSON"),
    "objects": (b'{"continue_base64": [%s{}]}' % (b"{}," * 2 * MIB), "continue_base64 must be a WAV"),
    "deep recipes": (b'{"continue_request": ' * 10_000, "not JSON"),
    "recipes in each other": (
        b'{"continue_sha256": "%s", ' % (b"0" * 64) + b'"continue_request": {' * 70 + b"}" * 71,
        "continue_request must have at most 64",
    ),
    "a recipe alone": (
        json.dumps({"continue_sha256": "0" * 64, "continue_request": {"seed": 1, "checkpoint": "a"}}).encode(),
        "continue_base64 is missing: mine goes on from the sound itself",
    ),
    "a sound that begins late": (
        b'{"continue_offset_s": 600, %s}' % text(SOUND),
        "the sound has 601 s, at most 600 s can be used",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused(service: ServiceProcess, name: str) -> None:
    """Whatever it is made of, with 422 and one line."""
    body, reason = BODIES[name]
    started = time.monotonic()
    answer = service.client.post("/predict", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422, answer.text[:300]
    assert reason in answer.json()["detail"]
    assert time.monotonic() - started < SECONDS


def receive(connection: socket.socket) -> bytes:
    """Read the head of an answer; nothing if the connection was closed."""
    connection.settimeout(60)
    with contextlib.suppress(ConnectionError):
        return connection.recv(4096)
    return b""


def test_large_bodies_that_trickle_are_given_up(service: ServiceProcess) -> None:
    """They may take longer than small ones, but only in proportion to what has arrived; others are served meanwhile."""
    head = HEAD + b"Content-Length: 8000000\r\n\r\n"
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(service.connect(head + b" " * 200_000)) for _ in range(3)]
        while not all(_has_answer(connection) for connection in slow):
            assert time.monotonic() - started < 60
            for connection in slow:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b" ")
            service.generate()
            time.sleep(0.2)
        answers = [receive(connection) for connection in slow]
    assert {answer[:13] for answer in answers} == {b"HTTP/1.1 408 "}
    assert time.monotonic() - started > 10


def _has_answer(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.setblocking(True)


def test_few_large_bodies_are_read_at_a_time(service: ServiceProcess) -> None:
    """Further ones of a client are told to come again, while another client's is read."""
    head = HEAD + b"Content-Length: 8000000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect(head + b" " * 1000)) for _ in range(12)]
        wait_until(lambda: sum(_has_answer(connection) for connection in connections) == 9, 60)
        with service.client_from("127.0.0.2") as honest:
            body = continuation(pcm16_wav(SOUND[44:] * 10, sample_rate=32_000, channels=1))
            assert honest.post("/predict", json=body).status_code == 200
        for connection in connections:
            if _has_answer(connection):
                answer = receive(connection)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"too many bodies are arriving" in answer
                assert b"etry-after: " in answer.lower()


def test_a_hundred_large_bodies_at_once(service: ServiceProcess) -> None:
    """Some are read, and the others are told to come again; those that are parsed at a time are bounded, too."""
    body, _ = BODIES["blanks"]
    highest = service.memory_mb(peak=True)

    def send(number: int) -> int:
        with service.client_from(f"127.0.1.{number + 1}") as client:
            try:
                return client.post("/predict", content=body, headers={"Content-Type": "application/json"}).status_code
            except httpx.TransportError:  # it was refused while it still sent
                return 503

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(send, range(100)))
    assert set(statuses) <= {422, 503}
    assert 422 in statuses
    assert service.memory_mb(peak=True) - highest < 200


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 999999999999"])
def test_a_body_without_end(service: ServiceProcess, framing: bytes) -> None:
    """It is read only until it is known to be too large."""
    block = b" " * 0x10000 if framing.startswith(b"Content") else b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with service.connect(HEAD + framing + b"\r\n\r\n") as connection, contextlib.suppress(ConnectionError):
        while sent < 100_000_000:
            connection.sendall(block)
            sent += len(block)
    assert sent < 40_000_000


@pytest.mark.parametrize("size", [0, 1])
def test_a_body_may_have_so_many_bytes(service: ServiceProcess, size: int) -> None:
    """One more is too large; so is a large body for another path."""
    body = json.dumps(continuation(SOUND)).encode().ljust(limits.SOUND_REQUEST_BYTES + size)
    answer = service.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    other = service.client.post("/health", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == (413 if size else 200)
    assert other.status_code in {405, 413}


def test_what_a_head_shows_is_refused_before_the_body_is_read(listening_folder: Path, tmp_path: Path) -> None:
    """A wrong content type, no key, a full queue; the answer comes although the body doesn't."""
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    words = ("--model", str(listening_folder), "--api-key-file", str(keys), "--queue", "0", "--slots", "1")
    service = ServiceProcess(tmp_path / "log", *words)
    key, length = b"Authorization: Bearer secret\r\n", b"Content-Length: 8000000\r\n\r\n"
    plain = HEAD.replace(b"application/json", b"text/plain")
    try:
        with ThreadPoolExecutor(1) as pool:
            headers = {"Authorization": "Bearer secret"}
            running = pool.submit(service.client.post, "/predict", json={"duration": 30}, headers=headers)
            for head, status in (
                (HEAD + length, b"401"),
                (plain + key + length, b"415"),
                (HEAD + key + b"Content-Length: 9000000\r\n\r\n", b"413"),
            ):
                with service.connect(head) as connection:
                    assert receive(connection).startswith(b"HTTP/1.1 " + status)
            if not running.done():
                with service.connect(HEAD + key + length) as connection:
                    answer = receive(connection)
                assert answer.startswith(b"HTTP/1.1 429 ") or running.done()
            assert running.result(60).status_code == 200
        response = httpx.get(f"http://127.0.0.1:{service.port}/health", timeout=20)
        assert response.json()["queue"] == {"waiting": 0, "running": 0, "limit": 0}
    finally:
        service.stop()
