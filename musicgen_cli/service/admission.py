"""
Admission control: which requests run, wait or are refused, and when a refused client may come back.

Everything here runs on the event loop, except the engine: it has one thread for each of its slots, is loaded on one of
them and generates clips on all of them at the same time.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Abilities, Clip, Engine
from musicgen_cli.service.callers import Caller
from musicgen_cli.service.estimate import seconds_to_answer
from musicgen_cli.service.fairness import Demand, FairOrder, job_to_evict, slots_per_client
from musicgen_cli.service.job import Job, JobCancelledError
from musicgen_cli.service.refusal import RefusedError
from musicgen_cli.service.sound_budget import SoundBudget
from musicgen_cli.service.throughput import Throughput
from musicgen_cli.text import number

T = TypeVar("T")

MAX_FINISHED_JOBS = 256  # whose progress can still be queried
_LOADING_RETRY_S = 2.0
_STOPPING_RETRY_S = 5.0  # about as long as a restart takes


class AdmissionQueue:
    """
    A bounded, fair queue in front of an engine.

    As many jobs run as the engine has slots, and at most `limit` wait. `FairOrder` decides which of them starts next.
    Between two windows of a long clip its job waits again, so that those of others needn't wait for its end.
    """

    def __init__(self, make_engine: Callable[[], Engine], *, limit: int = limits.QUEUE) -> None:
        """
        Start without an engine: until `load` has finished, requests are refused.

        Args:
            make_engine: Loads the engine; called once, on another thread.
            limit: How many requests may wait.
        """
        self.limit = limit
        self.engine: Engine | None = None
        self.slots = 1  # the engine's, once it is loaded
        self.abilities = Abilities()  # the same
        self.throughput = Throughput()
        self._make_engine = make_engine
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._busy_threads = 0
        self._busy_lock = threading.Lock()  # guards the count, which the engine's threads decrement
        self._fair_order = FairOrder()
        self._demand = Demand()
        self._draining = False
        self._jobs: dict[Job, asyncio.Task[Clip]] = {}  # waiting and running, in order of arrival
        self.sounds = SoundBudget(self._jobs, self.throughput)
        self._waiting: dict[Job, asyncio.Future[None]] = {}  # by job, the future that starts it
        self._measured: dict[Job, float] = {}  # by running job, what `Throughput.begin` returned
        self._evicted: dict[Job, RefusedError] = {}  # jobs that waited and must leave, and why
        self._finished: dict[tuple[Caller, str], Job] = {}  # by caller and client_job_id, the oldest first
        self._finished_steps = 0

    async def load(self) -> None:
        """
        Load the engine.

        Raises:
            Exception: Whatever `make_engine` raised.
        """

        def load() -> Engine:
            engine = self._make_engine()
            self.abilities = engine.abilities
            return engine

        engine = await self._run_in_thread(load)
        self.slots = engine.slots
        self._threads.shutdown(wait=False)
        # A job that waits between two windows keeps its thread.
        self._threads = ThreadPoolExecutor(max_workers=engine.slots + self.limit, thread_name_prefix="engine")
        self.engine = engine

    @property
    def busy(self) -> bool:
        """Whether a thread of the engine is at work, which cannot be interrupted between two steps."""
        return self._busy_threads > 0

    @property
    def steps(self) -> int:
        """Decoder steps since the start, of failed and cancelled jobs too."""
        return self._finished_steps + sum(job.steps for job in self._jobs)

    def require_engine(self) -> Engine:
        """
        Return the engine.

        Raises:
            RefusedError: It is still being loaded, or the service is stopping.
        """
        if self._draining:
            raise _stopping()
        if self.engine is None:
            raise RefusedError(503, "the model is being loaded", _LOADING_RETRY_S)
        return self.engine

    def check_room(self, caller: Caller) -> None:
        """
        Check that a request with a sound would be accepted now, before its body is read.

        Raises:
            RefusedError: It would not: as `run`, or there are too many sounds.
        """
        self.require_engine()
        if not self.abilities.takes_sounds:
            detail = f"the body must be at most {limits.REQUEST_BYTES} bytes"
            raise RefusedError(413, detail)
        self._place(Job(GenerateRequest(), caller))
        self.sounds.check(caller.client, 0)

    def counts(self) -> dict[str, int]:
        """Return how many requests wait, run, and may wait."""
        return {"waiting": len(self._waiting), "running": len(self._running()), "limit": self.limit}

    def find(self, client_job_id: str, caller: Caller) -> Job | None:
        """Return a caller's latest job with this id; None if it is unknown, or finished too long ago."""
        wanted = (caller, client_job_id)
        matches = (job for job in reversed(self._jobs) if (job.caller, job.request.client_job_id) == wanted)
        return next(matches, None) or self._finished.get(wanted)

    async def run(self, job: Job, disconnected: asyncio.Future[None], deadline_s: float | None = None) -> Clip | None:
        """
        Wait for the job's turn, then for its clip.

        Args:
            job: A new one.
            disconnected: Done as soon as the client has disconnected; the job then leaves the queue, or is cancelled.
            deadline_s: How long the client waits for its answer.

        Returns:
            The clip, or None if the client disconnected first.

        Raises:
            RefusedError: The engine is being loaded, the service is stopping, the queue is full, or the answer would
                miss the deadline.
            Exception: Whatever the engine raised.
        """
        engine = self.require_engine()
        self._admit(job, deadline_s)
        start = self._waiting[job] = asyncio.get_running_loop().create_future()
        task = self._jobs[job] = asyncio.create_task(self._generate(engine, job, start, deadline_s))
        task.add_done_callback(lambda ended: self._record_end(job, ended))
        loop = asyncio.get_running_loop()
        job.on_pause = lambda paused: asyncio.run_coroutine_threadsafe(self._pause(paused), loop).result()
        self._start_waiting()
        futures: set[asyncio.Future[Any]] = {task, disconnected}
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return None
            return task.result()
        except (asyncio.CancelledError, JobCancelledError) as err:
            if task.done():  # ended by `_evict` or `cancel_running`
                raise self._evicted.get(job) or _stopping() from err
            raise
        finally:
            self._evicted.pop(job, None)
            job.cancelled = True
            self._evict(job)

    def drain(self) -> None:
        """Refuse new and waiting requests; the running jobs go on."""
        self._draining = True
        for job in list(self._waiting):
            if not job.is_begun:
                self._evict(job, _stopping())

    def cancel_running(self) -> None:
        """Cancel the running jobs at their next step, and those between two windows."""
        for job in self._jobs:
            job.cancelled = True
            self._evict(job, _stopping())

    def shut_down(self) -> None:
        """Wait for the engine's threads, then close the engine."""
        self._threads.shutdown()
        if self.engine is not None:
            self.engine.close()

    def _running(self) -> list[Job]:
        return [job for job in self._jobs if job.state == "running"]

    def _admit(self, job: Job, deadline_s: float | None) -> None:
        """
        Accept a new job; if the queue is full, another client's job may have to leave it.

        Raises:
            RefusedError: The queue is full, or the answer would miss the deadline.
        """
        self._demand.record(job.client)
        self.sounds.check(job.client, job.inputs.sound_bytes)
        evicted = self._place(job)
        running, waiting = self._running(), [other for other in self._waiting if other is not evicted]
        order = self._fair_order.order([*waiting, job], running)
        ahead = [*running, *order[: order.index(job)]]
        if deadline_s is not None and (refusal := self._check_deadline(job, ahead, deadline_s)):
            if not ahead:
                # Otherwise one slow request would keep out all later ones, which could show that it was an exception.
                self.throughput.relax()
            raise refusal
        if evicted is not None:
            self._evict(evicted, self._full())

    def _place(self, job: Job) -> Job | None:
        """
        Find a place for a new job.

        Returns:
            Which job has to leave the queue for it; None if there is room.

        Raises:
            RefusedError: There is none.
        """
        running = self._running()
        own = sum(other.client == job.client for other in running)
        starts_at_once = len(running) < self.slots and own < slots_per_client(self.slots)
        if starts_at_once or len(self._waiting) < self.limit:
            return None
        evicted = job_to_evict([other for other in self._waiting if not other.is_begun], job, running, self._demand)
        if evicted is None:
            raise self._full()
        return evicted

    def _full(self) -> RefusedError:
        pace = self.throughput.pace
        soonest = min((job.turn_left_s(pace) or 0 for job in self._running()), default=0)
        return RefusedError(429, f"the queue is full: {self.limit} requests wait", soonest)

    def _check_deadline(self, job: Job, ahead: list[Job], deadline_s: float) -> RefusedError | None:
        """
        Return the refusal of a job whose answer would come too late, else None.

        Args:
            ahead: Jobs that run, or start before it.
            deadline_s: Seconds from now.
        """
        pace = self.throughput.pace
        if pace is None:
            return None
        # The pace already includes the slowdown by clips generated at the same time, so each slot works at full pace.
        slots = self.slots if any(other.client != job.client for other in ahead) else slots_per_client(self.slots)
        needed_s = seconds_to_answer(job, ahead, pace, slots)
        if needed_s <= deadline_s:
            return None
        limit = number(round(max(deadline_s, 0.0), 1))
        detail = f"the answer would take about {math.ceil(needed_s)} s, the deadline is {limit} s"
        return RefusedError(503, detail, needed_s - deadline_s)

    def _start_waiting(self) -> None:
        """Start or resume waiting jobs for as long as there are free slots."""
        while (startable := self._startable()) and len(running := self._running()) < self.slots:
            job = self._fair_order.order(startable, running)[0]
            # The first in the order has the fewest running jobs, so if it may not start, none may.
            if sum(other.client == job.client for other in running) >= slots_per_client(self.slots):
                return
            self._fair_order.record_turn(job.client)
            job.begin_turn()
            self._waiting.pop(job).set_result(None)

    def _startable(self) -> list[Job]:
        """
        Return the waiting jobs that may start.

        Clips of several windows need memory from their beginning on, so a client begins no more than it has slots.
        """
        begun = Counter(job.client for job in self._jobs if job.is_begun and job.is_long)
        most = slots_per_client(self.slots)
        return [job for job in self._waiting if job.is_begun or not job.is_long or begun[job.client] < most]

    async def _pause(self, job: Job) -> None:
        """Let jobs that wait go first, between two windows of a clip; its thread waits meanwhile."""
        if not self._waiting or job.cancelled:
            return
        self._end_turn(job)
        job.state = "waiting"
        start = self._waiting[job] = asyncio.get_running_loop().create_future()
        self._start_waiting()
        await start
        if not job.cancelled:
            self._measured[job] = self.throughput.begin()

    def _end_turn(self, job: Job, *, failed: bool = False) -> None:
        """Record that a job waits for its next turn, or has ended; the pace follows from what the turn has made."""
        made_s = job.end_turn()
        if (started := self._measured.pop(job, None)) is not None:
            self.throughput.end(started, 0.0 if failed else made_s)

    def _evict(self, job: Job, refusal: RefusedError | None = None) -> None:
        """Remove a job from those that wait, if it is one of them; `refusal` is what its client is answered."""
        start = self._waiting.pop(job, None)
        if start is None:
            return
        job.state = "failed"
        if refusal is not None:
            self._evicted[job] = refusal
        if job.is_begun:  # its thread waits, and ends itself
            job.cancelled = True
            start.set_result(None)
        else:
            self._jobs[job].cancel()

    async def _generate(self, engine: Engine, job: Job, start: asyncio.Future[None], deadline_s: float | None) -> Clip:
        await start
        if deadline_s is not None:
            left_s = deadline_s - (time.monotonic() - job.arrived)
            if refusal := self._check_deadline(job, [], left_s):  # nothing is ahead any more
                raise refusal
        self._measured[job] = self.throughput.begin()
        failed = True
        try:
            clip = await self._run_in_thread(lambda: engine.generate(job.request, job, job.inputs))
            failed = False
            return clip
        finally:
            self._end_turn(job, failed=failed)

    def _record_end(self, job: Job, task: asyncio.Task[Clip]) -> None:
        """Record how a job ended; a callback of its task, so that it runs even if the task never began."""
        del self._jobs[job]
        self._finished_steps += job.steps
        job.inputs, job.on_pause = NO_INPUTS, None
        job.state = "failed" if task.cancelled() or task.exception() else "done"
        if job_id := job.request.client_job_id:
            self._finished.pop((job.caller, job_id), None)
            self._finished[job.caller, job_id] = job
            if len(self._finished) > MAX_FINISHED_JOBS:
                del self._finished[next(iter(self._finished))]
        self._start_waiting()

    async def _run_in_thread(self, call: Callable[[], T]) -> T:
        def counted() -> T:
            try:
                return call()
            finally:
                with self._busy_lock:
                    self._busy_threads -= 1

        with self._busy_lock:
            self._busy_threads += 1
        return await asyncio.get_running_loop().run_in_executor(self._threads, counted)


def _stopping() -> RefusedError:
    return RefusedError(503, "the service is stopping", _STOPPING_RETRY_S)
