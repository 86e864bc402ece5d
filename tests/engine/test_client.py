from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.errors import (
    BadAnswerError,
    OutOfTimeError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
    UsageError,
)
from tests.support import fakes

REQUEST = GenerateRequest(prompt="calm ambient piano", duration=1.0, seed=7, client_job_id="job-1")


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, done: int, total: int) -> None:
        raise AssertionError("a service tells no steps")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        raise AssertionError("a service tells no samples")


def ask(
    url: str, request: GenerateRequest = REQUEST, *, timeout: float = 20, max_wait: float = 20, ear: Ear | None = None
) -> Clip:
    return RemoteEngine(url, timeout_s=timeout, max_wait_s=max_wait).generate(request, ear or Ear())


@pytest.fixture
def url(httpserver: HTTPServer) -> str:
    return httpserver.url_for("/").rstrip("/")


def serve(httpserver: HTTPServer, handler: Callable[[Request], Response]) -> None:
    httpserver.expect_request("/predict", method="POST").respond_with_handler(handler)


def changed(httpserver: HTTPServer, sound: bytes | None = None, **changes: Any) -> None:
    def handler(request: Request) -> Response:
        body = fakes.good_answer(json.loads(request.data), sound, **changes)
        return Response(json.dumps(body), content_type="application/json")

    serve(httpserver, handler)


def test_our_own_answer_becomes_a_clip_with_all_that_is_known(httpserver: HTTPServer, url: str) -> None:
    """Sound, model, engine, precision, device, licence and seed come from the answer."""
    serve(httpserver, fakes.ours)

    clip = ask(url)

    assert clip.wav == fakes.tone(1.0, seed=7)
    assert (clip.seed, clip.license, clip.extra) == (7, "MIT", {"checkpoint": "abc", "sampler": 1})
    assert (clip.origin.kind, clip.origin.model, clip.origin.engine) == ("http", "nano", "onnx")
    assert (clip.origin.precision, clip.origin.device, clip.origin.url) == ("fp32", "cpu", url)
    assert clip.warnings == ()


@pytest.mark.parametrize("dialect", [fakes.lit_serve, fakes.fast_api])
def test_other_servers_work_and_their_seed_is_not_called_honoured(
    httpserver: HTTPServer, url: str, dialect: Callable[[Request], Response]
) -> None:
    """A server that ignores the seed silently gives a clip without one, three frames short."""
    serve(httpserver, dialect)

    clip = ask(url)

    assert clip.seed is None
    assert clip.info.frames == 47 * 640
    assert clip.origin.model is None


def test_metadata_may_be_null_or_absent(httpserver: HTTPServer, url: str) -> None:
    """An answer without metadata is a good answer."""
    changed(httpserver, metadata=None)

    assert ask(url).origin.model is None


def test_what_is_sent_is_the_contract(httpserver: HTTPServer, url: str) -> None:
    """All fields go out, the prompt as "" and never null, identity encoding alone, the key as a Bearer token."""
    serve(httpserver, fakes.ours)
    RemoteEngine(url, timeout_s=9, max_wait_s=0, api_key="k3y").generate(GenerateRequest(duration=0.5, seed=1), Ear())

    sent, _ = httpserver.log[0]
    assert json.loads(sent.data) == {
        "prompt": "", "duration": 0.5, "temperature": 1.0, "top_k": 250, "top_p": 0.9, "guidance_scale": 3.0,
        "do_sample": True, "client_job_id": None, "seed": 1,
    }  # fmt: skip
    assert sent.headers["Accept-Encoding"] == "identity"
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["Authorization"] == "Bearer k3y"
    assert sent.headers["X-Deadline-S"] == "9"


