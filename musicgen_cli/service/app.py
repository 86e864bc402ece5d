"""The service's paths: /predict, /health, /progress and /metrics, over a queue before an engine."""

from __future__ import annotations

import asyncio
import base64
import math
import secrets
from collections.abc import Collection
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from musicgen_cli import limits
from musicgen_cli._version import __version__
from musicgen_cli.contract import GenerateRequest, GenerateResponse
from musicgen_cli.engine.base import Clip
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.service.admission import AdmissionQueue, RefusedError
from musicgen_cli.service.job import Job
from musicgen_cli.service.metrics import CONTENT_TYPE, Metrics
from musicgen_cli.service.middleware import BODY_S, ServiceMiddleware
from musicgen_cli.service.trace import Trace


def create_app(
    queue: AdmissionQueue,
    *,
    hosts: Collection[str] = (),
    api_key: str | None = None,
    max_duration: float = limits.DURATION.high,
    log_prompts: bool = False,
    body_s: float = BODY_S,
) -> FastAPI:
    """
    Build the service over a queue, for any ASGI server; loading the queue's engine is the caller's.

    Args:
        queue: What runs the requests.
        hosts: Names it answers to besides those of loopback and the address a request came in on.
        api_key: Asked of every request but `/health`.
        max_duration: In seconds; longer requests are clamped to it.
        log_prompts: Write prompts to the log.
        body_s: Seconds in which a request's body must have come.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    metrics = Metrics(queue)
    app.add_middleware(
        ServiceMiddleware,
        hosts=hosts,
        api_key=api_key,
        log_prompts=log_prompts,
        body_s=body_s,
        answered=metrics.answered,
    )

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, err: RefusedError) -> JSONResponse:
        return JSONResponse({"detail": str(err)}, err.status, {"Retry-After": str(err.retry_after_s)})

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        # A web page may POST text/plain to loopback unasked; for application/json its browser must ask us first, and
        # we don't allow it.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "Content-Type must be application/json")
        wanted, clamped = _wanted(await request.body(), max_duration)
        deadline_s = _deadline_s(request.headers.get("x-deadline-s"))
        job = request.state.job = Job(wanted, client=request.client.host if request.client else "")
        gone = asyncio.ensure_future(_gone(request))
        try:
            clip = await queue.run(job, gone, deadline_s)
        finally:
            gone.cancel()
        if clip is None:
            raise ClientDisconnect
        trace = Trace.of(request.headers)
        body = await asyncio.to_thread(_answer, wanted, clamped, clip, trace)
        return Response(body, media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        origin = queue.ready().origin
        return {
            "status": "ok",
            "service": "musicgen",
            "version": __version__,
            "model": origin.model,
            "engine": origin.engine,
            "queue": queue.counts(),
            "rate": None
            if queue.throughput.made is None
            else round(queue.throughput.made, 2),  # seconds of sound a second
        }

    @app.get("/progress/{client_job_id}")
    async def progress(client_job_id: str) -> dict[str, Any]:
        job = queue.find(client_job_id)
        if job is None:
            raise HTTPException(404, "no such job")
        return {"steps": job.steps, "total": job.total, "state": job.state}

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return app


def _wanted(body: bytes, max_duration: float) -> tuple[GenerateRequest, dict[str, float]]:
    """
    Read a request; give it a seed if it has none.

    Returns:
        The request that will be worked on, and name → value asked of each field that was clamped.

    Raises:
        HTTPException: 422.
    """
    try:
        parsed = from_json(body, allow_inf_nan=False)  # bounded in depth, unlike the standard library's
    except ValueError as err:
        raise HTTPException(422, f"the body is not JSON: {err}") from err
    try:
        wanted, clamped = GenerateRequest.clamped(parsed)
    except InvalidValueError as err:
        raise HTTPException(422, str(err)) from err
    changes: dict[str, float] = {}
    if wanted.duration > max_duration:
        clamped.setdefault("duration", wanted.duration)
        changes["duration"] = max_duration
    if wanted.seed is None:
        changes["seed"] = secrets.randbelow(int(limits.SEED.high) + 1)
    return wanted.model_copy(update=changes), clamped


def _deadline_s(header: str | None) -> float | None:
    """
    Read X-Deadline-S.

    Raises:
        HTTPException: 422.
    """
    if header is None:
        return None
    try:
        deadline_s = float(header)
    except ValueError:
        deadline_s = math.nan
    if not (math.isfinite(deadline_s) and deadline_s > 0):
        raise HTTPException(422, "X-Deadline-S must be a number of seconds above 0")
    return deadline_s


async def _gone(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(wanted: GenerateRequest, clamped: dict[str, float], clip: Clip, trace: Trace | None) -> bytes:
    """Write the body of a 200."""
    metadata: dict[str, Any] = {
        **clip.extra,
        "client_job_id": wanted.client_job_id,
        "model": clip.origin.model,
        "engine": clip.origin.engine,
        "precision": clip.origin.precision,
        "device": clip.origin.device,
        "seed": clip.seed,
        "requested_duration": wanted.duration,
        "elapsed_s": round(clip.elapsed_s, 3),
        "license": clip.license,
    }
    if trace:
        metadata |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
    if clamped:
        metadata["clamped"] = clamped
    if clip.warnings:
        metadata["warnings"] = clip.warnings
    answer = GenerateResponse(
        audio_base64=base64.b64encode(clip.wav).decode(),
        sample_rate=clip.info.sample_rate,
        duration=clip.info.duration,
        num_samples=clip.info.frames,
        channels=clip.info.channels,
        prompt=wanted.prompt,
        metadata=metadata,
    )
    return answer.model_dump_json().encode()
