"""
Admission: who may wait, who is told to come back, and when.

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
from typing import Any, TypeVar

from musicgen_cli import limits
from musicgen_cli.engine.base import Clip, Engine
from musicgen_cli.service.fairness import FairOrder, most_each, to_give_way
from musicgen_cli.service.job import AbandonedError, Job
from musicgen_cli.service.throughput import Throughput
from musicgen_cli.text import number

T = TypeVar("T")

REMEMBERED = 256  # finished requests whose progress can still be asked for
_LOADING_RETRY_S = 2.0
_STOPPING_RETRY_S = 5.0  # about what a restart takes


class RefusedError(Exception):
    """A request that can't be taken now; `retry_after_s` is in whole seconds, 1-60."""

    def __init__(self, status: int, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after_s = math.ceil(min(max(retry_after_s, 1), limits.RETRY_AFTER_S.high))


class AdmissionQueue:
    """As many running requests as the engine has slots, at most `limit` waiting ones, and a fair order."""

    def __init__(self, make_engine: Callable[[], Engine], *, limit: int = limits.QUEUE) -> None:
        self.limit = limit
        self.engine: Engine | None = None
        self.slots = 1  # until the engine is there
        self.throughput = Throughput()
        self._busy = 0
        self._busy_lock = threading.Lock()  # each of the engine's threads counts itself
        self._make_engine = make_engine
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._fair_order = FairOrder()
        self._closing = False
        self._jobs: dict[Job, asyncio.Task[Clip]] = {}  # in the order they came
        self._begins: dict[Job, asyncio.Future[None]] = {}  # of those that wait
        self._refused: dict[Job, RefusedError] = {}  # those that waited and must go
        self._finished: dict[str, Job] = {}  # by client_job_id
        self._steps = 0  # of those that have left

    async def load(self) -> None:
        """Make the engine; whatever its factory raises is raised here."""
        engine = await self._in_worker(self._make_engine)
        self.slots = engine.slots
        self._workers.shutdown(wait=False)
        self._workers = ThreadPoolExecutor(max_workers=engine.slots, thread_name_prefix="engine")
        self.engine = engine

    @property
    def working(self) -> bool:
        """Whether a thread of the engine is busy; nothing can interrupt it between two steps."""
        return self._busy > 0

    @property
    def steps(self) -> int:
        """Steps made since the start, whatever became of them."""
        return self._steps + sum(job.steps for job in self._jobs)

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
        return {"waiting": len(self._begins), "running": len(self._running()), "limit": self.limit}

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
        begin = self._begins[job] = asyncio.get_running_loop().create_future()
        task = self._jobs[job] = asyncio.create_task(self._work(engine, job, begin, deadline_s))
        task.add_done_callback(lambda done: self._leave(job, done))
        self._let_begin()
        either: set[asyncio.Future[Any]] = {task, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return None
            return task.result()
        except (asyncio.CancelledError, AbandonedError) as err:
            if task.done():  # stopped by `_send_away` or `abandon`
                raise self._refused.get(job) or _stopping() from err
            raise
        finally:
            self._refused.pop(job, None)
            job.abandoned = True
            self._send_away(job)

    def close(self) -> None:
        """Refuse what comes and what waits; the running requests go on."""
        self._closing = True
        for job in list(self._begins):
            self._send_away(job, _stopping())

    def abandon(self) -> None:
        """Stop the running requests at their next step."""
        for job in self._jobs:
            job.abandoned = True

    def finish(self) -> None:
        """Wait for the engine's threads and free what the engine holds."""
        self._workers.shutdown()
        if self.engine is not None:
            self.engine.close()

    def _running(self) -> list[Job]:
        return [job for job in self._jobs if job.state == "running"]

    def _admit(self, job: Job, deadline_s: float | None) -> None:
        running, waiting = self._running(), list(self._begins)
        own = sum(other.client == job.client for other in running)
        at_once = len(running) < self.slots and own < most_each(self.slots)
        victim = None
        if not at_once and len(waiting) >= self.limit:
            victim = to_give_way(waiting, job)
            if victim is None:
                raise self._full()
            waiting.remove(victim)
        order = self._fair_order.order([*waiting, job], running)
        ahead = [*running, *order[: order.index(job)]]
        if deadline_s is not None and (late := self._late(job, ahead, deadline_s)):
            if not ahead:
                # One slow request must not shut out, for good, those that would show it was an exception.
                self.throughput.doubt()
            raise late
        if victim is not None:
            self._send_away(victim, self._full())

    def _full(self) -> RefusedError:
        pace = self.throughput.pace
        soonest = min((job.left_s(pace) or 0 for job in self._running()), default=0)
        return RefusedError(429, f"the queue is full: {self.limit} requests wait", soonest)

    def _late(self, job: Job, ahead: list[Job], deadline_s: float) -> RefusedError | None:
        """Return how to refuse a job whose answer would come after so many seconds from now; None if it wouldn't."""
        pace = self.throughput.pace
        if pace is None:
            return None
        # The pace is that of a clip with as much company as there was: what is ahead is shared out among the slots.
        slots = self.slots if any(other.client != job.client for other in ahead) else most_each(self.slots)
        needed_s = _wait_s([other.left_s(pace) or 0 for other in ahead], slots) + job.request.duration * pace
        if needed_s <= deadline_s:
            return None
        wanted = number(round(max(deadline_s, 0.0), 1))
        detail = f"the answer would take about {math.ceil(needed_s)} s, the deadline is {wanted} s"
        return RefusedError(503, detail, needed_s - deadline_s)

    def _let_begin(self) -> None:
        """Let those begin for whom there is a slot."""
        while self._begins and len(running := self._running()) < self.slots:
            job = self._fair_order.order(self._begins, running)[0]
            # Nobody in the order has fewer under way than the first.
            if sum(other.client == job.client for other in running) >= most_each(self.slots):
                return
            self._fair_order.took(job.client)
            job.state, job.started = "running", time.monotonic()
            self._begins.pop(job).set_result(None)

    def _send_away(self, job: Job, why: RefusedError | None = None) -> None:
        """Take its place from one that waits, if it does."""
        if self._begins.pop(job, None) is None:
            return
        job.state = "failed"
        if why is not None:
            self._refused[job] = why
        self._jobs[job].cancel()

    async def _work(self, engine: Engine, job: Job, begin: asyncio.Future[None], deadline_s: float | None) -> Clip:
        await begin
        if deadline_s is not None and (late := self._late(job, [], deadline_s - (time.monotonic() - job.arrived))):
            raise late  # those went first whose turn it was
        with self.throughput.at_work(job.request.duration):
            return await self._in_worker(lambda: engine.generate(job.request, job))

    def _leave(self, job: Job, task: asyncio.Task[Clip]) -> None:
        """Note how a job ended; as the task's callback, so that one cancelled before it began leaves too."""
        del self._jobs[job]
        self._steps += job.steps
        job.state = "failed" if task.cancelled() or task.exception() else "done"
        if name := job.request.client_job_id:
            self._finished.pop(name, None)
            self._finished[name] = job
            if len(self._finished) > REMEMBERED:
                del self._finished[next(iter(self._finished))]
        self._let_begin()

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


def _wait_s(ahead: list[float], slots: int) -> float:
    """Reckon when a slot is free, if each of those ahead takes, in turn, the first that is."""
    free_at = [0.0] * slots
    for left in ahead:
        heapq.heapreplace(free_at, free_at[0] + left)
    return free_at[0]
