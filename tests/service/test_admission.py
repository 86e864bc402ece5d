"""Who waits, who is told to come back, and when."""

import asyncio
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.service.admission import AdmissionQueue, RefusedError
from musicgen_cli.service.job import Job


@pytest.fixture
def held(start, engine, until):
    """Start a service whose engine is at work on one request and held there."""

    def held(**options):
        service = start(engine, **options)
        engine.go.clear()
        service.first = service.later({"client_job_id": "first"})
        until(lambda: engine.requests)
        return service

    return held


def test_requests_are_served_in_the_order_they_came(held, engine, until):
    """First come, first served, one at a time."""
    service = held()
    later = []
    for number in range(1, 6):
        later.append(service.later({"seed": number}))
        until(lambda number=number: service.counts()["waiting"] == number)
    assert len(engine.requests) == 1

    engine.go.set()

    assert {answer.result().status_code for answer in later} == {200}
    assert [request.seed for request in engine.requests[1:]] == [1, 2, 3, 4, 5]
    assert service.counts() == {"waiting": 0, "running": 0, "limit": 16}


@pytest.mark.parametrize("limit", [0, 2])
def test_a_full_queue_is_429(held, engine, until, limit):
    """One runs and `limit` wait; the next is refused until there is room again."""
    service = held(limit=limit)
    waiting = [service.later() for _ in range(limit)]
    until(lambda: service.counts() == {"waiting": limit, "running": 1, "limit": limit})

    answer = service.post()

    assert answer.status_code == 429
    assert answer.json() == {"detail": f"the queue is full: {limit} requests wait"}
    engine.go.set()
    assert {each.result().status_code for each in (service.first, *waiting)} == {200}
    assert service.post().status_code == 200


def test_retry_after_is_what_the_running_request_still_needs(start, engine, until):
    """With one of eight steps made, seven times the time so far, in whole seconds."""
    service = start(engine, limit=0)
    engine.go.clear()
    asked = time.monotonic()
    first = service.later()
    until(lambda: engine.requests)
    running = time.monotonic()
    time.sleep(0.3)

    at_least = 7 * (time.monotonic() - running)
    answer = service.post()
    at_most = 7 * (time.monotonic() - asked)

    assert answer.status_code == 429
    assert math.ceil(at_least) <= int(answer.headers["retry-after"]) <= math.ceil(at_most)
    engine.go.set()
    assert first.result().status_code == 200


def test_a_client_that_leaves_the_queue_gives_up_its_place(held, engine, until):
    """Nothing is made for a waiting client that has gone, and another may wait instead."""
    service = held(limit=1)
    with service.ask(b'{"duration": 0.5, "client_job_id": "gone"}'):
        until(lambda: service.counts()["waiting"])
        assert service.post().status_code == 429

    until(lambda: not service.counts()["waiting"])
    second = service.later({"client_job_id": "second"})
    until(lambda: service.counts()["waiting"])

    assert service.get("/progress/gone").json()["state"] == "failed"
    engine.go.set()
    assert second.result().status_code == 200
    assert [request.client_job_id for request in engine.requests] == ["first", "second"]


def test_a_client_that_leaves_while_it_is_served_stops_the_engine(start, engine, until, caplog, logged):
    """The engine is stopped at its next step; the next client's turn comes; nobody calls it an error."""
    service = start(engine)
    engine.go.clear()
    with service.ask(b'{"duration": 0.5, "client_job_id": "gone"}'):
        until(lambda: engine.requests)

    until(lambda: engine.stops)
    until(lambda: not service.counts()["running"])
    engine.go.set()

    assert service.get("/progress/gone").json()["state"] == "failed"
    assert service.post().status_code == 200
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert logged(" status=499 ", " job=gone ", " steps=1 ")


def test_an_answer_that_would_come_too_late_is_refused_at_once(start, engine):
    """By the pace of the request before; Retry-After says how much too late."""
    service = start(engine)
    engine.step_s = 0.0125
    began = time.monotonic()
    service.post({"duration": 0.5})
    slowest = (time.monotonic() - began) / 0.5  # a pace of 0.2 at least

    answer = service.post({"duration": 30}, headers={"X-Deadline-S": "1"})

    assert answer.status_code == 503
    assert answer.json()["detail"].endswith("the deadline is 1 s")
    assert 30 * 0.2 - 1 <= int(answer.headers["retry-after"]) <= math.ceil(30 * slowest - 1)
    assert len(engine.requests) == 1
    assert service.post({"duration": 30}, headers={"X-Deadline-S": "600"}).status_code == 200


