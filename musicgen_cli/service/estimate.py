"""How long a request will take, from the pace of those before it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from musicgen_cli.service.job import Job


def seconds_to_answer(job: Job, ahead: Iterable[Job], pace: float, slots: int) -> float:
    """
    Estimate the seconds until a job that hasn't begun has ended.

    A job needn't wait for the end of a long clip, only for that of its turn. Long clips take turns among themselves, so
    that one has about to wait for what is left of the others.

    Args:
        job: It waits.
        ahead: Jobs that run, or start before it.
        pace: Seconds of work per second of sound.
        slots: That it can use.
    """
    free_at = [0.0] * slots  # each job takes the first slot that is free
    for other in ahead:
        left_s = other.remaining_s(pace) if job.is_long else other.turn_left_s(pace)
        heapq.heapreplace(free_at, free_at[0] + (left_s or 0.0))
    return free_at[0] + job.work_s * pace
