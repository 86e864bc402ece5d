"""Ends the jobs that a runner was running when it died."""

from __future__ import annotations

from collections.abc import Sequence

from musicgen_cli.actions.jobs.job import RUNNING, Job
from musicgen_cli.actions.jobs.job_files import RUNNER_LOG, JobFiles
from musicgen_cli.errors import RunnerDiedError
from musicgen_cli.store import Store


def recovered(jobs: Sequence[Job], job_files: JobFiles, store: Store) -> list[Job]:
    """
    Return the jobs of a dead runner as they are now: those that it was running have ended, the others are unchanged.

    A running job is complete if its take is in the store, else cancelled if that was requested, else failed with
    `RunnerDiedError`. Nothing is written.
    """
    running = {job.id for job in jobs if job.state == RUNNING}
    if not running:
        return [*jobs]
    takes = {take.client_job_id: take for take in store.newest(None) if take.client_job_id in running}

    def ended(job: Job) -> Job:
        if job.id in takes:
            return job.complete(takes[job.id])
        if job_files.is_cancel_requested(job):
            return job.cancelled()
        return job.failed(RunnerDiedError(job.runner_pid, job_files.folder / RUNNER_LOG))

    return [ended(job) if job.id in running else job for job in jobs]


def settle(job_files: JobFiles, store: Store) -> None:
    """
    Write how the jobs ended that a dead runner left running.

    The caller holds the folder's lock and knows that no other runner lives, so that nobody else writes a job.
    """
    job_files.remove_temporaries()
    before = job_files.read()
    for old, new in zip(before, recovered(before, job_files, store), strict=True):
        if new is not old:
            job_files.write_ended(new)
