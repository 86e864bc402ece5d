"""Which requests run, wait or are refused, and when a refused client may come back."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.callers import Caller
from musicgen_cli.service.job import Job
from musicgen_cli.service.refusal import RefusedError
from tests.support.fake_engine import FakeEngine
from tests.support.services import FakeService, Logged, ServiceClient, StartService
from tests.support.waiting import wait_until

SHORT = {"duration": 0.5}
StartHeld = Callable[..., tuple[FakeService, Future[httpx.Response]]]
Busy = tuple[FakeService, list[Future[httpx.Response]]]  # a service and the answers that its engine holds back


@pytest.fixture
def start_held(start: StartService, engine: FakeEngine) -> StartHeld:
    """Start a service whose engine works on one request and is held there; return both."""

    def start_service(**options: Any) -> tuple[FakeService, Future[httpx.Response]]:
        service = start(engine, **options)
        engine.hold()
        first = service.later({"client_job_id": "first"})
        wait_until(lambda: engine.requests)
        return service, first

    return start_service


def statuses(*responses: Future[httpx.Response]) -> set[int]:
    return {response.result().status_code for response in responses}


def state_of(service: ServiceClient, client_job_id: str) -> object:
    return service.get(f"/progress/{client_job_id}").json()["state"]


def test_requests_are_served_in_the_order_of_arrival(start_held: StartHeld, engine: FakeEngine) -> None:
    """First come, first served, one at a time."""
    service, _ = start_held()
    later = []
    for number in range(1, 6):
        later.append(service.later({"seed": number}))
        wait_until(lambda number=number: service.counts()["waiting"] == number)  # type: ignore[misc]
    assert len(engine.requests) == 1

    engine.release()

    assert statuses(*later) == {200}
    assert [request.seed for request in engine.requests[1:]] == [1, 2, 3, 4, 5]
    assert service.counts() == {"waiting": 0, "running": 0, "limit": 16}


@pytest.mark.parametrize("limit", [0, 2])
def test_a_full_queue_is_429(start_held: StartHeld, engine: FakeEngine, limit: int) -> None:
    """One request runs and `limit` wait; the next is refused until there is room again."""
    service, first = start_held(limit=limit)
    waiting = [service.later() for _ in range(limit)]
    wait_until(lambda: service.counts() == {"waiting": limit, "running": 1, "limit": limit})

    response = service.post()

    assert response.status_code == 429
    assert response.json() == {"detail": f"the queue is full: {limit} requests wait"}
    engine.release()
    assert statuses(first, *waiting) == {200}
    assert service.post().status_code == 200


def test_retry_after_is_the_remaining_time_of_the_running_request(start: StartService, engine: FakeEngine) -> None:
    """With one of eight steps done it is seven times the time so far, in whole seconds."""
    service = start(engine, limit=0)
    engine.hold()
    sent = time.monotonic()
    first = service.later()
    wait_until(lambda: engine.requests)
    running = time.monotonic()
    time.sleep(0.3)

    at_least = 7 * (time.monotonic() - running)
    response = service.post()
    at_most = 7 * (time.monotonic() - sent)

    assert response.status_code == 429
    assert math.ceil(at_least) <= int(response.headers["retry-after"]) <= math.ceil(at_most)
    engine.release()
    assert first.result().status_code == 200


def test_a_client_that_disconnects_while_it_waits_frees_its_place(start_held: StartHeld, engine: FakeEngine) -> None:
    """Its request is not generated, and another one may wait instead."""
    service, _ = start_held(limit=1)
    with service.send_request(b'{"duration": 0.5, "client_job_id": "gone"}'):
        wait_until(lambda: service.counts()["waiting"])
        assert service.post().status_code == 429

    wait_until(lambda: not service.counts()["waiting"])
    second = service.later({"client_job_id": "second"})
    wait_until(lambda: service.counts()["waiting"])

    assert state_of(service, "gone") == "failed"
    engine.release()
    assert second.result().status_code == 200
    assert [request.client_job_id for request in engine.requests] == ["first", "second"]


def test_a_client_that_disconnects_while_it_is_served_cancels_its_job(
    start: StartService, engine: FakeEngine, caplog: pytest.LogCaptureFixture, logged: Logged
) -> None:
    """The engine stops at its next step and serves the next client; the log has no error."""
    service = start(engine)
    engine.hold()
    with service.send_request(b'{"duration": 0.5, "client_job_id": "gone"}'):
        wait_until(lambda: engine.requests)

    wait_until(lambda: engine.cancelled_by)
    wait_until(lambda: not service.counts()["running"])
    engine.release()

    assert state_of(service, "gone") == "failed"
    assert service.post().status_code == 200
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert logged(" status=499 ", " job=gone ", " steps=1 ")


def test_a_request_that_would_miss_its_deadline_is_refused_at_once(start: StartService, engine: FakeEngine) -> None:
    """The estimate uses the pace of the previous request; Retry-After is by how much the deadline is too early."""
    service = start(engine)
    engine.step_s = 0.0125
    started = time.monotonic()
    service.post({"duration": 0.5})
    slowest = (time.monotonic() - started) / 0.5  # a pace of 0.2 at least

    response = service.post({"duration": 30}, headers={"X-Deadline-S": "1"})

    assert response.status_code == 503
    assert response.json()["detail"].endswith("the deadline is 1 s")
    assert 30 * 0.2 - 1 <= int(response.headers["retry-after"]) <= math.ceil(30 * slowest - 1)
    assert len(engine.requests) == 1
    assert service.post({"duration": 30}, headers={"X-Deadline-S": "600"}).status_code == 200


def test_a_deadline_check_counts_the_requests_ahead(start: StartService, engine: FakeEngine) -> None:
    """The estimate includes everything that is served before."""
    service = start(engine)
    engine.step_s = 0.0125
    service.post({"duration": 0.5})
    engine.hold()
    first = service.later({"duration": 0.5})
    wait_until(lambda: len(engine.requests) == 2)
    second = service.later({"duration": 30})
    wait_until(lambda: service.counts()["waiting"])

    response = service.post({"duration": 0.5}, headers={"X-Deadline-S": "5"})

    assert response.status_code == 503
    engine.release()
    assert statuses(first, second) == {200}
    assert service.post({"duration": 0.5}, headers={"X-Deadline-S": "5"}).status_code == 200


def test_one_slow_request_does_not_shut_out_the_others(start: StartService, engine: FakeEngine) -> None:
    """If every client has a deadline that is too early, an idle service still lets one through after some refusals."""
    service = start(engine)
    engine.step_s = 0.05
    service.post({"duration": 0.5})
    engine.step_s = 0

    answers = [service.post({"duration": 0.5}, headers={"X-Deadline-S": "0.1"}).status_code for _ in range(30)]

    assert answers[0] == 503
    assert 200 in answers


def test_before_the_first_clip_no_deadline_is_too_early(service: FakeService) -> None:
    """Without a measured pace nothing is refused."""
    assert service.post(headers={"X-Deadline-S": "0.001"}).status_code == 200


@pytest.mark.parametrize("junk", ["", "soon", "0", "-1", "nan", "inf", "1 s"])
def test_a_malformed_deadline_is_422(shared: ServiceClient, junk: str) -> None:
    """The header must be a number of seconds above 0."""
    response = shared.post(headers={"X-Deadline-S": junk})

    assert response.status_code == 422
    assert "X-Deadline-S" in response.json()["detail"]


@pytest.fixture
def wide(start: StartService, engine: FakeEngine) -> Busy:
    """Start a service with two slots that both work on a request and are held there; return it and the answers."""
    engine.slots = 2
    service = start(engine, limit=2)
    engine.hold()
    running = [service.later({"client_job_id": name}) for name in ("first", "second")]
    wait_until(lambda: service.counts()["running"] == 2)
    return service, running


def test_as_many_requests_run_as_the_engine_has_slots(wide: Busy, engine: FakeEngine) -> None:
    """Further ones wait, then are refused; the progress of each running one is reported."""
    service, running = wide
    waiting = [service.later({"seed": number}) for number in (1, 2)]
    wait_until(lambda: service.counts() == {"waiting": 2, "running": 2, "limit": 2})

    assert service.post().status_code == 429
    assert [state_of(service, name) for name in ("first", "second")] == ["running"] * 2
    engine.release()
    assert statuses(*running, *waiting) == {200}
    assert service.counts() == {"waiting": 0, "running": 0, "limit": 2}


def test_a_client_that_disconnects_frees_only_its_own_slot(wide: Busy, engine: FakeEngine) -> None:
    """The other running request goes on."""
    service, running = wide
    waiting = service.later({"client_job_id": "third"})
    wait_until(lambda: service.counts()["waiting"])
    engine.release()

    assert statuses(*running, waiting) == {200}
    engine.hold()
    staying = service.later({"client_job_id": "stays"})
    wait_until(lambda: len(engine.requests) == 4)
    with service.send_request(b'{"duration": 0.5, "client_job_id": "goes"}'):
        wait_until(lambda: service.counts()["running"] == 2)
    wait_until(lambda: service.counts()["running"] == 1)

    assert state_of(service, "stays") == "running"
    assert state_of(service, "goes") == "failed"
    engine.release()
    assert staying.result().status_code == 200


def test_with_a_free_slot_a_deadline_must_only_cover_the_clip_itself(start: StartService, engine: FakeEngine) -> None:
    """A long clip in another slot is not waited for."""
    engine.slots = 2
    service = start(engine)
    engine.step_s = 0.0125
    service.post({"duration": 0.5})
    engine.hold()
    first = service.later({"duration": 30})
    wait_until(lambda: len(engine.requests) == 2)
    time.sleep(0.5)  # one of eight steps is done, so it will take seven times that

    second = service.later({"duration": 0.5}, headers={"X-Deadline-S": "3"})
    wait_until(lambda: service.counts()["running"] == 2)

    assert service.post({"duration": 0.5}, headers={"X-Deadline-S": "0.1"}).status_code == 503
    engine.release()
    assert statuses(first, second) == {200}


@pytest.fixture
def crowded(start: StartService, engine: FakeEngine) -> Busy:
    """Start a service with four slots and two places to wait, of which one client has three and two."""
    engine.slots = 4
    service = start(engine, limit=2)
    engine.hold()
    greedy = []
    for number in range(5):
        greedy.append(service.later({"client_job_id": f"greedy-{number}"}))
        progress = f"/progress/greedy-{number}"
        wait_until(lambda progress=progress: service.get(progress).status_code == 200)  # type: ignore[misc]
    return service, greedy


@pytest.fixture
def other(crowded: Busy) -> Iterator[httpx.Client]:
    """Return another client of that service."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=crowded[0].url, transport=transport, timeout=60) as client:
        yield client


