"""Whose turn it is among clients that ask for different amounts."""

import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.service.fairness import FairOrder, job_to_evict, slots_per_client
from musicgen_cli.service.job import Job

REQUEST = GenerateRequest()


def jobs(clients):
    return [Job(REQUEST, client=client) for client in clients]


def served(turns, waiting, slots=1):
    """Serve all, each ending before the next begins once the slots are full; return whose turns they were."""
    waiting, running, order = list(waiting), [], ""
    while waiting:
        if len(running) == slots:
            running.pop(0)
        job = turns.order(waiting, running)[0]
        turns.record_turn(job.client)
        waiting.remove(job)
        running.append(job)
        order += job.client
    return order


@pytest.mark.parametrize(
    ("waiting", "order"),
    [("aaaa", "aaaa"), ("aaaab", "abaaa"), ("aaabbbc", "abcabab"), ("abcabc", "abcabc")],
)
def test_clients_take_turns(waiting, order):
    """One with many requests waits behind its own."""
    assert served(FairOrder(), jobs(waiting)) == order


def test_one_client_is_served_in_the_order_it_asked():
    """Among its own requests, first come, first served."""
    waiting = jobs("aaa")

    assert FairOrder().order(waiting, []) == waiting


def test_who_has_fewer_under_way_goes_first():
    """With several slots, those of each client count."""
    (mine,) = jobs("b")

    assert FairOrder().order([*jobs("aa"), mine], jobs("aab"))[0].client == "b"
    assert FairOrder().order([*jobs("aa"), mine], jobs("abb"))[0].client == "a"


def test_a_client_that_comes_back_at_once_does_not_go_before_those_who_wait():
    """Its last turn is remembered though nothing of it was left."""
    turns, waiting, order = FairOrder(), jobs("aaabbb"), ""
    for _ in range(6):
        waiting += jobs("c") if not any(job.client == "c" for job in waiting) else []
        job = turns.order(waiting, [])[0]
        turns.record_turn(job.client)
        waiting.remove(job)
        order += job.client

    assert order == "abcabc"


def test_turns_of_a_bounded_number_of_clients_are_remembered():
    """Ten thousand clients cost no more memory than a thousand."""
    turns = FairOrder()
    for number in range(10_000):
        turns.record_turn(str(number))

    assert len(turns._last_turn) == 1024
    assert "9999" in turns._last_turn


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 2), (3, 2), (4, 3), (8, 7)])
def test_a_client_may_have_all_slots_but_one(slots, most):
    """Of two it may have both, or it would never have company."""
    assert slots_per_client(slots) == most


@pytest.mark.parametrize(
    ("waiting", "newcomer", "victim"),
    [("aaaa", "b", 3), ("aaab", "b", 2), ("aabb", "b", None), ("a", "b", None), ("aabbb", "c", 4), ("aaaa", "a", None)],
)
def test_the_greediest_gives_way(waiting, newcomer, victim):
    """Its latest request leaves a full queue, unless the newcomer's client would then have as many."""
    there = jobs(waiting)

    assert job_to_evict(there, *jobs(newcomer)) is (None if victim is None else there[victim])


def test_nobody_gives_way_in_a_queue_without_places():
    """A limit of 0 is a limit."""
    assert job_to_evict([], *jobs("a")) is None
