"""Shows jobs: as a table on a terminal, else as one line or one JSON object each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from musicgen_cli.text import one_line

if TYPE_CHECKING:
    from musicgen_cli.actions.jobs.job import Job
    from musicgen_cli.cli.output import Output


def show_jobs(jobs: Iterable[Job], out: Output) -> None:
    """Print jobs: id, state, when each was queued, steps, take or error, prompt."""
    if out.is_table:
        _print_table(jobs)
        return
    for job in jobs:
        if out.as_json:
            out.json(as_object(job))
        elif out.quiet:
            out.line(job.id)
        else:
            out.line("\t".join(one_line(field) for field in _fields(job)))


def as_object(job: Job) -> dict[str, Any]:
    """Return everything that is known of a job; fields that are None are left out."""
    values: dict[str, Any] = {
        "job_id": job.id,
        "state": job.state,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "steps": job.steps,
        "total": job.total,
        "result": job.result,
        "error": job.error,
        "request": job.request,
        **job.metadata,
    }
    return {name: value for name, value in values.items() if value is not None}


def _fields(job: Job) -> tuple[str, ...]:
    steps = f"{job.steps}/{job.total}" if job.total else ""
    return job.id, job.state, job.created, steps, job.outcome, job.prompt


def _print_table(jobs: Iterable[Job]) -> None:
    from musicgen_cli.cli import tables

    columns = [
        tables.short("job"),
        tables.short("state"),
        tables.short("queued"),
        tables.numeric("steps"),
        tables.folding("take or error"),
        tables.folding("prompt", min_width=20),
    ]

    def cells(job: Job) -> tuple[str, ...]:
        id_, state, created, *others = _fields(job)
        return id_[:8], state, tables.local_time(created), *others

    tables.print_table(columns, map(cells, jobs), optional=("steps", "queued", "take or error"))
