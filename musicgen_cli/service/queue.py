"""
Admission: who may wait, whose turn it is, who is told to come back, and when.

Everything here runs on the event loop but the engine, which has threads of its own, one for each of its slots: on one
of them it is loaded, and on all of them it makes clips side by side.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Engine

T = TypeVar("T")

REMEMBERED = 256  # finished requests whose progress can still be asked for
_LOADING_RETRY_S = 2.0
_STOPPING_RETRY_S = 5.0  # about what a restart takes
_FRESH = 0.3  # weight of the latest request in the running average of the pace


class RefusedError(Exception):
    """A request that can't be taken now; `retry_after_s` is in whole seconds, 1-60."""

    def __init__(self, status: int, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after_s = math.ceil(min(max(retry_after_s, 1), limits.RETRY_AFTER_S.high))


class AbandonedError(Exception):
    """Raised into the engine at its next step: nobody waits for this clip any more."""


@dataclass(eq=False, slots=True)
class Job:
    """One request on its way; as the engine's listener it hears the steps, and stops them."""

    request: GenerateRequest
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    steps: int = 0
    total: int = 0  # 0 until the engine has said it
    started: float = 0.0  # of the monotonic clock
    abandoned: bool = False

    def step(self, done: int, total: int) -> None:
        """
        Hear of a step, on the engine's thread for this clip.

        Raises:
            AbandonedError: The clip isn't wanted any more.
        """
        self.steps, self.total = done, total
        if self.abandoned:
            raise AbandonedError

    def note(self, text: str) -> None:
        """Ignore a note: nobody could be told before the answer."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples: the answer has them all."""


class Queue:
    """As many running requests as the engine has slots, and at most `limit` waiting ones, first come, first served."""

    def __init__(self, make_engine: Callable[[], Engine], *, limit: int = limits.QUEUE) -> None:
        self.limit = limit
        self.engine: Engine | None = None
        self._slots = 1  # until the engine is there
        self._busy = 0
        self._busy_lock = threading.Lock()  # each of the engine's threads counts itself
        self._make_engine = make_engine
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._turns = asyncio.Semaphore(1)  # fair: wakes its waiters in the order they came
        self._closing = False
        self._jobs: dict[Job, asyncio.Task[Clip]] = {}  # in the order they came: the running ones are the first
        self._finished: dict[str, Job] = {}  # by client_job_id
        self._pace: float | None = None  # seconds of work per second of sound asked for; None: never measured

    async def load(self) -> None:
        """Make the engine; whatever its factory raises is raised here."""
        engine = await self._in_worker(self._make_engine)
        self._slots = engine.slots
        self._workers.shutdown(wait=False)
        self._workers = ThreadPoolExecutor(max_workers=engine.slots, thread_name_prefix="engine")
        self._turns = asyncio.Semaphore(engine.slots)
        self.engine = engine

    @property
    def working(self) -> bool:
        """Whether a thread of the engine is busy; nothing can interrupt it between two steps."""
        return self._busy > 0

    def ready(self) -> Engine:
        """
        Return the engine.

        Raises:
            RefusedError: It is still being loaded, or the service is stopping.
        """
        if self._closing:
            raise _stopping()
        if self.engine is None:
            raise RefusedError(503, "the model is being loaded", _LOADING_RETRY_S)
        return self.engine

    def counts(self) -> dict[str, int]:
        """Return how many requests wait, run, and may wait."""
        running = sum(job.state == "running" for job in self._jobs)
        return {"waiting": len(self._jobs) - running, "running": running, "limit": self.limit}

    def find(self, client_job_id: str) -> Job | None:
        """Return the latest request of this name, or None if it is unknown or long finished."""
        living = (job for job in reversed(self._jobs) if job.request.client_job_id == client_job_id)
        return next(living, None) or self._finished.get(client_job_id)

    async def run(self, job: Job, gone: asyncio.Future[None], deadline_s: float | None = None) -> Clip | None:
        """
        Wait for the job's turn, then for its clip.

        Args:
            job: A new one.
            gone: Done as soon as the client has gone; the job then loses its place, or stops at its next step.
            deadline_s: How long the client will wait for its answer.

        Returns:
            The clip, or None if the client went first.

        Raises:
            RefusedError: Loading, stopping, full, or too late by the present pace.
            Exception: Whatever the engine raised.
        """
        engine = self.ready()
        self._admit(job, deadline_s)
        task = self._jobs[job] = asyncio.create_task(self._work(engine, job))
        task.add_done_callback(lambda done: self._leave(job, done))
        either: set[asyncio.Future[Any]] = {task, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return None
            return task.result()
        except (asyncio.CancelledError, AbandonedError) as err:
            if task.done():  # stopped by `close` or `abandon`
                raise _stopping() from err
            raise
        finally:
            job.abandoned = True
            if job.state == "waiting":
                task.cancel()

    def close(self) -> None:
        """Refuse what comes and what waits; the running requests go on."""
        self._closing = True
        for job, task in self._jobs.items():
            if job.state == "waiting":
                task.cancel()

    def abandon(self) -> None:
        """Stop the running requests at their next step."""
        for job in self._jobs:
            job.abandoned = True

    def finish(self) -> None:
        """Wait for the engine's threads and free what the engine holds."""
        self._workers.shutdown()
        if self.engine is not None:
            self.engine.close()

    def _admit(self, job: Job, deadline_s: float | None) -> None:
        ahead = [self._left_s(other) for other in self._jobs]
        if len(ahead) >= self.limit + self._slots:
            soonest = min((left or 0 for left in ahead[: self._slots]), default=0)
            raise RefusedError(429, f"the queue is full: {self.limit} requests wait", soonest)
        if deadline_s is None or self._pace is None:
            return
        # The pace is that of a clip with as much company as there was: what is ahead is shared out among the slots.
        needed_s = self._wait_s([left or 0 for left in ahead]) + job.request.duration * self._pace
        if needed_s > deadline_s:
            if not ahead:
                # One slow request must not shut out, for good, those that would show it was an exception.
                self._pace *= 0.9
            raise RefusedError(
                503,
                f"the answer would take about {math.ceil(needed_s)} s, the deadline is {limits.number(deadline_s)} s",
                needed_s - deadline_s,
            )

    def _wait_s(self, ahead: list[float]) -> float:
        """Reckon when a slot is free, if each of those ahead takes, in turn, the first that is."""
        free_at = [0.0] * self._slots
        for left in ahead:
            heapq.heapreplace(free_at, free_at[0] + left)
        return free_at[0]

    def _left_s(self, job: Job) -> float | None:
        """Reckon the seconds of work left in a job; None while nothing is known."""
        spent_s = time.monotonic() - job.started if job.state == "running" else 0.0
        if job.steps:
            return spent_s * (job.total - job.steps) / job.steps
        if self._pace is None:
            return None
        return max(0.0, job.request.duration * self._pace - spent_s)

    async def _work(self, engine: Engine, job: Job) -> Clip:
        async with self._turns:
            job.state = "running"
            job.started = time.monotonic()
            clip = await self._in_worker(lambda: engine.generate(job.request, job))
            pace = (time.monotonic() - job.started) / job.request.duration
            self._pace = pace if self._pace is None else self._pace + _FRESH * (pace - self._pace)
            return clip

    def _leave(self, job: Job, task: asyncio.Task[Clip]) -> None:
        """Note how a job ended; as the task's callback, so that one cancelled before it began leaves too."""
        del self._jobs[job]
        job.state = "failed" if task.cancelled() or task.exception() else "done"
        if name := job.request.client_job_id:
            self._finished.pop(name, None)
            self._finished[name] = job
            if len(self._finished) > REMEMBERED:
                del self._finished[next(iter(self._finished))]

    async def _in_worker(self, call: Callable[[], T]) -> T:
        def tracked() -> T:
            try:
                return call()
            finally:
                with self._busy_lock:
                    self._busy -= 1

        with self._busy_lock:
            self._busy += 1
        return await asyncio.get_running_loop().run_in_executor(self._workers, tracked)


def _stopping() -> RefusedError:
    return RefusedError(503, "the service is stopping", _STOPPING_RETRY_S)