def test_one_slot_is_kept_free_for_other_clients(crowded: Busy, other: httpx.Client) -> None:
    """One client can use three slots of four; another one that comes need not wait."""
    service, greedy = crowded
    assert service.counts() == {"waiting": 2, "running": 3, "limit": 2}

    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(other.post, "/predict", json=SHORT)
        wait_until(lambda: service.counts() == {"waiting": 2, "running": 4, "limit": 2})
        service.engine.release()

        assert response.result().status_code == 200
    assert statuses(*greedy) == {200}


def test_the_client_with_most_requests_makes_room(crowded: Busy, other: httpx.Client) -> None:
    """A full queue has room for a client with fewer requests; the latest of the other client is refused instead."""
    service, greedy = crowded
    with ThreadPoolExecutor(2) as pool:
        responses = [pool.submit(other.post, "/predict", json=SHORT) for _ in range(2)]

        refused = greedy[-1].result()

        assert refused.status_code == 429
        assert refused.json() == {"detail": "the queue is full: 2 requests wait"}
        assert "retry-after" in refused.headers
        assert state_of(service, "greedy-4") == "failed"
        assert other.post("/predict", json=SHORT).status_code == 429
        service.engine.release()
        assert statuses(*responses, *greedy[:-1]) == {200}


def test_a_request_whose_deadline_passed_while_it_waited_is_refused_at_its_turn(
    start_held: StartHeld, engine: FakeEngine
) -> None:
    """No clip is generated that would come too late."""
    service, first = start_held()
    engine.step_s = 0.05
    engine.release()
    first.result()
    service.post()  # a pace of at least 0.8 s per second of sound
    engine.hold()
    running = service.later({"client_job_id": "running"})
    wait_until(lambda: len(engine.requests) == 3)
    late = service.later({"client_job_id": "late", "duration": 1}, headers={"X-Deadline-S": "600"})
    wait_until(lambda: service.counts()["waiting"])
    job = service.queue.find("late", Caller("127.0.0.1"))
    assert job is not None

    job.arrived -= 599.5
    engine.release()

    assert running.result().status_code == 200
    assert late.result().status_code == 503
    assert late.result().json()["detail"].startswith("the answer would take about ")
    assert len(engine.requests) == 3