@pytest.mark.parametrize("status", [429, 503, 504])
def test_busy_is_asked_again_after_the_time_it_names(httpserver: HTTPServer, url: str, status: int) -> None:
    """429, 503 and 504 are waited out, and each wait is told."""
    calm = Response(json.dumps({"detail": "Service is busy"}), status, {"Retry-After": "1"})
    httpserver.expect_ordered_request("/predict").respond_with_response(calm)
    httpserver.expect_ordered_request("/predict").respond_with_handler(fakes.ours)
    ear, started = Ear(), time.monotonic()

    assert ask(url, ear=ear).seed == 7

    assert time.monotonic() - started >= 1
    assert ear.notes == [f"the service is busy ({status}: Service is busy), trying again in 1 s"]


@pytest.mark.parametrize("after", ["0", "date", "junk", "-5", "999999999999", "1e3", "", None])
def test_retry_after_may_be_a_date_zero_or_junk(httpserver: HTTPServer, url: str, after: str | None) -> None:
    """Junk and what lies beyond a minute are ignored, and the usual backoff applies."""
    if after == "date":
        after = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    headers = {} if after is None else {"Retry-After": after}
    httpserver.expect_ordered_request("/predict").respond_with_response(Response("", 503, headers))
    httpserver.expect_ordered_request("/predict").respond_with_handler(fakes.ours)

    assert ask(url, max_wait=2).seed == 7


def test_a_service_that_stays_busy_is_given_up(httpserver: HTTPServer, url: str) -> None:
    """When the next wait would go beyond the patience, it is exit 5, at once."""
    httpserver.expect_request("/predict").respond_with_data("", 503, {"Retry-After": "30"})
    started = time.monotonic()

    with pytest.raises(ServiceBusyError) as caught:
        ask(url, max_wait=20)

    assert caught.value.exit_code == 5
    assert time.monotonic() - started < 5
    assert len(httpserver.log) == 1


def test_a_request_has_one_deadline_however_the_answer_trickles() -> None:
    """Bytes that keep coming don't keep the request alive."""

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    started = time.monotonic()
    with fakes.raw_server(trickle) as url, pytest.raises(OutOfTimeError) as caught:
        ask(url, timeout=0.7)

    assert 0.6 < time.monotonic() - started < 3
    assert caught.value.exit_code == 5


def test_headers_that_trickle_end_too() -> None:
    """The deadline holds before the first byte of the body."""

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-A: 1\r\n")
            time.sleep(0.05)

    with fakes.raw_server(trickle) as url, pytest.raises(OutOfTimeError):
        ask(url, timeout=0.7)


def _cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _short_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")


def _not_http(connection: socket.socket) -> None:
    connection.sendall(b"220 smtp.example ESMTP\r\n")


@pytest.mark.parametrize("talk", [_cut_off, _reset, _short_chunk, _not_http])
def test_a_connection_that_breaks_is_not_tried_again(talk: Callable[[socket.socket], None]) -> None:
    """The job may still run there, so it is exit 6 and one request."""
    seen: list[int] = []

    def counted(connection: socket.socket) -> None:
        seen.append(1)
        talk(connection)

    with fakes.raw_server(counted) as url, pytest.raises(ServiceError) as caught:
        ask(url)

    assert caught.value.exit_code == 6
    assert len(seen) == 1


def test_nobody_there_is_exit_4_after_two_seconds() -> None:
    """A loopback service may be starting, so a refusal is tried again for a moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()

    with pytest.raises(ServiceUnreachableError) as caught:
        ask(f"http://127.0.0.1:{port}")

    assert 1.5 < time.monotonic() - started < 6
    assert caught.value.exit_code == 4
    assert str(caught.value) == f"no musicgen service at http://127.0.0.1:{port}"
    assert caught.value.hint == "start one with musicgen serve, or add --local"


def test_a_service_that_opens_its_port_a_moment_later_is_found() -> None:
    """`musicgen serve &` and `generate` in one line work."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = HTTPServer(host="127.0.0.1", port=port)
    server.expect_request("/predict").respond_with_handler(fakes.ours)
    threading.Timer(0.8, server.start).start()
    try:
        assert ask(f"http://127.0.0.1:{port}").seed == 7
    finally:
        server.stop()


