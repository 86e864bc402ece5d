"""
Fairness between clients: in which order waiting requests start, and which one leaves a full queue for another client.

The client with the fewest running requests goes first, then the one whose last turn is longest ago, then the one that
came first. So a client with many requests waits behind its own, and a single client is served in the order of arrival.
With three or more slots a client can use all but one: the last slot is for others, which then need not wait for a clip
to end. Each window of a long clip is a turn; between two, its job waits as one that has just come.

A full queue has room for a client with fewer requests in it. But many clients with a single request each could keep it
full for ever. So a client that has none in the queue gets a place all the same, at the cost of the one that has lately
asked most often, if that is much more often: who asks again and again gives way to newcomers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from musicgen_cli.service.job import Job

_TURNS = 64  # that are remembered; clients without one count as new, or new ones could keep the others waiting
_CLIENTS = 1024  # whose demand is remembered
_HALF_LIFE_S = 60.0  # of a client's demand
_MUCH_MORE = 2.0  # times as often


class FairOrder:
    """Orders waiting jobs by their clients' running jobs and last turns."""

    def __init__(self) -> None:
        self._last_turn: dict[str, int] = {}  # by client, the oldest turn first
        self._turns = 0

    def order(self, waiting: Iterable[Job], running: Iterable[Job]) -> list[Job]:
        """
        Return the waiting jobs in the order in which they start if no other job arrives.

        Args:
            waiting: In order of arrival.
            running: In any order.
        """
        ahead = Counter(job.client for job in running)
        ranked: list[tuple[int, int, int, Job]] = []
        for job in waiting:
            ranked.append((ahead[job.client], self._last_turn.get(job.client, 0), len(ranked), job))
            ahead[job.client] += 1
        return [job for *_, job in sorted(ranked, key=lambda entry: entry[:3])]

    def record_turn(self, client: str) -> None:
        """Record that a job of this client starts now."""
        self._turns += 1
        self._last_turn.pop(client, None)
        self._last_turn[client] = self._turns
        if len(self._last_turn) > _TURNS:
            del self._last_turn[next(iter(self._last_turn))]


def slots_per_client(slots: int) -> int:
    """Return how many jobs of one client may run at the same time, of `slots`."""
    return max(min(slots, 2), slots - 1)


class Demand:
    """How often each client has asked lately, whatever the answer was; a request counts half after a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[str, tuple[float, float]] = {}  # by client, the latest last: how often, as of when

    def record(self, client: str) -> None:
        """Record that a client asks now."""
        asked = self.of(client) + 1
        self._asked.pop(client, None)
        self._asked[client] = (asked, self._clock())
        if len(self._asked) > _CLIENTS:
            del self._asked[next(iter(self._asked))]

    def of(self, client: str) -> float:
        """Return how often a client has asked."""
        asked, moment = self._asked.get(client, (0.0, 0.0))
        return asked * 0.5 ** ((self._clock() - moment) / _HALF_LIFE_S) if asked else 0.0


def job_to_evict(waiting: Sequence[Job], newcomer: Job, running: Collection[Job], demand: Demand) -> Job | None:
    """
    Return the job that leaves a full queue in favour of a newcomer; None if the newcomer is refused instead.

    That is the latest job of the client with the most jobs there, unless the newcomer's client would then have as many.
    A client without any, waiting or running, gets the place of the one that has asked most often.
    """
    counts = Counter(job.client for job in waiting)
    client, most = max(counts.items(), key=lambda entry: entry[1], default=("", 0))
    if most <= counts[newcomer.client] + 1:
        if not waiting or any(job.client == newcomer.client for job in (*waiting, *running)):
            return None
        client = max(counts, key=demand.of)
        if demand.of(client) <= _MUCH_MORE * demand.of(newcomer.client):
            return None
    return next(job for job in reversed(waiting) if job.client == client)
