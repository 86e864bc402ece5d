"""The answers of the routes, row by row of the HTTP contract."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading

import httpx
import pytest

from musicgen_cli import __version__
from musicgen_cli.audio import wav
from musicgen_cli.contract import GenerateRequest, read_answer
from musicgen_cli.engine.base import CONTINUE, MELODY, Abilities
from musicgen_cli.engine.responses import parse_warnings
from musicgen_cli.errors import InvalidValueError, MemoryNeededError
from musicgen_cli.service.admission import MAX_FINISHED_JOBS, AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.job import Job
from tests.support.fake_engine import FakeEngine
from tests.support.services import FakeService, ServiceClient, StartService, sound_of
from tests.support.waiting import wait_until


def test_an_answer_has_the_members_of_the_contract(shared: ServiceClient) -> None:
    """A 200 has the contract's members, and those of the engine's extra metadata that do not contradict them."""
    request = GenerateRequest(prompt="a lute", duration=0.75, seed=7, client_job_id="one:1")

    answer = shared.post(request.model_dump(include={"prompt", "duration", "seed", "client_job_id"}))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    body.pop("audio_base64")
    assert body == {
        "sample_rate": 32_000,
        "duration": 0.75,
        "num_samples": 24_000,
        "channels": 1,
        "prompt": "a lute",
        "metadata": {
            "client_job_id": "one:1",
            "model": "fake",
            "engine": "sine",
            "precision": "fp32",
            "device": "cpu",
            "seed": 7,
            "requested_duration": 0.75,
            "elapsed_s": 0.25,
            "license": "CC0-1.0",
            "checkpoint": "sha256:0",
            "sampler": 1,
            "runtime": "fake 1",
            "processor": "fake",
        },
    }
    assert sound_of(answer) == shared.engine.sound(request)


def test_our_own_client_accepts_the_answer(shared: ServiceClient) -> None:
    """The answer passes the client's checks."""
    request = GenerateRequest(prompt="ä\t\n𝄞", duration=0.5, seed=3, client_job_id="x")

    answer = shared.post(request.model_dump())

    assert read_answer(answer.content, request).seed == 3


def test_warnings_of_the_engine_are_passed_on(start: StartService, engine: FakeEngine) -> None:
    """The engine's warnings are in the metadata."""
    engine.warnings = ("it is quiet",)

    assert start(engine).post().json()["metadata"]["warnings"] == ["it is quiet"]


def test_a_request_without_a_seed_gets_one(shared: ServiceClient) -> None:
    """Two requests without a seed get different seeds, and a seed that is sent back gives the same sound."""
    first, second = (shared.post({"seed": None}) for _ in range(2))

    seeds = [answer.json()["metadata"]["seed"] for answer in (first, second)]
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert sound_of(shared.post({"seed": seeds[0]})) == sound_of(first)


@pytest.mark.parametrize(
    ("name", "asked", "clamped"),
    [
        ("duration", 0.1, 0.5),
        ("duration", 31, 30),
        ("temperature", 0.0, 0.01),
        ("temperature", 1e300, 2.0),
        ("top_k", -1, 0),
        ("top_k", 10**30, 1000),
        ("top_p", -0.5, 0.0),
        ("top_p", 1.5, 1.0),
        ("guidance_scale", 0, 1),
        ("guidance_scale", 16.0, 15.0),
        ("seed", -1, 0),
        ("seed", 2**53, 2**53 - 1),
    ],
)
def test_a_number_out_of_range_is_clamped(shared: ServiceClient, name: str, asked: float, clamped: float) -> None:
    """The nearest bound is used; the metadata have the value that was asked for."""
    answer = shared.post({"client_job_id": f"{name}:{clamped}", name: asked})

    assert answer.status_code == 200
    assert answer.json()["metadata"]["clamped"] == {name: asked}
    assert getattr(shared.engine.requests[-1], name) == clamped


def test_max_duration_clamps_too(start: StartService) -> None:
    """A service may limit the duration; the metadata have the value that was asked for, in range or not."""
    service = start(max_duration=1.0)

    for asked in (1.5, 99):
        answer = service.post({"duration": asked}).json()
        assert answer["metadata"]["clamped"] == {"duration": asked}
        assert (answer["metadata"]["requested_duration"], answer["duration"]) == (1.0, 1.0)
    assert "clamped" not in service.post({"duration": 1.0}).json()["metadata"]


