"""The answer to a request: JSON with the sound in it, or the sound itself, whichever the client accepts."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from musicgen_cli.audio.wav import MIME
from musicgen_cli.contract import GenerateRequest, GenerateResponse
from musicgen_cli.engine.base import Clip
from musicgen_cli.service.trace import Trace
from musicgen_cli.text import escaped_json, number

METADATA_HEADER = "X-MusicGen-Metadata"
_JSON = "application/json"
_WAV_TYPES = frozenset({MIME, "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/*"})
_PIECE_BYTES = 3 * 64 * 1024  # a multiple of 3, so that pieces of base64 make one
_WARNED_CHARS = 40  # of a value that was clamped; a client may send thousands of digits


def accepts_wav(accept: str) -> bool:
    """
    Return whether a client prefers the sound itself to JSON.

    `*/*`, which most clients send without being told to, is no preference.

    Args:
        accept: The Accept header (RFC 9110, 12.5.1).
    """
    weights = {"wav": 0.0, "json": 0.0}
    for media_range in accept.lower().split(","):
        type_, *parameters = (part.strip() for part in media_range.split(";"))
        kind = "wav" if type_ in _WAV_TYPES else "json" if type_ in {_JSON, "application/*"} else None
        if kind is not None:
            weights[kind] = max(weights[kind], _weight(parameters))
    return weights["wav"] > weights["json"]


def answer(
    request: GenerateRequest, clamped: Mapping[str, float], clip: Clip, trace: Trace | None, *, as_wav: bool
) -> Response:
    """
    Build a 200.

    Args:
        request: As it was generated.
        clamped: The values that were asked for, of the fields that were clamped.
        clip: What was made.
        trace: Of the request.
        as_wav: Answer with the sound itself, and with the metadata in a header.
    """
    metadata = _metadata(request, clamped, clip, trace)
    wav = memoryview(clip.wav)
    headers = {"Vary": "Accept"}
    if clamped:
        headers["Warning"] = ", ".join(
            f'299 musicgen "{name} {_short(value)} is out of range, {number(getattr(request, name))} was used"'
            for name, value in clamped.items()
        )
    if as_wav:
        headers[METADATA_HEADER] = escaped_json(json.dumps(metadata))
        return _InPieces([wav], len(wav), MIME, headers)
    response = GenerateResponse(
        audio_base64="",
        sample_rate=clip.info.sample_rate,
        duration=clip.info.duration,
        num_samples=clip.info.frames,
        channels=clip.info.channels,
        prompt=request.prompt,
        metadata=metadata,
    )
    before, quotes, after = response.model_dump_json().encode().partition(b'""')
    start, end = before + quotes[:1], quotes[1:] + after
    pieces = itertools.chain([start], _base64(wav), [end])
    return _InPieces(pieces, len(start) + -(-len(wav) // 3) * 4 + len(end), _JSON, headers)


class _InPieces(Response):
    """
    A body that is made while it is sent, so that there is no second copy of a clip, which may have 100 MB.

    Args:
        pieces: The body.
        size: Its bytes.
        headers: Further ones.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview], size: int, type_: str, headers: Mapping[str, str]) -> None:
        super().__init__(None, media_type=type_, headers={**headers, "Content-Length": str(size)})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """Send the body; the server waits where the client reads slowly."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            for start in range(0, len(piece), _PIECE_BYTES):
                part = bytes(piece[start : start + _PIECE_BYTES])
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _base64(data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield base64.b64encode(data[start : start + _PIECE_BYTES])


def _metadata(
    request: GenerateRequest, clamped: Mapping[str, float], clip: Clip, trace: Trace | None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        **clip.extra,
        "client_job_id": request.client_job_id,
        "model": clip.origin.model,
        "engine": clip.origin.engine,
        "precision": clip.origin.precision,
        "device": clip.origin.device,
        "seed": clip.seed,
        "requested_duration": request.duration,
        "elapsed_s": round(clip.elapsed_s, 3),
        "license": clip.license,
    }
    if trace:
        metadata |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
    if clamped:
        metadata["clamped"] = dict(clamped)
    if clip.warnings:
        metadata["warnings"] = clip.warnings
    return metadata


def _short(value: float) -> str:
    text = number(value)
    return text if len(text) <= _WARNED_CHARS else f"{text[: _WARNED_CHARS - 3]}..."


def _weight(parameters: list[str]) -> float:
    """Return the weight `q` of a media range; 1 without one, and 0 for one that is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0
