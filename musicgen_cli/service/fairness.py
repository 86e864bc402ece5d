"""
Fair order: whose turn it is among clients that ask for different amounts, and whose place is given away.

A client that has fewer requests under way goes first, then the one whose last turn is longest ago, then who came first.
So a client with many requests waits behind its own, and one alone is served in the order it asked. All slots but one,
of three or more, are what one client may have: the last is for others, who then don't wait for a long clip to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from musicgen_cli.service.job import Job

_REMEMBERED = 1024  # clients whose last turn is known


class FairOrder:
    """Remembers when each client last had its turn."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # the client longest without a turn first
        self._count = 0

    def order(self, waiting: Iterable[Job], running: Iterable[Job]) -> list[Job]:
        """
        Return those that wait, in the order of their turns if nobody else comes.

        Args:
            waiting: In the order they came.
        """
        before = Counter(job.client for job in running)
        ranked: list[tuple[int, int, int, Job]] = []
        for job in waiting:
            ranked.append((before[job.client], self._last.get(job.client, 0), len(ranked), job))
            before[job.client] += 1
        return [job for *_, job in sorted(ranked, key=lambda each: each[:3])]

    def took(self, client: str) -> None:
        """Remember that a client had its turn now."""
        self._count += 1
        self._last.pop(client, None)
        self._last[client] = self._count
        if len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]


def most_each(slots: int) -> int:
    """Return how many requests of one client may run at once."""
    return max(min(slots, 2), slots - 1)


def to_give_way(waiting: Sequence[Job], newcomer: Job) -> Job | None:
    """
    Return whose place in a full queue a newcomer gets: the latest of the client who has the most there.

    None if the newcomer's client would then have as many: who came first stays.
    """
    places = Counter(job.client for job in waiting)
    greediest, most = max(places.items(), key=lambda each: each[1], default=("", 0))
    if most <= places[newcomer.client] + 1:
        return None
    return next(job for job in reversed(waiting) if job.client == greediest)
