"""The service's routes: /predict, /health, /progress and /metrics, over an admission queue."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Collection, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from musicgen_cli import limits
from musicgen_cli._version import __version__
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import wire
from musicgen_cli.engine.base import CONTINUE, CONTINUE_OWN, LONG, MELODY, Inputs
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.request_fields import RANGES
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.answers import accepts_wav, answer
from musicgen_cli.service.bodies import BODY_S
from musicgen_cli.service.callers import Caller
from musicgen_cli.service.job import Job
from musicgen_cli.service.metrics import CONTENT_TYPE, Metrics
from musicgen_cli.service.middleware import ServiceMiddleware, check_json
from musicgen_cli.service.refusal import RefusedError
from musicgen_cli.service.sounds import check_sounds
from musicgen_cli.service.trace import Trace

FEATURES = ("deadline", "progress", "seed", "wav")  # what not every server of this contract has; docs/serve.md
_READ = ["GET", "HEAD"]


def create_app(
    queue: AdmissionQueue,
    *,
    hosts: Collection[str] = (),
    api_keys: Sequence[str] = (),
    max_duration: float = limits.CONTEXT_S,
    log_prompts: bool = False,
    body_s: float = BODY_S,
) -> FastAPI:
    """
    Build the service's app for any ASGI server; the caller loads the queue's engine.

    Args:
        queue: Runs the requests.
        hosts: Names accepted in the Host header, besides loopback and the address that a request came in on; ANY_HOST
            accepts all.
        api_keys: One of them is required of every request except `/health`. If there are several, the requests with
            the same one share places and slots; otherwise those from the same address do.
        max_duration: In seconds; longer requests are clamped to it.
        log_prompts: Whether prompts are written to the log.
        body_s: Seconds within which a request's body must arrive.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    metrics = Metrics(queue)
    app.add_middleware(
        ServiceMiddleware,
        hosts=hosts,
        api_keys=api_keys,
        log_prompts=log_prompts,
        body_s=body_s,
        admit_sounds=queue.check_room,
        on_answered=metrics.record,
    )

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, err: RefusedError) -> JSONResponse:
        return JSONResponse({"detail": str(err)}, err.status, err.headers)

    _add_predict(app, queue, max_duration)
    _add_status(app, queue, metrics, max_duration)
    return app


def _add_predict(app: FastAPI, queue: AdmissionQueue, max_duration: float) -> None:
    """Add the route that generates clips."""

    @app.post("/predict")
    async def predict(http_request: Request) -> Response:
        check_json(http_request.scope)
        deadline_s = _parse_deadline(http_request.headers.get("x-deadline-s"))
        request, clamped, inputs = await _read_request(http_request, queue, max_duration)
        _check_abilities(inputs, queue)
        job = Job(request, _caller(http_request), inputs)
        del inputs  # the job forgets them when it has ended
        http_request.state.job = job  # for the middleware's log and metrics
        disconnected = asyncio.ensure_future(_disconnected(http_request))
        try:
            clip = await queue.run(job, disconnected, deadline_s)
        except UsageError as err:
            if job.source is None:  # then nothing in the request can be the reason
                raise
            raise HTTPException(422, str(err)) from err
        finally:
            disconnected.cancel()
        if clip is None:
            raise ClientDisconnect
        trace = Trace.of(http_request.headers)
        as_wav = accepts_wav(", ".join(http_request.headers.getlist("accept")))
        return answer(request, clamped, clip, trace, as_wav=as_wav)


