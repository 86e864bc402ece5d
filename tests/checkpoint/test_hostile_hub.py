"""A hub, or whoever answers in its place, that wants to cost memory, time or a request to another service."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra local")

from huggingface_hub import constants

from musicgen_cli.checkpoint import hub as hub_module
from musicgen_cli.checkpoint import hub_transport
from musicgen_cli.checkpoint.hub import Hub
from musicgen_cli.checkpoint.repository import RemoteFile, Repository
from musicgen_cli.errors import BadAnswerError, MusicgenError, OutOfTimeError
from tests.support.bounded import MOST_BYTES, run_bounded
from tests.support.command_line import MUSICGEN
from tests.support.hubs import COMMIT, running_hub
from tests.support.programs import environment

Answer = Callable[[socket.socket, str], None]
OK = b"HTTP/1.1 200 OK\r\n"
REPOSITORY = Repository("a/b", COMMIT, None, frozenset(), {}, "a/b")


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Run a server on loopback that reads the head of each request and answers as it likes; yield its address."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve_one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := connection.recv(65536)):
                    return
                head += piece
            answer(connection, head.decode("latin-1"))

    def serve() -> None:
        while not ended.is_set():
            with suppress(OSError):
                connection, _ = server.accept()
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        ended.set()
        server.close()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Hub]:
    """Return a function that opens the hub at an address, with waits of a moment."""

    def open_hub(endpoint: str) -> Hub:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hub_module, "RETRY_WAITS_S", (0.0, 0.0))
        return Hub()

    return open_hub


def endless(connection: socket.socket, head: str) -> None:
    connection.sendall(OK + b"Content-Type: application/json\r\n\r\n[")
    while True:
        connection.sendall(b"0," * 32768)


def bomb(connection: socket.socket, head: str) -> None:
    body = gzip.compress(bytes(500 << 20), 1)
    connection.sendall(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def endless_redirect(connection: socket.socket, head: str) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def many_files(connection: socket.socket, head: str) -> None:
    body = json.dumps({"sha": COMMIT, "siblings": [{"rfilename": ""}] * 200_000}).encode()
    connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("answer", [endless, bomb, endless_redirect, many_files])
def test_a_listing_without_end(answer: Answer, tmp_path: Path) -> None:
    """It is refused in bounded memory and time."""
    with answering(answer) as endpoint:
        done = run_bounded(
            [*MUSICGEN, "model", "pull", "someone/mine"], env=environment() | {"HF_ENDPOINT": endpoint, "NO_PROXY": "*"}
        )

    assert done.code == 6, done
    assert "Traceback" not in done.err
    assert done.peak_bytes < MOST_BYTES + 200_000_000  # ONNX Runtime and the bundled model are loaded before


@pytest.mark.parametrize("size", [10**12, -1, 10**400])
def test_sizes_in_a_listing(client: Callable[[str], Hub], size: int) -> None:
    """A config of a terabyte is not begun, and what is no size makes no listing."""
    files = [{"rfilename": "config.json", "size": size, "blobId": "0" * 40}]
    body = json.dumps({"sha": COMMIT, "siblings": files}).encode()

    def answer(connection: socket.socket, head: str) -> None:
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def read(hub: Hub) -> bytes:
        repository = hub.repository("a/b", None)
        return hub.read(repository, repository.files["config.json"], lambda _: None)

    with answering(answer) as endpoint, client(endpoint) as hub, pytest.raises(BadAnswerError) as caught:
        read(hub)

    assert "at most 1048576 are read" in str(caught.value) or "not a repository" in str(caught.value)


def drip_head(connection: socket.socket, head: str) -> None:
    connection.sendall(OK)
    while True:
        connection.sendall(b"X-A: b\r\n")
        time.sleep(0.02)


def drip_body(connection: socket.socket, head: str) -> None:
    connection.sendall(OK + b"Content-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def drip_chunk_size(connection: socket.socket, head: str) -> None:
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"0")
        time.sleep(0.02)


@pytest.mark.parametrize("answer", [drip_head, drip_body, drip_chunk_size])
def test_a_drip_ends(
    client: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch, answer: Answer, tmp_path: Path
) -> None:
    """A byte now and then keeps httpx's time-outs from running out, so there is a least speed."""
    monkeypatch.setattr(hub_transport, "HEAD_S", 0.5)
    monkeypatch.setattr(hub_transport, "WINDOW_S", 0.5)
    file = RemoteFile("model.safetensors", 1_000_000, "0" * 64, None)
    notes: list[str] = []
    started = time.monotonic()

    with answering(answer) as endpoint, client(endpoint) as hub:
        with pytest.raises(OutOfTimeError, match="too slowly"):
            hub.repository("a/b", None)
        with pytest.raises(OutOfTimeError, match="too slowly"):
            hub.fetch(REPOSITORY, file, tmp_path, received=lambda _: None, note=notes.append)

    assert len(notes) == 2  # as many attempts as for a hub that sends nothing
    assert time.monotonic() - started < 30