def test_a_clamped_value_is_said_in_a_warning_header(start: StartService) -> None:
    """Also one that only this service's limit changes; a value that fits is not mentioned."""
    service = start(max_duration=1.0)

    answer = service.post({"duration": 99, "top_k": 10**3000, "temperature": 1.5})

    assert answer.headers["warning"] == (
        '299 musicgen "duration 99 is out of range, 1 was used", '
        f'299 musicgen "top_k 1{"0" * 36}... is out of range, 1000 was used"'
    )
    assert parse_warnings([answer.headers["warning"]])[0] == "duration 99 is out of range, 1 was used"
    assert "warning" not in service.post().headers


@pytest.mark.parametrize(
    ("accept", "is_wav"),
    [
        ("audio/wav", True),
        ("Audio/X-WAV", True),
        ("audio/wave;q=0.5", True),
        ("audio/*", True),
        ("audio/wav, */*;q=0.8", True),
        ("audio/wav, application/json;q=0.5", True),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/html", False),
        ("application/json, audio/wav", False),  # no preference
        ("application/json, audio/wav;q=0.9", False),
        ("audio/wav;q=0", False),
        ("audio/wav;q=nan", False),
        ("audio/wav;q=x", False),
        (";,;q", False),
    ],
)
def test_a_client_that_prefers_audio_gets_the_sound_itself(shared: ServiceClient, accept: str, is_wav: bool) -> None:
    """Its metadata is a header then; everything else is answered in JSON."""
    request = GenerateRequest(prompt="ä", duration=0.5, seed=7)
    body = request.model_dump(include={"prompt", "duration", "seed"}) | {"top_k": 5000}

    answer = shared.post(body, headers={"Accept": accept})
    as_json = shared.post(body, headers={"Accept": "application/json"})

    assert (answer.status_code, answer.headers["vary"]) == (200, "Accept")
    assert "5000" in answer.headers["warning"]
    if is_wav:
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.content == shared.engine.sound(request)
        assert json.loads(answer.headers["x-musicgen-metadata"]) == as_json.json()["metadata"]
    else:
        assert answer.json() == as_json.json()
        assert "x-musicgen-metadata" not in answer.headers


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"duration": "10"}', "duration"),
        (b'{"duration": null}', "duration"),
        (b'{"duration": true}', "duration"),
        (b'{"duration": 1e400}', "duration"),
        (b'{"duration": NaN}', "JSON"),
        (b'{"temperature": Infinity}', "JSON"),
        (b'{"temperature": [1]}', "temperature"),
        (b'{"top_k": 2.5}', "top_k"),
        (b'{"top_p": {}}', "top_p"),
        (b'{"guidance_scale": "3"}', "guidance_scale"),
        (b'{"do_sample": 1}', "do_sample"),
        (b'{"seed": 1.5}', "seed"),
        (b'{"seed": "1"}', "seed"),
        (b'{"prompt": 5}', "prompt"),
        (b'{"prompt": "a\\u0000b"}', "prompt"),
        (b'{"prompt": "a\\u001bb"}', "prompt"),
        (b'{"prompt": "' + b"a" * 2001 + b'"}', "prompt"),
        (b'{"prompt": "\\ud800"}', "JSON"),
        (b'{"client_job_id": ""}', "client_job_id"),
        (b'{"client_job_id": "a b"}', "client_job_id"),
        (b'{"client_job_id": "a\\n"}', "client_job_id"),
        (b'{"client_job_id": "' + b"a" * 257 + b'"}', "client_job_id"),
        (b'{"client_job_id": 5}', "client_job_id"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"prompt": "\xff"}', "JSON"),
        (b"[" * 60_000, "JSON"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "JSON"),
        (b'{"duration": ' + b"9" * 60_000 + b"}", "JSON"),
    ],
    ids=lambda value: value[:40].decode(errors="replace") if isinstance(value, bytes) else None,
)
def test_an_invalid_request_is_422_and_names_the_field(shared: ServiceClient, body: bytes, named: str) -> None:
    """A bad body is never an internal error; `detail` is one line."""
    before = len(shared.engine.requests)

    answer = shared.post(body)

    assert answer.status_code == 422
    assert list(answer.json()) == ["detail"]
    assert named in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert len(shared.engine.requests) == before


