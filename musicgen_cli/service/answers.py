"""The answer to a request: JSON with the sound in it, or the sound itself, whichever the client accepts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response

from musicgen_cli.audio.wav import MIME
from musicgen_cli.contract import GenerateRequest, GenerateResponse
from musicgen_cli.engine.base import Clip
from musicgen_cli.service.trace import Trace
from musicgen_cli.text import escaped_json, number

METADATA_HEADER = "X-MusicGen-Metadata"
_JSON = "application/json"
_WAV_TYPES = frozenset({MIME, "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/*"})
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
    headers = {"Vary": "Accept"}
    if clamped:
        headers["Warning"] = ", ".join(
            f'299 musicgen "{name} {_short(value)} is out of range, {number(getattr(request, name))} was used"'
            for name, value in clamped.items()
        )
    if as_wav:
        headers[METADATA_HEADER] = escaped_json(json.dumps(metadata))
        return Response(clip.wav, media_type=MIME, headers=headers)
    response = GenerateResponse(
        audio_base64=base64.b64encode(clip.wav).decode(),
        sample_rate=clip.info.sample_rate,
        duration=clip.info.duration,
        num_samples=clip.info.frames,
        channels=clip.info.channels,
        prompt=request.prompt,
        metadata=metadata,
    )
    return Response(response.model_dump_json().encode(), media_type=_JSON, headers=headers)


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
