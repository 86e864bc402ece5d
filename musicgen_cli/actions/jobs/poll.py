"""Waits for jobs: until one has ended, or all have, or the time is up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from musicgen_cli.actions.jobs.job import COMPLETE, Job
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.errors import InvalidValueError, JobNotFoundError
from musicgen_cli.limits import POLL_MS

MODES = ("any", "all")
_LOOK_S = 0.1


@dataclass(slots=True)
class Polled:
    """Jobs by what became of them, and why the wait was over."""

    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # unknown and cancelled ones, too
    pending: list[str] = field(default_factory=list)  # running ones, too
    reason: str = "timeout"  # or "job_complete"
    elapsed_ms: int = 0
    results: dict[str, Any] = field(default_factory=dict)  # of the completed
    errors: dict[str, str] = field(default_factory=dict)  # of the failed, a sentence each


def poll(jobs: Jobs, ids: Sequence[str] = (), *, timeout_ms: int = int(POLL_MS.default), mode: str = "any") -> Polled:
    """
    Wait for jobs.

    Args:
        ids: In any form that `Jobs.find` takes; none means all that haven't ended.
        timeout_ms: The longest wait.
        mode: `any` waits until one of them has ended, `all` until none is left.

    Raises:
        InvalidValueError: A value is out of range.
        AmbiguousIdError: An id could be any of several.
    """
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int) or timeout_ms not in POLL_MS:
        raise InvalidValueError(f"timeout_ms must be a whole number, {POLL_MS}, got {timeout_ms!r}"[:200])
    if mode not in MODES:
        raise InvalidValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}"[:200])
    started = time.monotonic()
    known = jobs.reconcile()
    wanted: dict[str, str] = {}  # a job's id by how it was called
    for name in ids or [job.id for job in known if not job.has_ended]:
        try:
            wanted[name] = jobs.find(name, known).id
        except JobNotFoundError:
            wanted[name] = name
    while True:
        now = {job.id: job for job in known}
        polled = _sorted({name: now.get(name) for name in wanted.values()})
        elapsed_s = time.monotonic() - started
        polled.elapsed_ms = round(elapsed_s * 1000)
        if not polled.pending or (mode == "any" and (polled.completed or polled.failed)):
            polled.reason = "job_complete"
            return polled
        left_s = timeout_ms / 1000 - elapsed_s
        if left_s <= 0:
            return polled
        time.sleep(min(_LOOK_S, left_s))
        known = jobs.reconcile()


def _sorted(wanted: dict[str, Job | None]) -> Polled:
    polled = Polled()
    for name, job in wanted.items():
        if job is not None and job.state == COMPLETE:
            polled.completed.append(name)
            polled.results[name] = job.result
        elif job is not None and not job.has_ended:
            polled.pending.append(name)
        else:
            polled.failed.append(name)
            polled.errors[name] = _why_not(name, job)
    return polled


def _why_not(name: str, job: Job | None) -> str:
    """Say in a sentence why a job has no take."""
    if job is None:
        return str(JobNotFoundError(name))
    return job.outcome or f"it is {job.state}"
