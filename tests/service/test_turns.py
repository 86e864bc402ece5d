"""Long clips take turns with others, window by window."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Clip, Inputs, ProgressListener, Recipe
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.callers import Caller
from musicgen_cli.service.job import Job, JobCancelledError
from tests.support.fake_engine import STEPS, FakeEngine, windows_of
from tests.support.service_process import ServiceProcess
from tests.support.services import FakeService, StartService
from tests.support.waiting import wait_until

LONG = {"duration": 60.0, "client_job_id": "long"}  # three windows


class LoggingEngine(FakeEngine):
    """Records which windows are made, in their order; a test lets each of them be made."""

    def __init__(self, *, slots: int = 1) -> None:
        super().__init__(slots=slots)
        self.windows: list[str] = []
        self.allowed = threading.Semaphore(0)

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        return super().generate(request, _Logged(self, request, listener), inputs)


class _Logged:
    """Passes everything on, and waits before each window."""

    def __init__(self, engine: LoggingEngine, request: GenerateRequest, listener: ProgressListener) -> None:
        self._engine, self._name, self._listener = engine, str(request.client_job_id), listener

    def step(self, done: int, total: int) -> None:
        if done % STEPS == 1:
            self._engine.windows.append(self._name)
            while not self._engine.allowed.acquire(timeout=0.01):
                self._listener.step(max(1, done - 1), total)
        self._listener.step(done, total)

    def note(self, text: str) -> None:
        self._listener.note(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        self._listener.sound(pcm, sample_rate, channels)

    def pause(self) -> None:
        self._listener.pause()


@pytest.fixture
def logging_engine() -> Iterator[LoggingEngine]:
    engine = LoggingEngine()
    yield engine
    engine.allowed.release(1000)


@pytest.fixture
def service(start: StartService, logging_engine: LoggingEngine) -> FakeService:
    return start(logging_engine, max_duration=600.0)


def send_all(service: FakeService, engine: LoggingEngine, *bodies: dict[str, Any]) -> list[Any]:
    """Send requests, each when the one before it runs or waits."""
    answers = []
    for number, body in enumerate(bodies):
        answers.append(service.later(body))
        wait_until(partial(_has, service, number + 1))
    wait_until(lambda: engine.windows)
    return answers


def _has(service: FakeService, jobs: int) -> bool:
    counts = service.counts()
    return counts["waiting"] + counts["running"] == jobs


def test_others_go_between_two_windows(service: FakeService, logging_engine: LoggingEngine) -> None:
    """A short clip that came later waits for a window, not for the long clip."""
    short = [{"client_job_id": name} for name in ("a", "b")]
    answers = send_all(service, logging_engine, LONG, *short)
    logging_engine.allowed.release(100)

    assert [answer.result().status_code for answer in answers] == [200] * 3
    assert logging_engine.windows == ["long", "a", "b", "long", "long"]
    assert answers[0].result().json()["duration"] == 60.0


def test_a_clip_between_two_windows_waits(service: FakeService, logging_engine: LoggingEngine) -> None:
    """It counts as one that waits, and its progress can be asked for."""
    answers = send_all(service, logging_engine, LONG, {"client_job_id": "a"})
    logging_engine.allowed.release()
    wait_until(lambda: logging_engine.windows == ["long", "a"])

    assert service.counts() == {"waiting": 1, "running": 1, "limit": 16}
    assert service.get("/progress/long").json() == {"steps": STEPS, "total": 3 * STEPS, "state": "waiting"}
    logging_engine.allowed.release(100)
    assert {answer.result().status_code for answer in answers} == {200}


def test_a_client_begins_no_more_long_clips_than_it_has_slots(
    service: FakeService, logging_engine: LoggingEngine
) -> None:
    """The second one waits for the end of the first, while short ones go between its windows."""
    second = {**LONG, "client_job_id": "second"}
    answers = send_all(service, logging_engine, LONG, second, {"client_job_id": "a"})
    logging_engine.allowed.release(100)

    assert {answer.result().status_code for answer in answers} == {200}
    assert logging_engine.windows == ["long", "a", "long", "long", "second", "second", "second"]


def test_long_clips_of_different_clients_alternate(service: FakeService, logging_engine: LoggingEngine) -> None:
    """Each window is a turn of its client."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=service.url, transport=transport, timeout=60) as other, ThreadPoolExecutor(1) as pool:
        (first,) = send_all(service, logging_engine, LONG)
        second = pool.submit(other.post, "/predict", json={**LONG, "client_job_id": "other"})
        wait_until(lambda: service.counts()["waiting"])
        logging_engine.allowed.release(100)
        assert {first.result().status_code, second.result().status_code} == {200}

    assert logging_engine.windows == ["long", "other"] * 3


