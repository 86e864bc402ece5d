"""Fake sounds, and fake services: three that follow the HTTP contract, each in its way, and one for raw bytes."""

from __future__ import annotations

import base64
import json
import math
import re
import socket
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug import Request, Response

from musicgen_cli.audio.wav import inspect, pcm16_wav, without_last_info

RATE = 32_000


def tone(seconds: float = 0.5, *, seed: int = 0, channels: int = 1, rate: int = RATE) -> bytes:
    """Return a WAV with a tone whose pitch depends on the seed."""
    hz = 110 + seed % 1009
    samples = array("h", (int(9000 * math.sin(2 * math.pi * hz * i / rate)) for i in range(round(seconds * rate))))
    if channels > 1:
        samples = array("h", (sample for sample in samples for _ in range(channels)))
    return pcm16_wav(samples.tobytes(), sample_rate=rate, channels=channels)


def exported(path: Path) -> bytes:
    """Read an exported WAV without its metadata."""
    return without_last_info(path.read_bytes())


def good_answer(body: dict[str, Any], sound: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """Return the answer of our own service to a request, with `changes` to its members."""
    sound = tone(body["duration"], seed=body.get("seed") or 0) if sound is None else sound
    info = inspect(sound)
    return {
        "audio_base64": base64.b64encode(sound).decode(),
        "sample_rate": info.sample_rate,
        "duration": info.frames / info.sample_rate,
        "num_samples": info.frames,
        "channels": info.channels,
        "prompt": body["prompt"],
        "metadata": {
            "client_job_id": body.get("client_job_id"),
            "model": "nano",
            "engine": "onnx",
            "precision": "fp32",
            "device": "cpu",
            "seed": body.get("seed"),
            "requested_duration": body["duration"],
            "elapsed_s": 0.1,
            "license": "MIT",
            "checkpoint": "abc",
            "sampler": 1,
        },
    } | changes


def ours(request: Request) -> Response:
    """Answer as our own service does."""
    return _json(good_answer(json.loads(request.data)))


def shorter(request: Request) -> Response:
    """Answer a request with half a second, however much it asks for."""
    return Response(json.dumps(good_answer(json.loads(request.data) | {"duration": 0.5})))


def lit_serve(request: Request) -> Response:
    """Answer as the LitServe reference does: clamped silently, three frames short, metadata only with a job id."""
    body = json.loads(request.data)
    job_id = body.get("client_job_id")
    if (job_id is not None and not re.fullmatch(r"[a-zA-Z0-9._:-]{1,256}", job_id)) or not body.get("prompt"):
        return _json({"detail": "Internal server error"}, 500)
    duration = min(max(float(body.get("duration", 10.0)), 0.5), 30.0)
    answer = good_answer(body, tone((int(50 * duration) - 3) / 50))
    if job_id is None:
        del answer["metadata"]
    else:
        answer["metadata"] = {"client_job_id": job_id}
    return _json(answer)


def fast_api(request: Request) -> Response:
    """Answer as the FastAPI reference does: `detail` is a list, three frames short, metadata with nulls."""
    body = json.loads(request.data)
    if body.get("prompt", "") is None or not 0.5 <= body.get("duration", 10.0) <= 30.0:
        error = {"type": "less_than_equal", "loc": ["body", "duration"], "msg": "Input should be less", "input": 31}
        return _json({"detail": [error]}, 422)
    if not body.get("prompt"):
        return _json({"detail": "You need to provide at least one input to call MusicgenProcessor"}, 500)
    answer = good_answer(body, tone((int(50 * body["duration"]) - 3) / 50))
    answer["metadata"] = {"client_job_id": body.get("client_job_id"), "trace_id": None, "span_id": None}
    return _json(answer)


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """
    Serve a port; `talk` answers each connection after its request has been read.

    Yields:
        The address.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                _read_request(connection)
                talk(connection)
            except OSError:
                return  # the client has disconnected

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _read_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if length := re.search(rb"content-length: (\d+)", head.lower()):
        while len(body) < int(length[1]):
            body += _receive(connection)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client disconnected in the middle of its request")
    return data
