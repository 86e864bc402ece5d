"""Which connections are refused: those of clients that have many, while idle ones take half of the places."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

_CENSUS_S = 0.1  # for which a count of all idle connections is used
_ALONE_S = 10.0  # after the last connection of another client, a client is by itself
_TURNOVER_S = 40.0  # in which crowds get as many connections as there are places

# `musicgen` and other clients of the contract wait and try again.
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 56\r\n"
    b'Retry-After: 1\r\nConnection: close\r\n\r\n{"detail":"your address has too many connections open"}\n'
)


class Crowd:
    """
    Refuses connections of crowds: of clients with more idle connections than the average client.

    To accept a connection, to read what it sends, and to close another one for it costs about half a millisecond. Who
    opens connections again as soon as they are closed can demand that a thousand times a second. So once idle
    connections take half of the places, all crowds together get only some further ones a second; the rest are closed
    before anything is read. A client by itself has the average: where there is no other, as behind a reverse proxy,
    nobody is refused.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowed = 0.0  # connections of crowds
        self._asked_at = clock()
        self._idle: Counter[str] = Counter()  # connections, by client; 0 for those with others only
        self._counted_at = self._asked_at - _CENSUS_S
        self._several_at = self._asked_at - _ALONE_S  # when there were connections of several clients

    def refuses(self, client: str, held: Iterable[tuple[str, bool]], limit: int) -> bool:
        """
        Tell whether to refuse a connection.

        Args:
            client: Who opens it.
            held: The client of each open connection, and whether it is idle; read at most ten times a second.
            limit: Of open connections.
        """
        now = self._clock()
        if now - self._counted_at >= _CENSUS_S:
            self._idle, self._counted_at = Counter(), now
            for holder, is_idle in held:
                self._idle[holder] += is_idle
        if len(self._idle.keys() | {client}) > 1:
            self._several_at = now
        clients = max(len(self._idle), 2 if now - self._several_at < _ALONE_S else 1)
        total = self._idle.total()
        if total < limit // 2 or self._idle[client] * clients <= total:
            return False
        return not self._allow(now, limit / _TURNOVER_S)

    def _allow(self, now: float, rate: float) -> bool:
        """Let in a connection of a crowd, at most `rate` a second; those of a second may come together."""
        self._allowed = min(max(1.0, rate), self._allowed + rate * (now - self._asked_at))
        self._asked_at = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True
