"""Which connections are refused while places are scarce, over a clock of the test's own."""

from __future__ import annotations

from musicgen_cli.service.crowd import REFUSAL, Crowd

LIMIT = 100  # connections; crowds get 2.5 a second


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def connections(idle: str, busy: str = "") -> list[tuple[str, bool]]:
    """Return open connections, each by a letter for its client."""
    return [*((client, True) for client in idle), *((client, False) for client in busy)]


def let_in(clients: str, held: list[tuple[str, bool]], *, seconds: int = 10) -> int:
    """
    Return how many connections are let in while 200 a second are opened.

    Args:
        clients: Who opens them, in turns: a letter each.
        held: What is open, which stays as it is.
    """
    clock = Clock()
    crowd = Crowd(clock)
    number = 0
    for turn in range(seconds * 200):
        clock.now += 1 / 200
        number += not crowd.refuses(clients[turn % len(clients)], held, LIMIT)
    return number


def test_a_crowd_gets_a_fortieth_of_the_places_a_second() -> None:
    """Nine tenths of the places are its own."""
    assert 24 <= let_in("a", connections("a" * 90, "b")) <= 26


def test_others_are_never_refused() -> None:
    """They have a connection, idle or not, or none yet."""
    assert let_in("b", connections("a" * 90 + "b")) == 2000
    assert let_in("b", connections("a" * 90, "b")) == 2000
    assert let_in("c", connections("a" * 90, "b")) == 2000


def test_a_client_by_itself_is_never_refused() -> None:
    """Behind a reverse proxy all clients are one."""
    assert let_in("a", connections("a" * 99, "a")) == 2000


def test_a_client_is_by_itself_ten_seconds_after_the_last_other_one() -> None:
    """Others come and go: a crowd doesn't get everything between two of their requests."""
    crowd = Crowd(clock := Clock())

    def opened() -> int:
        return sum(not crowd.refuses("a", connections("a" * 90), LIMIT) for _ in range(200))

    assert not crowd.refuses("b", connections("a" * 90), LIMIT)
    clock.now += 9
    assert opened() == 2
    clock.now += 1.1
    assert opened() == 200


def test_nobody_is_refused_until_half_of_the_places_are_idle() -> None:
    """A client may have many connections as long as others have places, and many whose requests are worked on."""
    assert let_in("a", connections("a" * 48 + "b")) == 2000
    assert let_in("a", connections("a", "a" * 98 + "b")) == 2000
    assert let_in("a", connections("a" * 49 + "b")) < 200


def test_several_crowds_share_what_crowds_get() -> None:
    """Three addresses with 30 connections each are no better off than one with 90."""
    assert 24 <= let_in("abc", connections("abc" * 30, "d")) <= 26


def test_a_client_with_fewer_than_the_average_is_no_crowd() -> None:
    """Many people behind one address are not refused for an attack from another one."""
    assert let_in("b", connections("a" * 70 + "b" * 20, "c")) == 2000


def test_what_was_not_used_comes_together_later() -> None:
    """But no more of it than a second's, so that a crowd can't save up for an attack."""
    crowd = Crowd(clock := Clock())
    clock.now += 3600

    assert sum(not crowd.refuses("a", connections("a" * 90, "b"), LIMIT) for _ in range(200)) == 2


def test_of_few_places_a_crowd_gets_one_in_the_end() -> None:
    """With less than a connection a second, the next one is let in after its time."""
    crowd = Crowd(clock := Clock())
    held = connections("aaa", "b")
    clock.now += 3600
    assert not crowd.refuses("a", held, 4)
    assert crowd.refuses("a", held, 4)
    clock.now += 10.1
    assert not crowd.refuses("a", held, 4)


def test_the_refusal_is_a_complete_answer() -> None:
    """Its length is the one that it says, and it tells when to come back."""
    head, _, body = REFUSAL.partition(b"\r\n\r\n")

    assert b"\r\nContent-Length: %d\r\n" % len(body) in head + b"\r\n"
    assert b"\r\nRetry-After: 1\r\n" in head
