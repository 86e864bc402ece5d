"""
The jobs of one store: takes that one process, the runner, makes in the background.

A job is queued here and made by the runner (see `runner`), which ends when no job is pending. `add`, `cancel` and
`reconcile` start a runner if one is needed; `list` and `find` only read.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from musicgen_cli import settings
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import PlannedTake
from musicgen_cli.actions.jobs.api_key import proof
from musicgen_cli.actions.jobs.folder import job_folder
from musicgen_cli.actions.jobs.job import PENDING, RUNNING, Job, new_job
from musicgen_cli.actions.jobs.job_files import JobFiles
from musicgen_cli.actions.jobs.launch import is_starting, start_runner
from musicgen_cli.actions.jobs.recovery import recovered, settle
from musicgen_cli.errors import AmbiguousIdError, JobNotFoundError
from musicgen_cli.store import Store
from musicgen_cli.store.lines import timestamp

RETENTION = timedelta(days=7)  # of a job that has ended; its take stays
MAX_ENDED = 1_000  # jobs that have ended and are kept, the latest; every command reads all of them
LAST = "last"

CANCEL_WAIT_S = 5.0  # for running jobs to stop
CANCEL_POLL_S = 0.05

_SHORTEST = 4  # digits of an abbreviated id


class Jobs:
    """
    The jobs of a store.

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
        """Where the jobs' files lie; it need not exist."""
        return self._files.folder

    def add(self, planned_takes: Sequence[PlannedTake], engine_config: EngineConfig) -> Sequence[Job]:
        """Queue takes, a job each, and start a runner if there is none."""
        with self._files.locked():
            jobs = self._files.read()
            draft = planned_takes[0].draft
            shift = _next_index(jobs, draft.variation_set_id) - (draft.variation_index or 0)
            place = max([time.time_ns(), *(job.place + 1 for job in jobs)])
            added = []
            for i, planned in enumerate(planned_takes):
                index = planned.draft.variation_index
                if index is not None and shift > 0:  # queued jobs of the same set have these indices
                    planned = replace(planned, draft=replace(planned.draft, variation_index=index + shift))
                added.append(self._files.write(_with_proof(new_job(planned, engine_config, place=place + i))))
        self.reconcile()
        return added

    def list(self) -> Sequence[Job]:
        """
        Return all jobs, in the order in which they were queued, without changing anything.

        They are shown as `reconcile` would leave them: a job whose runner is dead has ended, and those that ended more
        than 7 days ago, or before the latest 1,000, are not among them. But nothing is written or removed, and no
        process is started.
        """
        jobs = self._files.read()
        if any(job.state == RUNNING for job in jobs):
            with self._files.locked():
                jobs = self._files.read()
                is_alive = self._files.has_runner()
            if not is_alive:
                jobs = recovered(jobs, self._files, self._store)
        old = _old(jobs)
        return [job for job in jobs if job.id not in old]

    def reconcile(self) -> Sequence[Job]:
        """
        Bring the jobs' files up to date, start a runner if one is needed, and return what `list` would.

        Writes how the jobs ended that a dead runner left running, removes old jobs that have ended, and starts a runner
        if a job is pending and there is none.
        """
        if not self._files.exists():
            return []
        with self._files.locked():
            is_alive = self._files.has_runner()
            if not is_alive:
                settle(self._files, self._store)
            jobs = self._remove_old()
            if not is_alive and not is_starting(self.folder) and any(job.state == PENDING for job in jobs):
                start_runner(self.folder, self._store.root)
        return jobs

    def find(self, id_: str) -> Job:
        """
        Return the job with an id, as `list` shows it.

        Raises:
            JobNotFoundError, AmbiguousIdError: As `find_job`.
        """
        return find_job(self.list(), id_)

    def cancel(self, ids: Sequence[str], *, wait_s: float = CANCEL_WAIT_S) -> Sequence[Job]:
        """
        Cancel jobs: pending ones at once, running ones when their engine next reports progress.

        Args:
            ids: In any form that `find_job` takes.
            wait_s: How long to wait for running jobs to stop; one that is loading its model may take longer.

        Returns:
            The jobs as they are then. One that had ended before is unchanged.

        Raises:
            JobNotFoundError, AmbiguousIdError: An id matches no job or several; no job was cancelled.
        """
        full_ids = self.request_cancel(ids)
        deadline = time.monotonic() + wait_s
        while True:
            jobs = self.named(full_ids)
            if all(job.has_ended for job in jobs) or time.monotonic() > deadline:
                return jobs
            time.sleep(CANCEL_POLL_S)

    def request_cancel(self, ids: Sequence[str]) -> Sequence[str]:
        """
        Cancel jobs as `cancel` does, without waiting for the running ones to stop; return their whole ids.

        Raises:
            JobNotFoundError, AmbiguousIdError: As `cancel`.
        """
        jobs = self.reconcile()
        full_ids = [*dict.fromkeys(find_job(jobs, id_).id for id_ in ids)]
        with self._files.locked():
            for job in _named(full_ids, self._files.read()):
                if job.state == PENDING:
                    self._files.write(job.cancelled())
                elif job.state == RUNNING:
                    self._files.request_cancel(job)
        return full_ids

    def named(self, ids: Sequence[str]) -> Sequence[Job]:
        """Return the jobs with these whole ids as `reconcile` leaves them, without those that are gone."""
        return _named(ids, self.reconcile())

    def _remove_old(self) -> Sequence[Job]:
        """Remove the jobs that ended long ago, or before many others; return the rest."""
        jobs = self._files.read()
        old = _old(jobs)
        recent = []
        for job in jobs:
            if job.id in old:
                self._files.remove(job)
            else:
                recent.append(job)
        return recent


def find_job(jobs: Collection[Job], id_: str) -> Job:
    """
    Return the one of `jobs` that an id names: the whole id, a unique start of 4 or more digits, or `last`.

    Raises:
        JobNotFoundError: The id matches none.
        AmbiguousIdError: It matches several.
    """
    if id_ == LAST and jobs:
        return max(jobs, key=lambda job: job.place)
    matches = [job for job in jobs if job.id.startswith(id_)] if len(id_) >= _SHORTEST else []
    if not matches:
        raise JobNotFoundError(id_)
    if len(matches) > 1:
        raise AmbiguousIdError(id_, [job.id for job in matches])
    return matches[0]


def _with_proof(job: Job) -> Job:
    """Return a job with a proof that this process has an API key, if it has one."""
    api_key, url = settings.load().api_key, job.engine_config.url
    return job if api_key is None or url is None else replace(job, key_proof=proof(api_key, job.id, url))


def _named(ids: Sequence[str], jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with these ids, in the order of the ids; an id whose job is gone is passed over."""
    by_id = {job.id: job for job in jobs}
    return [by_id[id_] for id_ in ids if id_ in by_id]


def _next_index(jobs: Sequence[Job], set_id: str | None) -> int:
    """Return one more than the highest variation index of the jobs of a set; 0 if there are none."""
    members = [job for job in jobs if set_id and job.metadata.get("variation_set_id") == set_id]
    indices = [job.metadata["variation_index"] for job in members]
    return max((index + 1 for index in indices if index is not None), default=0)


def _old(jobs: Sequence[Job]) -> set[str]:
    """Return the ids of the jobs that are not kept any more."""
    oldest = timestamp(datetime.now(UTC) - RETENTION)
    ended = sorted((job for job in jobs if job.has_ended), key=lambda job: job.finished or "", reverse=True)
    return {job.id for number, job in enumerate(ended) if number >= MAX_ENDED or job.ended_before(oldest)}
