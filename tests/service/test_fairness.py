"""The order in which clients with different numbers of requests are served."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.service.callers import Caller
from musicgen_cli.service.fairness import Demand, FairOrder, job_to_evict, slots_per_client
from musicgen_cli.service.job import Job

REQUEST = GenerateRequest()


def jobs(clients: Iterable[str]) -> list[Job]:
    return [Job(REQUEST, Caller(client)) for client in clients]


def serve_next(fair_order: FairOrder, waiting: list[Job], running: list[Job]) -> Job:
    job = fair_order.order(waiting, running)[0]
    fair_order.record_turn(job.client)
    waiting.remove(job)
    return job


def serve_all(fair_order: FairOrder, waiting: list[Job]) -> str:
    """Serve all jobs, one after the other; return their clients in the order in which they were served."""
    return "".join(serve_next(fair_order, waiting, []).client for _ in range(len(waiting)))


@pytest.mark.parametrize(
    ("waiting", "order"),
    [("aaaa", "aaaa"), ("aaaab", "abaaa"), ("aaabbbc", "abcabab"), ("abcabc", "abcabc")],
)
def test_clients_take_turns(waiting: str, order: str) -> None:
    """A client with many requests waits behind its own, not the others behind it."""
    assert serve_all(FairOrder(), jobs(waiting)) == order


def test_one_client_is_served_in_the_order_of_arrival() -> None:
    """Among requests of the same client it is first come, first served."""
    waiting = jobs("aaa")

    assert FairOrder().order(waiting, []) == waiting


def test_the_client_with_fewer_running_jobs_goes_first() -> None:
    """With several slots, the running jobs of each client are counted."""
    (mine,) = jobs("b")

    assert FairOrder().order([*jobs("aa"), mine], jobs("aab"))[0].client == "b"
    assert FairOrder().order([*jobs("aa"), mine], jobs("abb"))[0].client == "a"


def test_a_client_that_returns_at_once_does_not_overtake_those_that_wait() -> None:
    """Its last turn is remembered although it had no other request in the queue."""
    fair_order, waiting, order = FairOrder(), jobs("aaabbb"), ""
    for _ in range(6):
        waiting += jobs("c") if not any(job.client == "c" for job in waiting) else []
        order += serve_next(fair_order, waiting, []).client

    assert order == "abcabc"


def test_the_turns_of_the_latest_64_clients_are_remembered() -> None:
    """Ten thousand clients need no more memory; those that are forgotten count as new and go first."""
    fair_order = FairOrder()
    clients = [str(number) for number in range(10_000)]
    for client in clients:
        fair_order.record_turn(client)

    latest_first = clients[::-1]
    order = [job.client for job in fair_order.order(jobs(latest_first), [])]

    assert order == latest_first[64:] + clients[-64:]


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 2), (3, 2), (4, 3), (8, 7)])
def test_a_client_can_use_all_slots_but_one(slots: int, most: int) -> None:
    """Of two slots it can use both: with one, clips of a single client could never run at the same time."""
    assert slots_per_client(slots) == most


@pytest.mark.parametrize(
    ("waiting", "newcomer", "evicted"),
    [("aaaa", "b", 3), ("aaab", "b", 2), ("aabb", "b", None), ("a", "b", None), ("aabbb", "c", 4), ("aaaa", "a", None)],
)
def test_the_client_with_most_jobs_makes_room(waiting: str, newcomer: str, evicted: int | None) -> None:
    """Its latest job leaves a full queue, unless the newcomer's client would then have as many."""
    queue = jobs(waiting)

    assert job_to_evict(queue, jobs(newcomer)[0], [], Demand()) is (None if evicted is None else queue[evicted])


def test_nobody_makes_room_in_a_queue_without_places() -> None:
    """A limit of 0 holds for every client."""
    assert job_to_evict([], jobs("a")[0], [], Demand()) is None


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def demand_of(asked: str, clock: Clock | None = None) -> Demand:
    demand = Demand(clock or Clock())
    for client in asked:
        demand.record(client)
    return demand


@pytest.mark.parametrize(
    ("asked", "evicted"),
    [("aaabbcccdddz", 3), ("aaaabbccddz", 0), ("abcdz", None), ("aabbccddz", None), ("aaabbbcccdddzz", None)],
)
def test_clients_that_ask_much_more_often_make_room_for_newcomers(asked: str, evicted: int | None) -> None:
    """Many clients with one request each can't keep a full queue from one that has none in it."""
    queue = jobs("abcd")
    demand = demand_of(asked + ("d" if evicted == 3 else ""))

    assert job_to_evict(queue, jobs("z")[0], [], demand) is (None if evicted is None else queue[evicted])


@pytest.mark.parametrize(("waiting", "running"), [("abz", ""), ("ab", "z")])
def test_who_has_a_place_is_no_newcomer(waiting: str, running: str) -> None:
    """However often the others ask."""
    assert job_to_evict(jobs(waiting), jobs("z")[0], jobs(running), demand_of("aaaaaaaaz")) is None


def test_demand_is_forgotten_with_time() -> None:
    """Half of it within a minute; and clients that asked long ago, if there are many."""
    clock = Clock()
    demand = demand_of("aaaa", clock)
    clock.now = 60

    assert demand.of("a") == 2
    for number in range(10_000):
        demand.record(str(number))
    assert demand.of("a") == 0
    assert demand.of("9999") == 1
