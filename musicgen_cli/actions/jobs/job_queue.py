"""The runner's view of a store's jobs: be their only runner, claim jobs, and write progress and results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.jobs.folder import job_folder
from musicgen_cli.actions.jobs.job import PENDING, RUNNING, Job
from musicgen_cli.actions.jobs.job_files import RUNNER_STARTING, JobFiles
from musicgen_cli.actions.jobs.recovery import settle
from musicgen_cli.errors import MusicgenError
from musicgen_cli.store import Artifact, Store


class JobQueue:
    """
    The jobs of a store, as their runner works on them.

    Args:
        store: Where their takes go.
        state_dir: The platform's folder for state.

    Every method raises `StoreError` if the folder can't be used, and `StoreBusyError` if it stays locked.
    """

    def __init__(self, store: Store, state_dir: Path) -> None:
        self._store = store
        self._files = JobFiles(job_folder(store.root, state_dir))

    @property
    def folder(self) -> Path:
        """Where the jobs' files lie."""
        return self._files.folder

    @contextmanager
    def as_runner(self) -> Iterator[Callable[[], bool]]:
        """
        Be the one process that runs these jobs.

        Yields:
            A function that gives up the role unless a job is pending, and returns whether it did. A job that is queued
            afterwards starts another runner.

        Raises:
            StoreBusyError: Another process is the runner.
        """
        with ExitStack() as stack:
            with self._files.locked():
                stack.enter_context(self._files.runner_lock())
                atomic.discard(self._files.folder / RUNNER_STARTING)
                settle(self._files, self._store)

            def resign() -> bool:
                with self._files.locked():
                    if self.head() is not None:
                        return False
                    stack.close()
                return True

            yield resign

    def head(self) -> Job | None:
        """Return the first pending job."""
        return next((job for job in self._files.read() if job.state == PENDING), None)

    def claim(self, job: Job) -> Job | None:
        """Mark a pending job as running in this process; None if it is no longer pending."""
        with self._files.locked():
            current = self._current(job)
            if current is None or current.state != PENDING:
                return None
            return self._files.write(current.running(os.getpid()))

    def progress(self, job: Job, steps: int, total: int) -> Job:
        """Write how many decoder steps of a running job are done."""
        return self._files.write(replace(job, steps=steps, total=total))

    def is_cancel_requested(self, job: Job) -> bool:
        """Tell whether a running job is to stop."""
        return self._files.is_cancel_requested(job)

    def complete(self, job: Job, artifact: Artifact, warnings: Sequence[str] = ()) -> None:
        """Write that the take of a running job is stored, and what is to be said about it."""
        self._end(job.complete(artifact, warnings))

    def fail(self, job: Job, err: MusicgenError) -> None:
        """Write that a running job failed."""
        self._end(job.failed(err))

    def cancel(self, job: Job) -> None:
        """Write that a running job was cancelled."""
        self._end(job.cancelled())

    def cancel_if_requested(self, job: Job, then: Callable[[], None]) -> None:
        """Write that a running job was cancelled if that was requested, and call `then` under the folder's lock."""
        with self._files.locked():
            current = self._current(job)
            if current is not None and current.state == RUNNING and self.is_cancel_requested(job):
                self._files.write_ended(current.cancelled())
                then()

    def _end(self, job: Job) -> None:
        with self._files.locked():
            self._files.write_ended(job)

    def _current(self, job: Job) -> Job | None:
        return next((current for current in self._files.read() if current.id == job.id), None)
