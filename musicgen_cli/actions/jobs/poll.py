"""Waits for jobs: until one has ended, until all have, or until the time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from musicgen_cli.actions.jobs.job import COMPLETE, Job
from musicgen_cli.actions.jobs.jobs import find_job
from musicgen_cli.errors import InvalidValueError, JobNotFoundError
from musicgen_cli.limits import POLL_MS
from musicgen_cli.text import as_whole

MODES = ("any", "all")
_POLL_S, _LONGEST_POLL_S = 0.1, 1.0


@dataclass(slots=True)
class Polled:
    """The ids of jobs by their state, and why the wait ended."""

    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # and cancelled and unknown jobs
    pending: list[str] = field(default_factory=list)  # and running jobs
    reason: str = "timeout"  # or "job_complete"
    elapsed_ms: int = 0
    results: dict[str, Any] = field(default_factory=dict)  # of the completed jobs, by id
    errors: dict[str, str] = field(default_factory=dict)  # of the failed jobs, by id: a sentence


class Poll:
    """
    A wait for jobs, look by look; who waits sleeps in between, so that waiting need not take a thread.

    Args:
        read: Returns all jobs as they are now: `Jobs.reconcile`, or `Jobs.list` to wait without changing anything.
        ids: In any form that `find_job` takes; none means all jobs that haven't ended.
        timeout_ms: The longest wait; None waits until the jobs have ended.
        mode: `any` waits until one of the jobs has ended, `all` until every one has.

    Raises:
        InvalidValueError: A value is out of range.
    """

    def __init__(
        self, read: Callable[[], Sequence[Job]], ids: Sequence[str], *, timeout_ms: int | None, mode: str
    ) -> None:
        timeout_ms = as_whole(timeout_ms)
        if timeout_ms is not None and (type(timeout_ms) is not int or timeout_ms not in POLL_MS):
            raise InvalidValueError(f"timeout_ms must be a whole number, {POLL_MS}, got {timeout_ms!r}"[:200])
        if mode not in MODES:
            raise InvalidValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}"[:200])
        self._read = read
        self._ids = ids
        self._timeout_s = math.inf if timeout_ms is None else timeout_ms / 1000
        self._mode = mode
        self._started = time.monotonic()
        self._names: Sequence[str] | None = None  # whole ids, once the jobs were read
        self._ended: dict[str, Job] = {}  # those that were seen to have ended; their files may be removed meanwhile

    def look(self) -> Polled | float:
        """
        Read the jobs; return how they are if the wait is over, else in how many seconds to look again.

        Raises:
            AmbiguousIdError: An id matches several jobs.
        """
        jobs = self._read()
        if self._names is None:
            self._names = _whole_ids(self._ids, jobs) if self._ids else [job.id for job in jobs if not job.has_ended]
        by_id = self._ended | {job.id: job for job in jobs}
        self._ended = {name: by_id[name] for name in self._names if name in by_id and by_id[name].has_ended}
        polled = _by_state({name: by_id.get(name) for name in self._names})
        elapsed_s = time.monotonic() - self._started
        polled.elapsed_ms = round(elapsed_s * 1000)
        if not polled.pending or (self._mode == "any" and (polled.completed or polled.failed)):
            polled.reason = "job_complete"
            return polled
        left_s = self._timeout_s - elapsed_s
        if left_s <= 0:
            return polled
        return min(max(_POLL_S, elapsed_s / 100), _LONGEST_POLL_S, left_s)  # the longer the wait, the less often


def poll(
    read: Callable[[], Sequence[Job]],
    ids: Sequence[str] = (),
    *,
    timeout_ms: int | None = int(POLL_MS.default),
    mode: str = "any",
) -> Polled:
    """
    Wait for jobs in this thread; arguments and errors are those of `Poll`.

    Raises:
        InvalidValueError, AmbiguousIdError: As said there.
    """
    waiting = Poll(read, ids, timeout_ms=timeout_ms, mode=mode)
    while isinstance(result := waiting.look(), float):
        time.sleep(result)
    return result


def _whole_ids(ids: Sequence[str], jobs: Sequence[Job]) -> list[str]:
    """Return the whole id of the job that each id matches; one that matches none stays as it is."""
    whole = []
    for id_ in ids:
        try:
            whole.append(find_job(jobs, id_).id)
        except JobNotFoundError:
            whole.append(id_)
    return whole


def _by_state(jobs: dict[str, Job | None]) -> Polled:
    polled = Polled()
    for name, job in jobs.items():
        if job is not None and job.state == COMPLETE:
            polled.completed.append(name)
            polled.results[name] = job.result
        elif job is not None and not job.has_ended:
            polled.pending.append(name)
        else:
            polled.failed.append(name)
            polled.errors[name] = _failure(name, job)
    return polled


def _failure(name: str, job: Job | None) -> str:
    """Return in a sentence why a job has no take."""
    if job is None:
        return str(JobNotFoundError(name))
    return job.explanation or f"it is {job.state}"