@pytest.mark.parametrize("body", [b"{}", b'{"prompt": ""}', b'{"prompt": null}'])
def test_no_prompt_means_unconditional(shared: ServiceClient, body: bytes) -> None:
    """Absent, empty and null prompts all reach the engine as "", and are echoed as that."""
    answer = shared.post(body)

    assert answer.status_code == 200
    assert answer.json()["prompt"] == ""
    assert shared.engine.requests[-1].prompt == ""


def test_unknown_fields_are_ignored(shared: ServiceClient) -> None:
    """A newer client may send more."""
    assert shared.post({"melody": "x"}).status_code == 200


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_a_web_page_can_send_without_asking_is_415(shared: ServiceClient, content_type: str | None) -> None:
    """Only application/json is accepted: a browser must ask before it sends that to another origin."""
    headers = {} if content_type is None else {"Content-Type": content_type}

    answer = shared.client.post("/predict", content=b"{}", headers=headers)

    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_a_browser_that_asks_gets_no_permission(shared: ServiceClient) -> None:
    """A preflight request is answered without any access-control header."""
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    answer = shared.client.options("/predict", headers=headers)

    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_charset_is_allowed(shared: ServiceClient) -> None:
    """Parameters and case of the content type do not matter."""
    assert shared.post(b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/progress/", 404),
        ("GET", "/predict", 405),
        ("POST", "/health", 405),
    ],
)
def test_other_paths_and_methods_are_refused_in_json(
    shared: ServiceClient, method: str, path: str, status: int
) -> None:
    """There are only the routes of the contract, and no HTML pages."""
    answer = shared.client.request(method, path)

    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]


def test_health_describes_the_service(service: FakeService) -> None:
    """Health is a JSON object with the service, its model, its queue and, after the first clip, its rate."""
    answer = service.get("/health")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "service": "musicgen",
        "version": __version__,
        "model": "fake",
        "engine": "sine",
        "features": ["deadline", "progress", "seed", "wav"],
        "max_duration": 30.0,
        "sample_rate": 32_000,
        "channels": 1,
        "queue": {"waiting": 0, "running": 0, "limit": 16},
        "rate": None,
    }
    service.post()
    assert service.get("/health").json()["rate"] > 0


def test_health_says_how_long_a_clip_may_be(start: StartService) -> None:
    """A client can ask before it sends what would be clamped; more than a window of the model is a feature."""
    short, long = (start(max_duration=seconds).get("/health").json() for seconds in (12.5, 30.5))

    assert (short["max_duration"], long["max_duration"]) == (12.5, 30.5)
    assert ["long" in health["features"] for health in (short, long)] == [False, True]


def test_health_says_what_the_model_can_do(start: StartService, engine: FakeEngine) -> None:
    """Going on from sounds, and following a melody."""
    engine.abilities = Abilities(frozenset({CONTINUE, MELODY}), 48_000, 2)
    health = start(engine).get("/health").json()

    assert {"continue", "melody"} < set(health["features"])
    assert (health["sample_rate"], health["channels"]) == (48_000, 2)


