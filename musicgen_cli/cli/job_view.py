"""Shows jobs: a table for people, else a line or an object each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from musicgen_cli.text import one_line

if TYPE_CHECKING:
    from musicgen_cli.actions.jobs.job import Job
    from musicgen_cli.cli.output import Output


def show_jobs(jobs: Iterable[Job], out: Output) -> None:
    """Show jobs: id, state, when it was queued, steps, take, prompt."""
    if out.is_table:
        _table(jobs)
        return
    for job in jobs:
        if out.as_json:
            out.json(as_object(job))
        elif out.quiet:
            out.line(job.id)
        else:
            out.line("\t".join(one_line(field) for field in _fields(job)))


def as_object(job: Job) -> dict[str, Any]:
    """Return what is known of a job, absent members left out."""
    known: dict[str, Any] = {
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
    return {name: value for name, value in known.items() if value is not None}


def _fields(job: Job) -> tuple[str, ...]:
    steps = f"{job.steps}/{job.total}" if job.total else ""
    return job.id, job.state, job.created, steps, job.outcome, job.prompt


def _table(jobs: Iterable[Job]) -> None:
    from datetime import datetime

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "state", "queued"):
        table.add_column(name, no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    for name in ("take, or why not", "prompt"):
        table.add_column(name, overflow="fold")
    for job in jobs:
        cells = list(_fields(job))
        cells[0] = job.id[:8]
        cells[2] = datetime.fromisoformat(job.created).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    if table.row_count:
        Console().print(table)