def test_a_deadline_counts_those_who_wait_before(start, engine, until):
    """What is ahead in the queue is part of the time an answer takes."""
    service = start(engine)
    engine.step_s = 0.0125
    service.post({"duration": 0.5})
    engine.go.clear()
    first = service.later({"duration": 0.5})
    until(lambda: len(engine.requests) == 2)
    second = service.later({"duration": 30})
    until(lambda: service.counts()["waiting"])

    answer = service.post({"duration": 0.5}, headers={"X-Deadline-S": "5"})

    assert answer.status_code == 503
    engine.go.set()
    assert {first.result().status_code, second.result().status_code} == {200}
    assert service.post({"duration": 0.5}, headers={"X-Deadline-S": "5"}).status_code == 200


def test_one_slow_request_does_not_shut_out_the_rest(start, engine):
    """Where every client has a deadline, an idle service tries again before long."""
    service = start(engine)
    engine.step_s = 0.05
    service.post({"duration": 0.5})
    engine.step_s = 0

    answers = [service.post({"duration": 0.5}, headers={"X-Deadline-S": "0.1"}).status_code for _ in range(30)]

    assert answers[0] == 503
    assert 200 in answers


def test_before_anything_was_measured_no_deadline_is_too_short(service):
    """Nobody is refused on a guess."""
    assert service.post(headers={"X-Deadline-S": "0.001"}).status_code == 200


@pytest.mark.parametrize("junk", ["", "soon", "0", "-1", "nan", "inf", "1 s"])
def test_a_deadline_that_is_none_is_422(shared, junk):
    """The header is a number of seconds above 0, or it is an error."""
    answer = shared.post(headers={"X-Deadline-S": junk})

    assert answer.status_code == 422
    assert "X-Deadline-S" in answer.json()["detail"]


@pytest.fixture
def wide(start, engine, until):
    """Start a service with two slots, both at work and held there."""
    engine.slots = 2
    service = start(engine, limit=2)
    engine.go.clear()
    service.running = [service.later({"client_job_id": name}) for name in ("first", "second")]
    until(lambda: service.counts()["running"] == 2)
    return service


def test_as_many_requests_run_as_the_engine_has_slots(wide, engine, until):
    """Further ones wait, then are refused; each running one tells how far it is."""
    waiting = [wide.later({"seed": number}) for number in (1, 2)]
    until(lambda: wide.counts() == {"waiting": 2, "running": 2, "limit": 2})

    assert wide.post().status_code == 429
    assert [wide.get(f"/progress/{name}").json()["state"] for name in ("first", "second")] == ["running"] * 2
    engine.go.set()
    assert {answer.result().status_code for answer in (*wide.running, *waiting)} == {200}
    assert wide.counts() == {"waiting": 0, "running": 0, "limit": 2}


def test_a_client_that_leaves_frees_its_slot_alone(wide, engine, until):
    """The next in the queue takes it while the other one still runs."""
    waiting = wide.later({"client_job_id": "third"})
    until(lambda: wide.counts()["waiting"])
    engine.go.set()

    assert {answer.result().status_code for answer in (*wide.running, waiting)} == {200}
    engine.go.clear()
    staying = wide.later({"client_job_id": "stays"})
    until(lambda: len(engine.requests) == 4)
    with wide.ask(b'{"duration": 0.5, "client_job_id": "goes"}'):
        until(lambda: wide.counts()["running"] == 2)
    until(lambda: wide.counts()["running"] == 1)

    assert wide.get("/progress/stays").json()["state"] == "running"
    assert wide.get("/progress/goes").json()["state"] == "failed"
    engine.go.set()
    assert staying.result().status_code == 200


def test_what_waits_is_shared_out_among_the_slots(start, engine, until):
    """With two slots, one of them free, a deadline needs to cover a clip's own time alone."""
    engine.slots = 2
    service = start(engine)
    engine.step_s = 0.0125
    service.post({"duration": 0.5})
    engine.go.clear()
    first = service.later({"duration": 30})
    until(lambda: len(engine.requests) == 2)
    time.sleep(0.5)  # of eight steps one is made: it will take seven times that

    second = service.later({"duration": 0.5}, headers={"X-Deadline-S": "3"})
    until(lambda: service.counts()["running"] == 2)

    assert service.post({"duration": 0.5}, headers={"X-Deadline-S": "0.1"}).status_code == 503
    engine.go.set()
    assert {first.result().status_code, second.result().status_code} == {200}