@pytest.mark.parametrize("how", ["disconnect", "stop"])
def test_a_clip_can_be_cancelled_between_two_windows(
    start: StartService, logging_engine: LoggingEngine, how: str
) -> None:
    """Its thread ends, and others are served. A stop lets it go on first, for as long as it has time."""
    service = start(logging_engine, max_duration=600.0, stop_s=0.3)
    with service.send_request(b'{"duration": 60, "client_job_id": "long"}') as connection:
        wait_until(lambda: logging_engine.windows == ["long"])
        short = service.later({"client_job_id": "a"})
        wait_until(lambda: service.counts()["waiting"])
        logging_engine.allowed.release()
        wait_until(lambda: logging_engine.windows == ["long", "a"])
        if how == "stop":
            service.stop()
            assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
            assert short.result().status_code == 503
    wait_until(lambda: any(isinstance(err, JobCancelledError) for err in logging_engine.cancelled_by))
    if how == "disconnect":
        logging_engine.allowed.release(100)
        assert short.result().status_code == 200
        assert logging_engine.windows == ["long", "a"]
        assert service.post().status_code == 200


def test_estimates_count_turns() -> None:
    """A short request waits for the turn of a long clip; the clip itself needs as long as all its windows."""
    long = Job(GenerateRequest(duration=300.0))
    assert long.is_long
    assert (long.remaining_s(0.1), long.turn_left_s(0.1)) == (30.0, 3.0)
    long.begin_turn()
    long.started = long._turn_started = long.arrived - 2.0
    long.step(1, 1000)
    long.step(200, 1000)
    remaining, turn = long.remaining_s(None), long.turn_left_s(None)
    assert remaining == pytest.approx(8.0, rel=0.1)
    assert turn == pytest.approx(0.0, abs=1.1)
    assert long.end_turn() == pytest.approx(60.0)
    assert long.remaining_s(None) == pytest.approx(8.0, rel=0.1)
    assert long.turn_left_s(None) == pytest.approx(1.0, rel=0.1)
    long.begin_turn()
    long.step(1000, 1000)
    assert long.end_turn() == pytest.approx(240.0)


def test_work_counts_what_is_made_again() -> None:
    """A source that is made from its recipe takes time as the clip does; what a try before has made takes none."""
    request = GenerateRequest(duration=20.0, seed=1)
    first = Recipe(request, NO_INPUTS, "a")
    job = Job(request, inputs=Inputs(continue_sha256="a", recipe=Recipe(request, Inputs(recipe=first), "a")))
    assert (job.work_s, job.is_long, job.source) == (60.0, True, "recipe")

    resumed = Job(GenerateRequest(duration=60.0))
    resumed.begin_turn()
    resumed.step(501, 1000)
    resumed.step(1000, 1000)
    assert resumed.end_turn() == pytest.approx(30.0)


def test_turns_of_many_clients_leave_a_working_queue() -> None:
    """Hundreds of clips of one to four windows, some cancelled at any moment: all are made, none is lost."""
    engine = FakeEngine(slots=3)

    async def send(queue: AdmissionQueue, number: int) -> Clip | None:
        disconnected = asyncio.get_running_loop().create_future()
        if number % 5 == 4:
            asyncio.get_running_loop().call_later(number % 7 / 200, disconnected.set_result, None)
        request = GenerateRequest(duration=(0.5, 45.0, 75.0)[number % 3], seed=number)
        return await queue.run(Job(request, Caller(str(number % 4))), disconnected)

    async def scenario() -> list[Clip | None]:
        queue = AdmissionQueue(lambda: engine, limit=300)
        await queue.load()
        clips = await asyncio.gather(*(send(queue, number) for number in range(300)))
        async with asyncio.timeout(20):
            while any(queue.counts()[name] for name in ("running", "waiting")):
                await asyncio.sleep(0.001)
        assert queue.throughput._running == 0
        queue.shut_down()
        return clips

    clips = asyncio.run(scenario())

    for number, clip in enumerate(clips):
        if clip is None:
            assert number % 5 == 4
        else:
            request = GenerateRequest(duration=(0.5, 45.0, 75.0)[number % 3], seed=number)
            assert clip.wav == engine.sound(request)
            assert clip.extra.get("windows", 1) == windows_of(request)


def test_a_short_clip_waits_for_a_window_of_a_long_one_only(tmp_path: Path) -> None:
    """With the bundled model and one slot; the long clip has the bytes that it has alone."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    long = {"duration": 150, "seed": 1, "client_job_id": "long"}
    service = ServiceProcess(tmp_path / "log", "--max-duration", "600", "--slots", "1")
    try:
        alone = service.client.post("/predict", json=long, timeout=240).json()["audio_base64"]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(service.client.post, "/predict", json=long, timeout=240)
            wait_until(lambda: service.count("running"))
            for _ in range(2):
                service.generate()
                assert not answer.done()
            assert answer.result().json()["audio_base64"] == alone
    finally:
        log = service.stop()
    lines = [line for line in log.splitlines() if "path=/predict" in line]
    assert ["job=long" in line for line in lines] == [True, False, False, True]
