"""`musicgen job`: takes that are made in the background."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli import limits
from musicgen_cli.cli import options
from musicgen_cli.errors import JobFailedError, StillPendingError
from musicgen_cli.text import number

if TYPE_CHECKING:
    from pathlib import Path

    from musicgen_cli.actions.jobs.jobs import Jobs
    from musicgen_cli.cli.output import Output

Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="Jobs, or the starts of their ids; `last`.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Ids alone on stdout, no talk.")]


def list_(store: options.StoreOption = None, json_: options.Json = False, quiet: Quiet = False) -> None:
    """Show the jobs of the last 7 days, newest first."""
    from musicgen_cli.cli.job_view import show_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    show_jobs(reversed(_jobs(store, out).list()), out)


def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A job's id or the start of it, or `last`.")],
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: Quiet = False,
) -> None:
    """Show all that is known of a job."""
    from musicgen_cli.cli.job_view import as_object, show_jobs
    from musicgen_cli.cli.output import Output, flat

    out = Output(as_json=json_, quiet=quiet)
    job = _jobs(store, out).find(id_)
    if out.is_table:
        out.pairs(flat(as_object(job)))
    else:
        show_jobs([job], out)


def poll(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID…]", help="Jobs; none: all that haven't ended.", show_default=False),
    ] = None,
    timeout_ms: Annotated[
        int,
        typer.Option(
            help=f"The longest wait. [{number(limits.POLL_MS.default)}; {limits.POLL_MS}]", show_default=False
        ),
    ] = int(limits.POLL_MS.default),
    mode: Annotated[str, typer.Option(metavar="any|all", help="Until one has ended, or all.")] = "any",
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Ids of complete jobs alone.")] = False,
) -> None:
    """
    Wait for jobs; prints one JSON object.

    Exit 1 if one has failed, 5 if the time is up.
    """
    from dataclasses import asdict

    from musicgen_cli.actions.jobs import poll as polling
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    polled = polling.poll(_jobs(store, out).reconcile, ids or (), timeout_ms=timeout_ms, mode=mode)
    if quiet:
        for name in polled.completed:
            out.line(name)
    else:
        out.json(asdict(polled))
    if polled.reason == "timeout":
        count = len(polled.pending)
        raise StillPendingError(
            f"{count} job{' is' if count == 1 else 's are'} not done yet", hint="`musicgen job poll` again waits longer"
        )
    if polled.failed:
        name = polled.failed[0]
        more = f", and {len(polled.failed) - 1} more failed" if len(polled.failed) > 1 else ""
        raise JobFailedError(f"job {name} failed: {polled.errors[name]}{more}")


def cancel(ids: Ids, store: options.StoreOption = None, json_: options.Json = False, quiet: Quiet = False) -> None:
    """Take jobs back; one that is running stops."""
    from musicgen_cli.actions.jobs.job import CANCELLED
    from musicgen_cli.cli.job_view import show_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    cancelled = _jobs(store, out).cancel(ids)
    show_jobs(cancelled, out)
    for job in cancelled:
        if not job.has_ended:
            out.note(f"{job.id} will stop as soon as it can")
        elif job.state != CANCELLED:
            out.note(f"{job.id} was {job.state} already")


def _jobs(store: "Path | None", out: "Output") -> "Jobs":
    from musicgen_cli import settings
    from musicgen_cli.actions.jobs.jobs import Jobs
    from musicgen_cli.store import Store

    return Jobs(Store(settings.load({"store": store}).store, warn=out.warn), settings.state_dir())


commands = {"list": list_, "show": show, "poll": poll, "cancel": cancel}
