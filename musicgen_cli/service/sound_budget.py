"""How much memory the sounds of requests may take, while they are parsed, wait and are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from musicgen_cli.service.callers import Caller
from musicgen_cli.service.job import Job
from musicgen_cli.service.refusal import RefusedError
from musicgen_cli.service.throughput import Throughput

SOUND_BYTES = 128 * 1024 * 1024  # of which one client may have half


class SoundBudget:
    """
    Bounds the bytes of sounds, of all clients and of each.

    Args:
        jobs: All that wait or run.
        throughput: For estimates.
    """

    def __init__(self, jobs: Collection[Job], throughput: Throughput) -> None:
        self._jobs, self._throughput = jobs, throughput
        self._parsing: Counter[str] = Counter()  # by client, bytes of bodies that are being parsed

    @property
    def bytes(self) -> int:
        """Bytes of the sounds of all jobs, and of bodies that are being parsed."""
        return sum(job.inputs.sound_bytes for job in self._jobs) + self._parsing.total()

    @contextmanager
    def parsing(self, caller: Caller, size: int) -> Iterator[None]:
        """
        Count a body while it is parsed, which takes time.

        Raises:
            RefusedError: As `check`.
        """
        self.check(caller.client, size)
        self._parsing[caller.client] += size
        try:
            yield
        finally:
            self._parsing[caller.client] -= size
            if not self._parsing[caller.client]:
                del self._parsing[caller.client]

    def check(self, client: str, new: int) -> None:
        """
        Check that there is room for the sounds of another request.

        Args:
            client: Who sends it.
            new: Their bytes.

        Raises:
            RefusedError: There are too many, of all clients or of this one.
        """
        held = [job for job in self._jobs if job.inputs.sound_bytes]
        own = sum(job.inputs.sound_bytes for job in held if job.client == client) + self._parsing.get(client, 0)
        if own + new > SOUND_BYTES // 2 or self.bytes + new > SOUND_BYTES:
            soonest = min((job.remaining_s(self._throughput.pace) or 0 for job in held), default=0)
            raise RefusedError(503, "too many requests with sounds wait", soonest)
