"""
The process that makes the takes of a store's jobs: `python -m musicgen_cli.actions.jobs.runner STORE`.

It is started when a job is queued, and ends when no job is pending. One model at a time is loaded, once for all
consecutive jobs that need it. The service's key comes from this process's own settings: no job's file holds it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path

from musicgen_cli import settings
from musicgen_cli.actions.engines import EngineConfig, LogReporter, open_engine
from musicgen_cli.actions.generate import expected_bytes, generate, store_clip
from musicgen_cli.actions.jobs.api_key import key_for
from musicgen_cli.actions.jobs.job import Job
from musicgen_cli.actions.jobs.job_queue import JobQueue
from musicgen_cli.actions.jobs.launch import start_runner
from musicgen_cli.actions.pool import as_done
from musicgen_cli.engine.base import Engine, NullListener
from musicgen_cli.errors import MusicgenError, StoppedError, StoreBusyError
from musicgen_cli.store import Store

_IDLE_S = 5.0  # how long a loaded model waits for another job
_POLL_S = 0.1
_PROGRESS_S = 0.5  # between two writes of a job's progress


class Runner:
    """Runs the jobs of a store, first come, first served, as many at once as the engine has slots."""

    def __init__(self, store: Store, queue: JobQueue) -> None:
        self._store = store
        self._queue = queue
        self._changing = threading.Condition()  # guards what follows
        self._active: list[Job] = []  # claimed jobs that have not ended
        self._idle_since = time.monotonic()

    def run(self) -> None:
        """
        Run jobs until none is pending; return at once if another process is the runner.

        Raises:
            MusicgenError: The outcome of a job can't be written.
        """
        with ExitStack() as stack:
            try:
                resign = stack.enter_context(self._queue.as_runner())
            except StoreBusyError:
                return
            while (job := self._next(None)) is not None or not resign():
                if job is not None:
                    self._run_consecutive(job)

    def _run_consecutive(self, first: Job) -> None:
        """Run `first` and the jobs after it, up to the first one that needs another engine."""
        try:
            engine = open_engine(first.engine_config, LogReporter(_log), api_key=key_for(first))
        except MusicgenError as err:
            self._queue.fail(first, err)
            return
        with closing(engine):
            for _, result in as_done(self._consecutive(first), partial(self._run, engine), jobs=engine.slots):
                if isinstance(result, MusicgenError):
                    raise result

    def _consecutive(self, first: Job) -> Iterator[Job]:
        """Claim and yield jobs in their order, up to the first one that needs another engine."""
        job: Job | None = first
        while job is not None:
            with self._changing:
                self._active.append(job)
            yield job
            job = self._next(first.engine_config)

    def _next(self, engine_config: EngineConfig | None) -> Job | None:
        """
        Claim the next job; while none is pending, wait as long as the loaded model is to be kept.

        Returns:
            None if there is none, or if it needs another engine than `engine_config`.
        """
        while True:
            job = self._queue.head()
            if job is not None:
                if engine_config is not None and job.engine_config != engine_config:
                    return None
                if (claimed := self._queue.claim(job)) is not None:
                    return claimed
                continue
            with self._changing:
                if not self._active and time.monotonic() - self._idle_since > _IDLE_S:
                    return None
            time.sleep(_POLL_S)

    def _run(self, engine: Engine, job: Job) -> None:
        """Make one take, in a thread of its own, and write how the job ended."""
        listener = _JobListener(self._queue, job)
        try:
            with self._cancellable(job, engine):
                planned = job.planned
                self._store.check_free_space(expected_bytes(planned))
                clip = generate(planned, engine, self._store, listener)
            self._await_turn(job)
            take = store_clip(planned, clip, self._store)
            self._queue.complete(listener.job, take.artifact, take.warnings)
        except StoppedError:
            self._queue.cancel(listener.job)
        except MusicgenError as err:
            self._queue.fail(listener.job, err)
        finally:
            with self._changing:
                self._active.remove(job)
                self._idle_since = time.monotonic()
                self._changing.notify_all()

    def _await_turn(self, job: Job) -> None:
        """Wait until the earlier jobs of the same variation set have ended, so that its last take is the newest."""
        set_id = job.metadata.get("variation_set_id")
        if set_id is None:
            return

        def is_first() -> bool:
            return all(
                each.place >= job.place or each.metadata.get("variation_set_id") != set_id for each in self._active
            )

        with self._changing:
            self._changing.wait_for(is_first)

    @contextmanager
    def _cancellable(self, job: Job, engine: Engine) -> Iterator[None]:
        """
        Let a request to a service be cancelled while it is in progress.

        Only the end of its connection tells the service, and a connection that waits for an answer ends only with its
        process. So this process ends, and another one runs the jobs that are left. That loses no model and no other
        request: a service's requests are sent one at a time.
        """
        if engine.origin.kind != "http":
            yield
            return
        finished = threading.Event()

        def watch() -> None:
            while not finished.wait(_POLL_S):
                if self._queue.is_cancel_requested(job):
                    self._queue.cancel_if_requested(job, self._hand_over)

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            finished.set()

    def _hand_over(self) -> None:
        """End this process at once, and start another runner if a job is pending; called under the folder's lock."""
        try:
            if self._queue.head() is not None:
                start_runner(self._queue.folder, self._store.root)
        except MusicgenError as err:
            _log(f"{err}; the next command that looks at the jobs starts a runner")
        os._exit(0)  # which frees the locks


class _JobListener(NullListener):
    """Writes a job's progress, and stops the job when its cancellation was requested."""

    def __init__(self, queue: JobQueue, job: Job) -> None:
        self.job = job
        self._queue = queue
        self._written = 0.0  # when, on the monotonic clock

    def step(self, done: int, total: int) -> None:
        """Write the number of steps, unless it was written just before."""
        self._stop_if_requested()
        now = time.monotonic()
        if now - self._written >= _PROGRESS_S:
            self._written = now
            self.job = self._queue.progress(self.job, done, total)
        else:
            self.job = replace(self.job, steps=done, total=total)

    def note(self, text: str) -> None:
        """Write a note to the runner's log."""
        _log(f"{self.job.id}: {text}")
        self._stop_if_requested()

    def _stop_if_requested(self) -> None:
        if self._queue.is_cancel_requested(self.job):
            raise StoppedError


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> None:
    """Run the jobs of the store that the command line names."""
    if isinstance(sys.stderr, TextIOWrapper):  # the log is UTF-8 on every platform
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    store = Store(Path(sys.argv[1]), warn=_log)
    Runner(store, JobQueue(store, settings.state_dir())).run()


if __name__ == "__main__":
    main()
