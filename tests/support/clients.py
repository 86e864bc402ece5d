"""A request for the tests of the client, and servers that answer it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, ProgressListener
from musicgen_cli.engine.client import RemoteEngine
from tests.support import fakes
from tests.support.listeners import NotesOnlyListener

REQUEST = GenerateRequest(prompt="calm ambient piano", duration=1.0, seed=7, client_job_id="job-1")


def generate(
    url: str,
    request: GenerateRequest = REQUEST,
    *,
    timeout_s: float = 20,
    max_wait_s: float = 20,
    listener: ProgressListener | None = None,
) -> Clip:
    """Send a request; without a `listener`, progress and samples fail the test."""
    engine = RemoteEngine(url, timeout_s=timeout_s, max_wait_s=max_wait_s)
    return engine.generate(request, listener or NotesOnlyListener())


def answer_with(httpserver: HTTPServer, handler: Callable[[Request], Response]) -> None:
    """Let `handler` answer requests to `/predict`."""
    httpserver.expect_request("/predict", method="POST").respond_with_handler(handler)


def answer_changed(httpserver: HTTPServer, sound: bytes | None = None, **changes: Any) -> None:
    """Answer requests to `/predict` as our own service does, but with other members."""

    def handler(request: Request) -> Response:
        body = fakes.good_answer(json.loads(request.data), sound, **changes)
        return Response(json.dumps(body), content_type="application/json")

    answer_with(httpserver, handler)