def test_while_the_model_is_being_loaded_the_answer_is_503(start: StartService, engine: FakeEngine) -> None:
    """The port is open before the model is loaded; afterwards both paths work."""
    load = threading.Event()

    def load_slowly() -> FakeEngine:
        assert load.wait(10)
        return engine

    service = start(engine, make_engine=load_slowly)
    try:
        for answer in (service.get("/health"), service.post()):
            assert answer.status_code == 503
            assert answer.json() == {"detail": "the model is being loaded"}
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert service.ready_urls == []
    finally:
        load.set()

    assert service.ready.wait(10)
    assert service.ready_urls == [service.url]
    assert service.get("/health").status_code == 200
    assert service.post().status_code == 200


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("secret path /srv/x"), MemoryNeededError("secret"), InvalidValueError("secret")],
    ids=lambda failure: type(failure).__name__,
)
def test_a_model_failure_is_500_without_internals(
    start: StartService, engine: FakeEngine, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    """The answer has a request id, and the log has the traceback under that id; the next request is served."""
    service = start(engine)
    engine.failure = failure

    answer = service.post({"client_job_id": "bad"})

    assert answer.status_code == 500
    assert answer.json() == {"detail": f"internal error, request {answer.headers['x-request-id']}"}
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.__dict__["fields"]["request"] == answer.headers["x-request-id"]
    assert record.exc_info is not None
    assert record.exc_info[1] is failure
    assert service.get("/progress/bad").json()["state"] == "failed"
    engine.failure = None
    assert service.post().status_code == 200


def test_progress_follows_a_request(start: StartService, engine: FakeEngine) -> None:
    """A job waits, runs and is done, and its steps are counted."""
    service = start(engine)
    engine.hold()
    first = service.later({"client_job_id": "first"})
    wait_until(lambda: engine.requests)
    second = service.later({"client_job_id": "second"})
    wait_until(lambda: service.counts()["waiting"])

    assert service.get("/progress/first").json() == {"steps": 1, "total": 8, "state": "running"}
    assert service.get("/progress/second").json() == {"steps": 0, "total": 0, "state": "waiting"}

    engine.release()
    assert {first.result().status_code, second.result().status_code} == {200}
    for name in ("first", "second"):
        assert service.get(f"/progress/{name}").json() == {"steps": 8, "total": 8, "state": "done"}
    assert service.get("/progress/third").status_code == 404


def test_a_bounded_number_of_finished_jobs_is_remembered(engine: FakeEngine) -> None:
    """The oldest finished job is forgotten; an id that is used again counts as new."""

    async def scenario() -> AdmissionQueue:
        queue = AdmissionQueue(lambda: engine)
        await queue.load()
        disconnected = asyncio.get_running_loop().create_future()
        for number in [0, *range(MAX_FINISHED_JOBS), 0, MAX_FINISHED_JOBS]:
            request = GenerateRequest(duration=0.5, seed=number, client_job_id=str(number))
            await queue.run(Job(request), disconnected)
        queue.shut_down()
        return queue

    queue = asyncio.run(scenario())

    caller = Job(GenerateRequest()).caller
    assert queue.find("1", caller) is None
    latest = [queue.find(str(number), caller) for number in (0, 2, MAX_FINISHED_JOBS)]
    assert [job and job.state for job in latest] == ["done"] * 3


def test_twenty_requests_at_once_each_get_their_own_sound(start: StartService) -> None:
    """Answers are not mixed up."""
    service = start(limit=20)
    requests = [
        GenerateRequest(prompt=f"number {n}", duration=0.5, client_job_id=f"job-{n}", seed=n) for n in range(20)
    ]

    pending = [service.later(request.model_dump()) for request in requests]
    answers = [answer.result() for answer in pending]

    for request, answer in zip(requests, answers, strict=True):
        body = answer.json()
        assert (body["prompt"], body["metadata"]["client_job_id"]) == (request.prompt, request.client_job_id)
        assert sound_of(answer) == service.engine.sound(request)
    assert len({sound_of(answer) for answer in answers}) == 20
    assert wav.inspect(sound_of(answers[0])).frames == 16_000


def test_the_app_runs_without_a_port(engine: FakeEngine) -> None:
    """Any ASGI server can run it; the caller loads the queue's engine."""

    async def scenario() -> list[int]:
        queue = AdmissionQueue(lambda: engine)
        app = create_app(queue)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answers = [await client.get("/health")]
            await queue.load()
            answers += [await client.get("/health"), await client.post("/predict", json={"duration": 0.5})]
        queue.shut_down()
        return [answer.status_code for answer in answers]

    assert asyncio.run(scenario()) == [503, 200, 200]


def test_the_app_may_be_mounted_below_a_path(engine: FakeEngine) -> None:
    """Its own /health needs no key there; everything else does."""

    async def scenario() -> list[int]:
        queue = AdmissionQueue(lambda: engine)
        await queue.load()
        transport = httpx.ASGITransport(create_app(queue, api_keys=["key"]), root_path="/music")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.get(f"/music{path}") for path in ("/health", "/metrics")]
        queue.shut_down()
        return [answer.status_code for answer in answers]

    assert asyncio.run(scenario()) == [200, 401]


def test_the_app_does_not_import_a_server() -> None:
    """Only `musicgen serve` needs uvicorn."""
    program = "import sys, musicgen_cli.service.app; sys.exit('uvicorn' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