@pytest.fixture
def crowded(start, engine, until):
    """Start a service with four slots and two places, of which one client has three and both."""
    engine.slots = 4
    service = start(engine, limit=2)
    engine.go.clear()
    service.greedy = []
    for number in range(5):
        service.greedy.append(service.later({"client_job_id": f"greedy-{number}"}))
        until(lambda number=number: service.get(f"/progress/greedy-{number}").status_code == 200)
    return service


@pytest.fixture
def other(crowded):
    """Return another client of that service."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=crowded.url, transport=transport, timeout=60) as client:
        yield client


def test_a_slot_is_kept_for_another_client(crowded, other, until):
    """One client has at most three of four; who comes next needn't wait."""
    assert crowded.counts() == {"waiting": 2, "running": 3, "limit": 2}

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(other.post, "/predict", json={"duration": 0.5})
        until(lambda: crowded.counts() == {"waiting": 2, "running": 4, "limit": 2})
        crowded.engine.go.set()

        assert asked.result().status_code == 200
    assert {answer.result().status_code for answer in crowded.greedy} == {200}


def test_the_greediest_gives_its_place(crowded, other, until):
    """A full queue has room for a client with fewer; the latest of the other's is told to come back."""
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(other.post, "/predict", json={"duration": 0.5}) for _ in range(2)]

        refused = crowded.greedy[-1].result()

        assert refused.status_code == 429
        assert refused.json() == {"detail": "the queue is full: 2 requests wait"}
        assert "retry-after" in refused.headers
        assert crowded.get("/progress/greedy-4").json()["state"] == "failed"
        assert other.post("/predict", json={"duration": 0.5}).status_code == 429
        crowded.engine.go.set()
        assert {answer.result().status_code for answer in (*asked, *crowded.greedy[:-1])} == {200}


def test_a_deadline_that_passed_in_the_queue_is_refused_at_its_turn(held, engine, until):
    """Nothing is made that comes too late."""
    service = held()
    engine.step_s = 0.05
    engine.go.set()
    service.first.result()
    service.post()  # a pace of 0.8 s a second of sound at least
    engine.go.clear()
    running = service.later({"client_job_id": "running"})
    until(lambda: len(engine.requests) == 3)
    late = service.later({"duration": 1}, headers={"X-Deadline-S": "600"})
    until(lambda: service.counts()["waiting"])
    job = next(job for job in service.queue._jobs if job.request.duration == 1)

    job.arrived -= 599.5
    engine.go.set()

    assert running.result().status_code == 200
    assert late.result().status_code == 503
    assert late.result().json()["detail"].startswith("the answer would take about ")
    assert len(engine.requests) == 3


def test_clients_that_come_and_go_at_any_moment_leave_a_queue_that_works(engine):
    """Two thousand of them, of five addresses: nothing fails, no slot and no place is lost, steps add up."""
    engine.slots = 3
    chance = random.Random(1)

    async def one(queue, number):
        gone = asyncio.get_running_loop().create_future()
        if chance.random() < 0.7:
            asyncio.get_running_loop().call_later(chance.random() / 100, gone.set_result, None)
        try:
            request = GenerateRequest(duration=0.5, seed=number)
            await queue.run(Job(request, client=str(chance.randrange(5))), gone, chance.choice([None, 0.001, 60]))
        except RefusedError as err:
            return err.status

    async def scenario():
        failures = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        queue = AdmissionQueue(lambda: engine, limit=8)
        await queue.load()
        coming = []
        for number in range(2000):
            coming.append(asyncio.create_task(one(queue, number)))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        statuses = set(await asyncio.gather(*coming))
        while queue.counts()["running"]:
            await asyncio.sleep(0.001)
        counts, steps = queue.counts(), queue.steps
        assert await queue.run(Job(GenerateRequest(duration=0.5, seed=1)), asyncio.get_running_loop().create_future())
        queue.shut_down()
        return failures, statuses, counts, steps

    failures, statuses, counts, steps = asyncio.run(scenario())

    assert failures == []
    assert statuses <= {None, 429, 503}
    assert {None, 429} <= statuses
    assert counts == {"waiting": 0, "running": 0, "limit": 8}
    assert steps > 0