def test_a_hub_that_hangs_up_after_each_byte(client: Callable[[str], Hub], tmp_path: Path) -> None:
    """The attempts that bring next to nothing are counted."""
    requests = []

    def answer(connection: socket.socket, head: str) -> None:
        requests.append(head)
        connection.sendall(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000000\r\n\r\nx")

    file = RemoteFile("model.safetensors", 1_000_000, "0" * 64, None)
    with answering(answer) as endpoint, client(endpoint) as hub, pytest.raises(MusicgenError, match="broke"):
        hub.fetch(REPOSITORY, file, tmp_path, received=lambda _: None, note=lambda _: None)

    assert len(requests) == 51


@pytest.mark.parametrize(
    ("endpoint", "target", "is_followed"),
    [
        ("https://hub.example", "https://cdn.example/x", True),
        ("https://hub.example", "https://hub.example/x", True),
        ("https://hub.example", "http://hub.example/x", False),
        ("https://hub.example", "http://cdn.example/x", False),
        ("https://hub.example", "http://127.0.0.1:2006/x", False),
        ("https://hub.example", "https://127.0.0.1:2006/x", False),
        ("https://hub.example", "https://localhost/x", False),
        ("https://hub.example", "http://[::1]:8080/x", False),
        ("http://mirror.example:8080", "http://mirror.example:8080/y", True),
        ("http://mirror.example:8080", "http://mirror.example/y", True),
        ("http://mirror.example:8080", "https://cdn.example/y", True),
        ("http://mirror.example:8080", "http://other.example/y", False),
        ("http://mirror.example:8080", "http://localhost:8080/y", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:9090/y", True),
        ("http://127.0.0.1:8080", "http://other.example/y", False),
    ],
)
def test_where_a_hub_may_lead(endpoint: str, target: str, is_followed: bool) -> None:
    """To https and to its own host; to this machine only if it is on this machine itself."""
    import httpx

    transport = hub_transport.HubTransport(endpoint)
    if is_followed:
        transport.check_target(httpx.URL(target))
    else:
        with pytest.raises(BadAnswerError, match="is not followed"):
            transport.check_target(httpx.URL(target))


def test_no_request_is_made_where_a_hub_may_not_lead(
    client: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service on another port of this machine sees nothing of a redirect by a hub that is elsewhere."""
    asked: list[str] = []

    def other(connection: socket.socket, head: str) -> None:
        asked.append(head)

    with answering(other) as address:

        def redirect(connection: socket.socket, head: str) -> None:
            location = f"http://0.0.0.0:{address.rpartition(':')[2]}/x"  # another name of this machine
            connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

        with answering(redirect) as endpoint, client(endpoint) as hub, pytest.raises(BadAnswerError, match="leads to"):
            hub.repository("a/b", None)

    assert asked == []


def test_a_token_goes_to_the_hub_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A content store on another port gets the request without it."""
    heads: list[str] = []

    def store(connection: socket.socket, head: str) -> None:
        heads.append(head)
        connection.sendall(OK + b"Content-Length: 3\r\n\r\nabc")

    with running_hub(monkeypatch), answering(store) as elsewhere:

        def redirect(connection: socket.socket, head: str) -> None:
            heads.append(head)
            connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}/x\r\nContent-Length: 0\r\n\r\n".encode())

        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        with answering(redirect) as endpoint:
            monkeypatch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            )
            monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            file = RemoteFile("x.json", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", None)
            with Hub() as hub:
                assert hub.read(REPOSITORY, file, lambda _: None) == b"abc"

    assert ["hf_secret" in head for head in heads] == [True, False]
