"""
The process that makes the takes of a store's jobs: `python -m musicgen_cli.actions.jobs.runner STORE`.

It is started where a job is queued, and ends when none is left. One model at a time is loaded, once for all jobs in a
row that want it. The service's key is read from this process's own settings: no job holds it.
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
from pathlib import Path

from musicgen_cli import settings
from musicgen_cli.actions.engines import EngineConfig, LogReporter, open_engine
from musicgen_cli.actions.generate import expected_bytes, make
from musicgen_cli.actions.jobs.job import Job
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.actions.pool import as_done
from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import MusicgenError, StoppedError, StoreBusyError
from musicgen_cli.store import Store

_IDLE_S = 5.0  # how long a loaded model waits for another job
_LOOK_S = 0.1
_TELL_S = 0.5  # between two writings of how far a job is


class Runner:
    """Runs the jobs of a store, first come first served, as many side by side as the engine has slots."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store = store
        self._jobs = jobs
        self._busy = 0
        self._changing = threading.Lock()
        self._idle_since = time.monotonic()

    def run(self) -> None:
        """
        Run jobs until none is left, unless another process does.

        Raises:
            MusicgenError: What became of a job can't be written down.
        """
        with ExitStack() as stack:
            try:
                end = stack.enter_context(self._jobs.as_runner())
            except StoreBusyError:
                return
            while (job := self._next(None)) is not None or not end():
                if job is not None:
                    self._run_row(job)

    def _run_row(self, first: Job) -> None:
        """Run jobs by the same means."""
        try:
            engine = open_engine(first.engine_config, LogReporter(_log), api_key=settings.load().api_key)
        except MusicgenError as err:
            self._jobs.end(first, err)
            return
        with closing(engine):
            for _, result in as_done(self._row(first), partial(self._run, engine), jobs=engine.slots):
                if isinstance(result, MusicgenError):
                    raise result

    def _row(self, first: Job) -> Iterator[Job]:
        """Yield jobs as their turn comes, until it is that of one by other means."""
        job: Job | None = first
        while job is not None:
            with self._changing:
                self._busy += 1
            yield job
            job = self._next(first.engine_config)

    def _next(self, engine_config: EngineConfig | None) -> Job | None:
        """Claim the next job, waiting a while for it; None if there is none, or it is not by the same means."""
        while True:
            job = self._jobs.head()
            if job is not None:
                if engine_config is not None and job.engine_config != engine_config:
                    return None
                if (claimed := self._jobs.claim(job)) is not None:
                    return claimed
                continue
            with self._changing:
                if not self._busy and time.monotonic() - self._idle_since > _IDLE_S:
                    return None
            time.sleep(_LOOK_S)

    def _run(self, engine: Engine, job: Job) -> None:
        """Make one take, in a thread of its own."""
        listener = _Heard(self._jobs, job)
        try:
            with self._recallable(job, engine):
                planned = job.planned
                self._store.check_room(expected_bytes(planned))
                take = make(planned, engine, self._store, listener)
            self._jobs.end(listener.job, take.artifact)
        except StoppedError:
            self._jobs.end(listener.job, None)
        except MusicgenError as err:
            self._jobs.end(listener.job, err)
        finally:
            with self._changing:
                self._busy -= 1
                self._idle_since = time.monotonic()

    @contextmanager
    def _recallable(self, job: Job, engine: Engine) -> Iterator[None]:
        """
        Let a request to a service be taken back while it is under way.

        Nothing but the end of the connection tells the service, and nothing but the end of this process ends that: so
        another takes its place. No model is lost by it, and no other request, since there is one at a time.
        """
        if engine.origin.kind != "http":
            yield
            return
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_S):
                if self._jobs.is_unwanted(job):
                    self._jobs.end_unwanted(job, _begin_anew)

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()


class _Heard:
    """A listener that writes down how far a job is, and stops it when it was taken back."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self.job = job
        self._jobs = jobs
        self._told = 0.0

    def step(self, done: int, total: int) -> None:
        """Tell of a step now and then."""
        self._stop_if_unwanted()
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            self.job = self._jobs.progress(self.job, done, total)
        else:
            self.job = replace(self.job, steps=done, total=total)

    def note(self, text: str) -> None:
        """Leave a note in the log."""
        _log(f"{self.job.id}: {text}")
        self._stop_if_unwanted()

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples."""

    def _stop_if_unwanted(self) -> None:
        if self._jobs.is_unwanted(self.job):
            raise StoppedError


def _begin_anew() -> None:
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # ourselves


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> None:
    """Run the jobs of the store that the command line names."""
    store = Store(Path(sys.argv[1]), warn=_log)
    Runner(store, Jobs(store, settings.state_dir())).run()


if __name__ == "__main__":
    main()
