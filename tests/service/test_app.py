"""What the paths answer, row by row of the contract."""

import asyncio
import logging
import subprocess
import sys
import threading

import httpx
import pytest

from musicgen_cli import __version__
from musicgen_cli.audio import wav
from musicgen_cli.contract import GenerateRequest, read_answer
from musicgen_cli.errors import InvalidValueError, MemoryNeededError
from musicgen_cli.service.admission import MAX_FINISHED_JOBS, AdmissionQueue
from musicgen_cli.service.app import create_app
from musicgen_cli.service.job import Job


def test_an_answer_has_the_members_of_the_contract(shared, decode):
    """A 200 holds what the contract names, and the engine's extra members that don't contradict it."""
    sent = {"prompt": "a lute", "duration": 0.75, "seed": 7, "client_job_id": "one:1"}

    answer = shared.post(sent)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    said.pop("audio_base64")
    assert said == {
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
        },
    }
    assert decode(answer) == shared.engine.sound(GenerateRequest(**sent))


def test_our_own_client_accepts_the_answer(shared):
    """The answer passes the check that the client makes of it."""
    request = GenerateRequest(prompt="ä\t\n𝄞", duration=0.5, seed=3, client_job_id="x")

    answer = shared.post(request.model_dump())

    assert read_answer(answer.content, request).seed == 3


def test_warnings_of_the_engine_are_passed_on(start, engine):
    """What the engine warns of is in the metadata."""
    engine.warnings = ("it is quiet",)

    assert start(engine).post().json()["metadata"]["warnings"] == ["it is quiet"]


def test_a_seed_is_drawn_where_none_was_sent(shared, decode):
    """Two requests without a seed get different ones, and sending one back brings the sound back."""
    first, second = (shared.post({"seed": None}) for _ in range(2))

    seeds = [answer.json()["metadata"]["seed"] for answer in (first, second)]
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert decode(shared.post({"seed": seeds[0]})) == decode(first)


@pytest.mark.parametrize(
    ("name", "asked", "given"),
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
def test_a_number_out_of_range_is_clamped_and_said(shared, name, asked, given):
    """The nearest bound is worked with; the metadata hold what was asked."""
    answer = shared.post({"client_job_id": f"{name}:{given}", name: asked})

    assert answer.status_code == 200
    assert answer.json()["metadata"]["clamped"] == {name: asked}
    assert getattr(shared.engine.requests[-1], name) == given


def test_max_duration_clamps_too(start):
    """A service may keep its sounds shorter; what was asked is said, also where it was out of the usual range."""
    service = start(max_duration=1.0)

    for asked in (1.5, 99):
        answer = service.post({"duration": asked}).json()
        assert answer["metadata"]["clamped"] == {"duration": asked}
        assert (answer["metadata"]["requested_duration"], answer["duration"]) == (1.0, 1.0)
    assert "clamped" not in service.post({"duration": 1.0}).json()["metadata"]


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
def test_what_is_not_a_request_is_422_and_names_the_field(shared, body, named):
    """A bad body is the caller's fault, never ours; `detail` is one sentence."""
    made = len(shared.engine.requests)

    answer = shared.post(body)

    assert answer.status_code == 422
    assert list(answer.json()) == ["detail"]
    assert named in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert len(shared.engine.requests) == made


@pytest.mark.parametrize("body", [b"{}", b'{"prompt": ""}', b'{"prompt": null}'])
def test_no_prompt_means_unconditional(shared, body):
    """Absent, empty and null prompts all reach the engine as no text, and are echoed so."""
    answer = shared.post(body)

    assert answer.status_code == 200
    assert answer.json()["prompt"] == ""
    assert shared.engine.requests[-1].prompt == ""


def test_unknown_fields_are_ignored(shared):
    """A newer client may send more."""
    assert shared.post({"melody": "x"}).status_code == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_web_page_could_send_unasked_is_415(shared, kind):
    """Only application/json is read: a browser must ask before it sends that to another origin."""
    headers = {} if kind is None else {"Content-Type": kind}

    answer = shared.client.post("/predict", content=b"{}", headers=headers)

    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_a_browser_that_asks_is_not_allowed(shared):
    """A preflight gets no leave to send."""
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    answer = shared.client.options("/predict", headers=headers)

    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_charset_is_allowed(shared):
    """Parameters and case of the content type don't matter."""
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
def test_other_paths_and_methods_are_refused_in_json(shared, method, path, status):
    """There are three paths, and no pages."""
    answer = shared.client.request(method, path)

    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]


def test_health_says_what_runs(service):
    """Health is one JSON object that names the service, its model, its queue and its rate, once it has one."""
    answer = service.get("/health")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "service": "musicgen",
        "version": __version__,
        "model": "fake",
        "engine": "sine",
        "queue": {"waiting": 0, "running": 0, "limit": 16},
        "rate": None,
    }
    service.post()
    assert service.get("/health").json()["rate"] > 0


