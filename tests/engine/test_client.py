"""The engine that is an HTTP service: what it sends, and what a good answer becomes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.errors import OutOfTimeError, UsageError
from tests.support import fakes
from tests.support.clients import answer_changed, answer_with, generate
from tests.support.listeners import NotesOnlyListener


def test_an_answer_of_our_own_service_becomes_a_clip(httpserver: HTTPServer, url: str) -> None:
    """Sound, model, engine, precision, device, licence and seed come from the answer."""
    answer_with(httpserver, fakes.ours)

    clip = generate(url)

    assert clip.wav == fakes.tone(1.0, seed=7)
    assert (clip.seed, clip.license, clip.extra) == (7, "MIT", {"checkpoint": "abc", "sampler": 1})
    assert (clip.origin.kind, clip.origin.model, clip.origin.engine) == ("http", "nano", "onnx")
    assert (clip.origin.precision, clip.origin.device, clip.origin.url) == ("fp32", "cpu", url)
    assert clip.warnings == ()


@pytest.mark.parametrize("dialect", [fakes.lit_serve, fakes.fast_api])
def test_a_seed_that_a_foreign_server_ignores_is_not_in_the_clip(
    httpserver: HTTPServer, url: str, dialect: Callable[[Request], Response]
) -> None:
    """Such a server works, and its clip, three frames short, has no seed."""
    answer_with(httpserver, dialect)

    clip = generate(url)

    assert clip.seed is None
    assert clip.info.frames == 47 * 640
    assert clip.origin.model is None


def test_metadata_may_be_null(httpserver: HTTPServer, url: str) -> None:
    """An answer without metadata is a good answer."""
    answer_changed(httpserver, metadata=None)

    assert generate(url).origin.model is None


def test_the_request_follows_the_contract(httpserver: HTTPServer, url: str) -> None:
    """All fields are sent, an absent prompt as "", with identity as the only encoding and the key as a Bearer token."""
    answer_with(httpserver, fakes.ours)
    engine = RemoteEngine(url, timeout_s=9, max_wait_s=0, api_key="k3y")
    engine.generate(GenerateRequest(duration=0.5, seed=1), NotesOnlyListener())

    sent, _ = httpserver.log[0]
    assert json.loads(sent.data) == {
        "prompt": "", "duration": 0.5, "temperature": 1.0, "top_k": 250, "top_p": 0.9, "guidance_scale": 3.0,
        "do_sample": True, "client_job_id": None, "seed": 1,
    }  # fmt: skip
    assert sent.headers["Accept-Encoding"] == "identity"
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["Authorization"] == "Bearer k3y"
    assert sent.headers["X-Deadline-S"] == "9"


def test_a_request_has_one_deadline_however_the_answer_trickles() -> None:
    """Bytes that keep coming do not extend it."""

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b" ")
            time.sleep(0.05)

    started = time.monotonic()
    with fakes.raw_server(trickle) as url, pytest.raises(OutOfTimeError) as caught:
        generate(url, timeout_s=0.7)

    assert 0.6 < time.monotonic() - started < 3
    assert caught.value.exit_code == 5


def test_the_deadline_includes_the_headers() -> None:
    """Headers that trickle do not extend it either."""

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            connection.sendall(b"X-A: 1\r\n")
            time.sleep(0.05)

    with fakes.raw_server(trickle) as url, pytest.raises(OutOfTimeError):
        generate(url, timeout_s=0.7)


@pytest.mark.parametrize("bad", ["", "localhost:2006", "ftp://x", "http://", "http://a b", "/predict", "http://[::1"])
def test_an_invalid_address_is_a_usage_error(bad: str) -> None:
    """The address is checked before anything is sent."""
    with pytest.raises(UsageError) as caught:
        RemoteEngine(bad, timeout_s=1, max_wait_s=0)
    assert caught.value.exit_code == 2


def test_secrets_in_the_address_are_not_recorded(httpserver: HTTPServer, url: str) -> None:
    """User info and query never reach a clip's origin."""
    answer_with(httpserver, fakes.ours)

    clip = generate(url.replace("http://", "http://me:secret@") + "/?token=hidden")

    assert clip.origin.url == url


def test_silence_and_unusual_formats_are_accepted_with_a_warning(httpserver: HTTPServer, url: str) -> None:
    """A WAV that is consistent in itself is passed on as it is."""
    silent = pcm16_wav(bytes(4 * 44_100), sample_rate=44_100, channels=2)
    answer_changed(httpserver, silent)

    clip = generate(url)

    assert clip.wav == silent
    assert clip.warnings == (
        "the sound is silent",
        "unusual audio format, stored as it is: 44100 Hz, 2 channel(s), 16-bit PCM",
    )


def test_proxies_are_not_used_for_loopback(httpserver: HTTPServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine are not sent to a proxy that the environment names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    answer_with(httpserver, fakes.ours)

    assert generate(url).seed == 7


@pytest.mark.parametrize(
    ("response", "report"),
    [(Response("ok"), {}), (Response('{"status": "ok", "model": "nano"}'), {"status": "ok", "model": "nano"})],
)
def test_any_200_means_up(httpserver: HTTPServer, url: str, response: Response, report: dict[str, str]) -> None:
    """A health check may be answered with plain text or JSON."""
    httpserver.expect_request("/health").respond_with_response(response)

    assert RemoteEngine(url, timeout_s=1, max_wait_s=0).health() == report


@pytest.mark.parametrize(
    ("header", "warnings"),
    [
        ('299 musicgen "duration 99 is out of range, 30 was used"', ["duration 99 is out of range, 30 was used"]),
        ('110 - "stale", 299 host:1 "say \\"a\\"" "Sat, 28 Nov 2026 15:00:00 GMT"', ["stale", 'say "a"']),
        ("", ["the service clamped values that were out of its range: duration"]),
        ("nonsense", ["the service clamped values that were out of its range: duration"]),
        ('299 x "never closed', ["the service clamped values that were out of its range: duration"]),
        (f'299 x "{"a" * 1000}"', ["a" * 200]),
        (", ".join(['299 x "a"'] * 1000), ["a"] * 8),
    ],
)
def test_warnings_in_the_header_of_an_answer_are_passed_on(
    httpserver: HTTPServer, url: str, header: str, warnings: list[str]
) -> None:
    """They say more than the metadata do; without them, the metadata's names of clamped fields are shown."""

    def handler(request: Request) -> Response:
        body = fakes.good_answer(json.loads(request.data))
        body["metadata"]["clamped"] = {"duration": 99}
        return Response(json.dumps(body), content_type="application/json", headers={"Warning": header})

    answer_with(httpserver, handler)

    assert list(generate(url).warnings) == warnings
