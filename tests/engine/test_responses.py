"""What the client makes of answers: error statuses, bad bodies, and bodies without end."""

from __future__ import annotations

import base64
import gzip
import socket
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import BadAnswerError, ServiceError
from tests.support import fakes
from tests.support.clients import REQUEST, answer_changed, answer_with, generate


def test_a_redirect_is_reported_and_not_followed(httpserver: HTTPServer, url: str) -> None:
    """The message has the target, and nothing is sent there."""
    httpserver.expect_request("/predict").respond_with_data("", 302, {"Location": httpserver.url_for("/elsewhere")})

    with pytest.raises(ServiceError, match="elsewhere") as caught:
        generate(url)

    assert caught.value.exit_code == 6
    assert {request.path for request, _ in httpserver.log} == {"/predict"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 421, 422, 500])
def test_other_errors_are_final_and_have_the_servers_message(httpserver: HTTPServer, url: str, status: int) -> None:
    """Exit 6 with `detail` in one line, and no second attempt."""
    httpserver.expect_request("/predict").respond_with_json({"detail": "no\n  way"}, status)

    with pytest.raises(ServiceError, match=f"{status}: no way") as caught:
        generate(url)

    assert caught.value.exit_code == 6
    assert not isinstance(caught.value, BadAnswerError)
    assert len(httpserver.log) == 1
    assert ("key" in (caught.value.hint or "")) == (status in {401, 403})
    assert ("`--allow-host localhost`" in (caught.value.hint or "")) == (status == 421)


def test_a_list_of_details_becomes_one_line(httpserver: HTTPServer, url: str) -> None:
    """FastAPI's validation errors are shown with their fields."""
    answer_with(httpserver, fakes.fast_api)
    request = GenerateRequest.model_construct(**{**REQUEST.model_dump(), "duration": 0.1})

    with pytest.raises(ServiceError, match="422: duration: Input should be less"):
        generate(url, request)


def test_long_details_are_cut(httpserver: HTTPServer, url: str) -> None:
    """A server's message takes at most 500 characters."""
    httpserver.expect_request("/predict").respond_with_json({"detail": "x" * 9000}, 500)

    with pytest.raises(ServiceError) as caught:
        generate(url)

    assert str(caught.value).count("x") == 499


@pytest.mark.parametrize("dialect", [fakes.lit_serve, fakes.fast_api])
def test_a_500_to_an_empty_prompt_has_a_hint(
    httpserver: HTTPServer, url: str, dialect: Callable[[Request], Response]
) -> None:
    """Servers that cannot generate unconditionally answer a 500 that does not say so."""
    answer_with(httpserver, dialect)

    with pytest.raises(ServiceError) as caught:
        generate(url, GenerateRequest(duration=1.0))

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
def test_a_bad_answer_is_reported_by_its_first_bad_field(
    httpserver: HTTPServer, url: str, changes: dict[str, Any], field: str
) -> None:
    """Exit 6 with the field's name, and never the body."""
    answer_changed(httpserver, **changes)

    with pytest.raises(BadAnswerError, match=field) as caught:
        generate(url)

    assert caught.value.exit_code == 6
    assert len(str(caught.value)) < 200
    assert len(httpserver.log) == 1


BAD_BODIES = [
    b"", b"<html><body>hello</body></html>", b"[]", b"null", b'{"audio_base64": "' + b"A" * 64, b"\xff\xfe",
    b"[" * 10_000, b'{"duration": NaN}', b"\xef\xbb\xbf{}", b'{"prompt": "\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_that_is_not_an_answer_is_refused(httpserver: HTTPServer, url: str, body: bytes) -> None:
    """HTML, cut JSON, deep JSON, NaN, a BOM and lone surrogates are all a bad answer."""
    httpserver.expect_request("/predict").respond_with_data(body, content_type="application/json")

    with pytest.raises(BadAnswerError):
        generate(url)


def test_a_compressed_answer_is_refused_unread(httpserver: HTTPServer, url: str) -> None:
    """Only `identity` was accepted, because a few bytes of gzip may decompress to gigabytes."""
    bomb = gzip.compress(gzip.compress(b"0" * 50_000_000))
    httpserver.expect_request("/predict").respond_with_data(bomb, headers={"Content-Encoding": "gzip, gzip"})

    with pytest.raises(BadAnswerError, match="gzip"):
        generate(url)


def test_a_body_without_end_is_cut_at_the_limit() -> None:
    """At most 32 MiB are read, whatever the headers say."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"100000\r\n" + b"A" * 0x100000 + b"\r\n"
        for _ in range(1000):
            connection.sendall(block)

    with fakes.raw_server(flood) as url, pytest.raises(BadAnswerError, match="larger than 32768 KiB"):
        generate(url)