def _add_status(app: FastAPI, queue: AdmissionQueue, metrics: Metrics, max_duration: float) -> None:
    """Add the routes that report on the service and its requests."""

    @app.api_route("/health", methods=_READ)
    async def health() -> dict[str, Any]:
        origin, abilities = queue.require_engine().origin, queue.abilities
        features = {*FEATURES, *abilities.features}
        if max_duration <= limits.CONTEXT_S:
            features.discard(LONG)
        rate = queue.throughput.rate
        return {
            "status": "ok",
            "service": "musicgen",
            "version": __version__,
            "model": origin.model,
            "engine": origin.engine,
            "features": sorted(features),
            "max_duration": max_duration,  # s
            "sample_rate": abilities.sample_rate,
            "channels": abilities.channels,
            "queue": queue.counts(),
            "rate": None if rate is None else round(rate, 2),  # seconds of sound per second of work
        }

    @app.api_route("/progress/{client_job_id}", methods=_READ)
    async def progress(client_job_id: str, http_request: Request) -> dict[str, Any]:
        job = queue.find(client_job_id, _caller(http_request))
        if job is None:
            raise HTTPException(404, "no such job")
        return {"steps": job.steps, "total": job.total, "state": job.state}

    @app.api_route("/metrics", methods=_READ)
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _caller(http_request: Request) -> Caller:
    """Return who sent a request, as the middleware found out."""
    caller: Caller = http_request.state.caller
    return caller


_Parsed = tuple[GenerateRequest, dict[str, float], Inputs]


async def _read_request(http_request: Request, queue: AdmissionQueue, max_duration: float) -> _Parsed:
    """Read and parse a request, as `_parse_request`; sounds are checked on another thread, as that takes time."""
    # `http_request.body()` would keep the bytes until the answer is sent.
    body = b"".join([chunk async for chunk in http_request.stream()])
    if len(body) <= limits.REQUEST_BYTES:
        return _parse_request(body, max_duration)
    with queue.sounds.parsing(_caller(http_request), len(body)):
        return await asyncio.to_thread(_parse_request, body, max_duration)


def _check_abilities(inputs: Inputs, queue: AdmissionQueue) -> None:
    """
    Refuse sounds that the model can't make anything of.

    Raises:
        HTTPException: 422.
    """
    features, model = queue.abilities.features, queue.require_engine().origin.model
    if inputs.melody_wav is not None and MELODY not in features:
        raise HTTPException(422, f"{wire.MELODY} can't be used: {model} is no melody model")
    if not inputs.is_continuation:
        return
    if CONTINUE in features:
        if inputs.continue_wav is None:
            raise HTTPException(422, f"{wire.SOUND} is missing: {model} goes on from the sound itself")
        return
    if CONTINUE_OWN not in features:
        name = wire.SHA256 if inputs.continue_wav is None else wire.SOUND
        raise HTTPException(422, f"{name} can't be used: {model} can't go on from a sound")
    if inputs.recipe is None:
        raise HTTPException(422, f"{wire.RECIPE} is missing: {model} can only go on from sounds that it made itself")


def _parse_request(body: bytes, max_duration: float) -> _Parsed:
    """
    Parse the body of a request, check its sounds, and draw a seed if it has none.

    Returns:
        The request as it will be generated, the requested value of each field that was clamped, and the inputs.

    Raises:
        HTTPException: 422: not JSON, or not a request.
    """
    try:
        parsed = from_json(body, allow_inf_nan=False)  # limits the depth, unlike the standard library's parser
    except ValueError as err:
        raise HTTPException(422, f"the body is not JSON: {err}") from err
    try:
        request, clamped = GenerateRequest.clamped(parsed)
        inputs = wire.read_inputs(parsed)
        del parsed
        check_sounds(inputs)
    except InvalidValueError as err:
        raise HTTPException(422, str(err)) from err
    changes: dict[str, float] = {}
    if request.duration > max_duration:
        clamped.setdefault("duration", request.duration)
        changes["duration"] = max_duration
    if request.seed is None:
        changes["seed"] = secrets.randbelow(int(limits.SEED.high) + 1)
    clamped = {name: clamped[name] for name in RANGES if name in clamped}
    return request.model_copy(update=changes), clamped, inputs


def _parse_deadline(header: str | None) -> float | None:
    """
    Parse X-Deadline-S.

    Raises:
        HTTPException: 422: not a number of seconds above 0.
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


async def _disconnected(http_request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await http_request.receive())["type"] != "http.disconnect":
        pass