def test_an_unknown_host_is_exit_4_at_once() -> None:
    """A name that can't be resolved is not waited for."""
    started = time.monotonic()
    with pytest.raises(ServiceUnreachableError, match="no such host"):
        ask("http://musicgen.invalid:2006")
    assert time.monotonic() - started < 10


def test_tls_to_a_plain_port_is_exit_4(url: str) -> None:
    """A TLS failure is told as one."""
    with pytest.raises(ServiceUnreachableError, match="no secure connection"):
        ask(url.replace("http://", "https://"))


@pytest.mark.parametrize("bad", ["", "localhost:2006", "ftp://x", "http://", "http://a b", "/predict", "http://[::1"])
def test_what_is_no_address_is_wrong_usage(bad: str) -> None:
    """The address is checked before anything is sent."""
    with pytest.raises(UsageError) as caught:
        RemoteEngine(bad, timeout_s=1, max_wait_s=0)
    assert caught.value.exit_code == 2


def test_secrets_in_the_address_are_not_kept(httpserver: HTTPServer, url: str) -> None:
    """User info and query never reach the record."""
    serve(httpserver, fakes.ours)

    clip = ask(url.replace("http://", "http://me:secret@") + "/?token=hidden")

    assert clip.origin.url == url


def test_a_redirect_is_named_and_not_followed(httpserver: HTTPServer, url: str) -> None:
    """Where it points is told, and nothing is sent there."""
    httpserver.expect_request("/predict").respond_with_data("", 302, {"Location": httpserver.url_for("/elsewhere")})

    with pytest.raises(ServiceError, match="elsewhere") as caught:
        ask(url)

    assert caught.value.exit_code == 6
    assert [request.path for request, _ in httpserver.log] == ["/predict"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 500, 502])
def test_other_errors_are_told_once_with_the_servers_words(httpserver: HTTPServer, url: str, status: int) -> None:
    """Exit 6, `detail` in one line, and no second try."""
    httpserver.expect_request("/predict").respond_with_json({"detail": "no\n  way"}, status)

    with pytest.raises(ServiceError, match=f"{status}: no way") as caught:
        ask(url)

    assert caught.value.exit_code == 6
    assert not isinstance(caught.value, BadAnswerError)
    assert len(httpserver.log) == 1
    assert ("key" in (caught.value.hint or "")) == (status in {401, 403})


def test_a_list_of_details_is_told_in_one_line(httpserver: HTTPServer, url: str) -> None:
    """FastAPI's validation errors are readable."""
    serve(httpserver, fakes.fast_api)
    request = GenerateRequest.model_construct(**{**REQUEST.model_dump(), "duration": 31.0})

    with pytest.raises(ServiceError, match="422: duration: Input should be less"):
        ask(url, request)


def test_long_details_are_cut(httpserver: HTTPServer, url: str) -> None:
    """A server's words take at most 500 characters."""
    httpserver.expect_request("/predict").respond_with_json({"detail": "x" * 9000}, 500)

    with pytest.raises(ServiceError) as caught:
        ask(url)

    assert str(caught.value).count("x") == 499


@pytest.mark.parametrize("dialect", [fakes.lit_serve, fakes.fast_api])
def test_a_500_to_no_prompt_gets_advice(
    httpserver: HTTPServer, url: str, dialect: Callable[[Request], Response]
) -> None:
    """Servers that can't generate unconditionally answer 500, which says nothing to a user."""
    serve(httpserver, dialect)

    with pytest.raises(ServiceError) as caught:
        ask(url, GenerateRequest(duration=1.0))

    assert caught.value.hint is not None
    assert "without a prompt" in caught.value.hint