def test_while_the_model_is_loaded_the_answer_is_503(start, engine):
    """The port is open before the model is there; then both paths work."""
    load = threading.Event()

    def slowly():
        assert load.wait(10)
        return engine

    service = start(engine, make_engine=slowly)
    try:
        for answer in (service.get("/health"), service.post()):
            assert answer.status_code == 503
            assert answer.json() == {"detail": "the model is being loaded"}
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert service.told == []
    finally:
        load.set()

    assert service.ready.wait(10)
    assert service.told == [service.url]
    assert service.get("/health").status_code == 200
    assert service.post().status_code == 200


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("secret path /srv/x"), MemoryNeededError("secret"), InvalidValueError("secret")],
    ids=lambda failure: type(failure).__name__,
)
def test_a_model_failure_is_500_without_internals(start, engine, caplog, failure):
    """The caller gets an id, the log the traceback under the same id; the next request is served."""
    service = start(engine)
    engine.failure = failure

    answer = service.post({"client_job_id": "bad"})

    assert answer.status_code == 500
    assert answer.json() == {"detail": f"internal error, request {answer.headers['x-request-id']}"}
    logged = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert answer.headers["x-request-id"] == logged.fields["request"]
    assert logged.exc_info[1] is failure
    assert service.get("/progress/bad").json()["state"] == "failed"
    engine.failure = None
    assert service.post().status_code == 200


def test_progress_follows_a_request(start, engine, until):
    """A job waits, runs and is done, with its steps counted."""
    service = start(engine)
    engine.go.clear()
    first = service.later({"client_job_id": "first"})
    until(lambda: engine.requests)
    second = service.later({"client_job_id": "second"})
    until(lambda: service.counts()["waiting"])

    assert service.get("/progress/first").json() == {"steps": 1, "total": 8, "state": "running"}
    assert service.get("/progress/second").json() == {"steps": 0, "total": 0, "state": "waiting"}

    engine.go.set()
    assert {first.result().status_code, second.result().status_code} == {200}
    for name in ("first", "second"):
        assert service.get(f"/progress/{name}").json() == {"steps": 8, "total": 8, "state": "done"}
    assert service.get("/progress/third").status_code == 404


def test_a_bounded_number_of_finished_jobs_is_remembered(engine):
    """The oldest finished job is forgotten; a name used again counts as new."""

    async def scenario():
        queue = AdmissionQueue(lambda: engine)
        await queue.load()
        gone = asyncio.get_running_loop().create_future()
        for number in [0, *range(MAX_FINISHED_JOBS), 0, MAX_FINISHED_JOBS]:
            request = GenerateRequest(duration=0.5, seed=number, client_job_id=str(number))
            await queue.run(Job(request), gone)
        queue.shut_down()
        return queue

    queue = asyncio.run(scenario())

    assert queue.find("1") is None
    assert {queue.find(str(number)).state for number in (0, 2, MAX_FINISHED_JOBS)} == {"done"}


def test_twenty_at_once_each_get_their_own_sound(start, decode):
    """Answers aren't mixed up."""
    service = start(limit=20)
    sent = [{"seed": n, "prompt": f"number {n}", "client_job_id": f"job-{n}", "duration": 0.5} for n in range(20)]

    answers = [waiting.result() for waiting in [service.later(body) for body in sent]]

    for body, answer in zip(sent, answers, strict=True):
        said = answer.json()
        assert (said["prompt"], said["metadata"]["client_job_id"]) == (body["prompt"], body["client_job_id"])
        assert decode(answer) == service.engine.sound(GenerateRequest(**body))
    assert len({decode(answer) for answer in answers}) == 20
    assert wav.inspect(decode(answers[0])).frames == 16_000


def test_the_app_runs_without_a_port(engine):
    """Any ASGI server can have it; whoever deploys it loads the queue."""

    async def scenario():
        queue = AdmissionQueue(lambda: engine)
        app = create_app(queue)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answers = [await client.get("/health")]
            await queue.load()
            answers += [await client.get("/health"), await client.post("/predict", json={"duration": 0.5})]
        queue.shut_down()
        return [answer.status_code for answer in answers]

    assert asyncio.run(scenario()) == [503, 200, 200]


def test_the_app_may_be_mounted_below_a_path(engine):
    """What needs no key there is /health, not what is called so."""

    async def scenario():
        queue = AdmissionQueue(lambda: engine)
        await queue.load()
        transport = httpx.ASGITransport(create_app(queue, api_key="key"), root_path="/music")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.get(f"/music{path}") for path in ("/health", "/metrics")]
        queue.shut_down()
        return [answer.status_code for answer in answers]

    assert asyncio.run(scenario()) == [200, 401]


def test_the_app_does_not_import_a_server():
    """The server belongs to `musicgen serve` alone."""
    program = "import sys, musicgen_cli.service.app; sys.exit('uvicorn' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