def test_clients_that_come_and_go_at_any_moment_leave_a_working_queue(engine: FakeEngine) -> None:
    """Two thousand requests from five addresses: nothing fails, no slot and no place is lost, the steps add up."""
    engine.slots = 3
    chance = random.Random(1)

    async def send(queue: AdmissionQueue, number: int) -> int | None:
        loop = asyncio.get_running_loop()
        disconnected = loop.create_future()
        if chance.random() < 0.7:
            loop.call_later(chance.random() / 100, disconnected.set_result, None)
        job = Job(GenerateRequest(duration=0.5, seed=number), caller=Caller(str(chance.randrange(5))))
        try:
            await queue.run(job, disconnected, chance.choice([None, 0.001, 60]))
        except RefusedError as err:
            return err.status
        return None

    async def scenario() -> tuple[list[dict[str, Any]], set[int | None], dict[str, int], int]:
        failures: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        queue = AdmissionQueue(lambda: engine, limit=8)
        await queue.load()
        requests = []
        for number in range(2000):
            requests.append(asyncio.create_task(send(queue, number)))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        results = set(await asyncio.gather(*requests))
        async with asyncio.timeout(20):
            while queue.counts()["running"]:
                await asyncio.sleep(0.001)
        counts, steps = queue.counts(), queue.steps
        assert await queue.run(Job(GenerateRequest(duration=0.5, seed=1)), loop.create_future())
        queue.shut_down()
        return failures, results, counts, steps

    failures, results, counts, steps = asyncio.run(scenario())

    assert failures == []
    assert results <= {None, 429, 503}
    assert {None, 429} <= results
    assert counts == {"waiting": 0, "running": 0, "limit": 8}
    assert steps > 0