HALF = fakes.tone()[:-16000]
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"audio_base64": None}, "audio_base64"),
    ({"audio_base64": "no base64!"}, "audio_base64"),
    ({"audio_base64": base64.urlsafe_b64encode(b"\xff\xfe\xfd" * 99).decode()}, "audio_base64"),
    ({"audio_base64": base64.b64encode(fakes.tone()).decode() + "\n"}, "audio_base64"),
    ({"audio_base64": base64.b64encode(b"not a wav at all").decode()}, "audio_base64"),
    ({"audio_base64": base64.b64encode(HALF).decode()}, "audio_base64"),
    ({"audio_base64": base64.b64encode(pcm16_wav(b"", sample_rate=32000, channels=1)).decode()}, "audio_base64"),
    ({"sample_rate": 44100}, "sample_rate"),
    ({"sample_rate": "32000"}, "sample_rate"),
    ({"channels": 2}, "channels"),
    ({"num_samples": 10}, "num_samples"),
    ({"duration": 9.0}, "duration"),
    ({"duration": None}, "duration"),
    ({"prompt": "another one"}, "prompt"),
    ({"metadata": {"client_job_id": "job-2"}}, "client_job_id"),
    ({"metadata": []}, "metadata"),
]


@pytest.mark.parametrize(("changes", "field"), BAD_FIELDS)
def test_a_bad_answer_is_named_by_its_first_bad_field(
    httpserver: HTTPServer, url: str, changes: dict[str, Any], field: str
) -> None:
    """Exit 6, the field's name, and never the body."""
    changed(httpserver, **changes)

    with pytest.raises(BadAnswerError, match=field) as caught:
        ask(url)

    assert caught.value.exit_code == 6
    assert len(str(caught.value)) < 200
    assert len(httpserver.log) == 1


BAD_BODIES = [
    b"", b"<html><body>hello</body></html>", b"[]", b"null", b'{"audio_base64": "' + b"A" * 64, b"\xff\xfe",
    b"[" * 10_000, b'{"duration": NaN}', b"\xef\xbb\xbf{}", b'{"prompt": "\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_that_is_not_an_answer_is_refused(httpserver: HTTPServer, url: str, body: bytes) -> None:
    """HTML, cut JSON, deep JSON, NaN, a BOM and lone surrogates are one line and exit 6."""
    httpserver.expect_request("/predict").respond_with_data(body, content_type="application/json")

    with pytest.raises(BadAnswerError):
        ask(url)


def test_a_packed_answer_is_refused_unread(httpserver: HTTPServer, url: str) -> None:
    """Plain was asked for; a few bytes of gzip can be gigabytes."""
    bomb = gzip.compress(gzip.compress(b"0" * 50_000_000))
    httpserver.expect_request("/predict").respond_with_data(bomb, headers={"Content-Encoding": "gzip, gzip"})

    with pytest.raises(BadAnswerError, match="gzip"):
        ask(url)


def test_a_body_without_end_is_cut_at_the_cap() -> None:
    """32 MiB are read at most, whatever the headers say."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"100000\r\n" + b"A" * 0x100000 + b"\r\n"
        while True:
            connection.sendall(block)

    with fakes.raw_server(flood) as url, pytest.raises(BadAnswerError, match="larger than 32768 KiB"):
        ask(url)


def test_silence_and_unusual_forms_are_kept_with_a_warning(httpserver: HTTPServer, url: str) -> None:
    """What is consistent in itself is stored as it is."""
    silent = pcm16_wav(bytes(4 * 44_100), sample_rate=44_100, channels=2)
    changed(httpserver, silent)

    clip = ask(url)

    assert clip.wav == silent
    assert clip.warnings == (
        "the sound is silent",
        "unusual audio format, stored as it is: 44100 Hz, 2 channel(s), 16-bit PCM",
    )


def test_proxies_are_not_used_for_loopback(httpserver: HTTPServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment doesn't see requests to this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    serve(httpserver, fakes.ours)

    assert ask(url).seed == 7


@pytest.mark.parametrize(
    ("response", "said"),
    [(Response("ok"), {}), (Response('{"status": "ok", "model": "nano"}'), {"status": "ok", "model": "nano"})],
)
def test_any_200_means_up(httpserver: HTTPServer, url: str, response: Response, said: dict[str, str]) -> None:
    """A health check may be plain text or JSON."""
    httpserver.expect_request("/health").respond_with_response(response)

    assert RemoteEngine(url, timeout_s=1, max_wait_s=0).health() == said
