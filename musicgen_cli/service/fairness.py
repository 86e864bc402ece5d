"""
Fairness between clients: in which order waiting requests start, and which one leaves a full queue for another client.

The client with the fewest running requests goes first, then the one whose last turn is longest ago, then the one that
came first. So a client with many requests waits behind its own, and a single client is served in the order of arrival.
With three or more slots a client can use all but one: the last slot is for others, which then need not wait for a long
clip to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from musicgen_cli.service.job import Job

_MAX_CLIENTS = 1024  # whose last turn is remembered


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
        if len(self._last_turn) > _MAX_CLIENTS:
            del self._last_turn[next(iter(self._last_turn))]


def slots_per_client(slots: int) -> int:
    """Return how many jobs of one client may run at the same time, of `slots`."""
    return max(min(slots, 2), slots - 1)


def job_to_evict(waiting: Sequence[Job], newcomer: Job) -> Job | None:
    """
    Return the job that leaves a full queue in favour of a newcomer: the latest of the client with the most jobs there.

    None if the newcomer's client would then have as many: the newcomer is refused instead.
    """
    counts = Counter(job.client for job in waiting)
    client, most = max(counts.items(), key=lambda entry: entry[1], default=("", 0))
    if most <= counts[newcomer.client] + 1:
        return None
    return next(job for job in reversed(waiting) if job.client == client)
