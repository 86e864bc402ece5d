"""`musicgen job`: manages takes that are made in the background."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musicgen_cli import limits
from musicgen_cli.cli import options
from musicgen_cli.cli.stores import find_store, open_store
from musicgen_cli.errors import ArtifactNotFoundError, JobFailedError, StillPendingError
from musicgen_cli.text import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from musicgen_cli.actions.jobs.jobs import Jobs
    from musicgen_cli.actions.jobs.poll import Polled
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Artifact, Store


JobIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID...]", help="Jobs to wait for. [all that haven't ended]", show_default=False),
]


def list_(store_path: options.StoreOption = None, json_: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the jobs of the last 7 days, newest first."""
    from musicgen_cli.cli.job_view import show_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    jobs = _jobs(store_path, out).list()
    show_jobs(reversed(jobs), out)
    if not jobs:
        out.note("no jobs in the last 7 days: `musicgen generate --detach` queues one")


def show(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="[ID]",
            help="A job's id, a unique start of it, or `last` for the newest. [last]",
            show_default=False,
        ),
    ] = "last",
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show everything that is known of a job."""
    from musicgen_cli.cli.forms import flat
    from musicgen_cli.cli.job_view import as_object, show_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    job = _jobs(store_path, out).find(id_)
    if out.is_table:
        out.pairs(flat(as_object(job)))
    else:
        show_jobs([job], out)
        if not json_:
            _warn([job.result], out)


def poll(
    ids: JobIds = None,
    timeout_ms: Annotated[
        int,
        typer.Option(
            help=f"Wait at most this long. [{number(limits.POLL_MS.default)}; {limits.POLL_MS}]", show_default=False
        ),
    ] = int(limits.POLL_MS.default),
    mode: Annotated[
        str, typer.Option(metavar="any|all", help="Wait until any of the jobs has ended, or all of them have.")
    ] = "any",
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the ids of complete jobs.")] = False,
) -> None:
    """
    Wait for jobs and print one JSON object.

    Exit 1 if a job has failed, 5 if the jobs haven't ended in time.
    """
    from dataclasses import asdict

    from musicgen_cli.actions.jobs.poll import poll as poll_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    result = poll_jobs(_jobs(store_path, out).reconcile, ids or (), timeout_ms=timeout_ms, mode=mode)
    if quiet:
        out.ids(result.completed)
        _warn(result.results.values(), out)
    else:
        out.json(asdict(result))
    if result.reason == "timeout":
        count = len(result.pending)
        raise StillPendingError(
            f"{count} job{' is' if count == 1 else 's are'} not done yet", hint="`musicgen job poll` again waits longer"
        )
    _raise_failure(result)


def wait(
    ids: JobIds = None,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Wait until jobs have ended, however long that takes, and print their takes.

    Exit 1 if a job has failed. Ctrl-C ends the wait, not the jobs.
    """
    from musicgen_cli.actions.jobs.poll import poll as poll_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    jobs = _jobs(store_path, out)
    waiting = sum(not job.has_ended for job in jobs.reconcile())
    if not ids:
        out.note(f"waiting for {waiting} {'job' if waiting == 1 else 'jobs'}" if waiting else "no job is pending")
    result = poll_jobs(jobs.reconcile, ids or (), timeout_ms=None, mode="all")
    made = [result.results[name] for name in result.completed]
    if made:
        out.artifacts(_takes([each["artifact_id"] for each in made], open_store(store_path, out), out))
    _warn(made, out)
    _raise_failure(result)


def cancel(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Jobs: ids, unique starts of ids, or `last` for the newest.")
    ],
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Cancel jobs; one that is running stops."""
    from musicgen_cli.actions.jobs.job import CANCELLED
    from musicgen_cli.cli.job_view import show_jobs
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    jobs = _jobs(store_path, out).cancel(ids)
    show_jobs(jobs, out)
    for job in jobs:
        if not job.has_ended:
            out.note(f"{job.id} will stop as soon as it can")
        elif job.state != CANCELLED:
            out.note(f"{job.id} has ended already: {job.state}")


def _takes(ids: "Iterable[str]", store: "Store", out: "Output") -> "Iterator[Artifact]":
    """Yield the takes of jobs that are still stored, and say which were removed since."""
    for id_ in ids:
        try:
            yield store.get(id_)
        except ArtifactNotFoundError:
            out.warn(f"{id_} was removed: `musicgen undo {id_}` restores it")


def _warn(results: "Iterable[Mapping[str, Any] | None]", out: "Output") -> None:
    """Print the warnings of complete jobs, as `generate` does."""
    for result in results:
        for text in (result or {}).get("warnings", ()):
            out.warn(text)


def _raise_failure(result: "Polled") -> None:
    """Raise an error if a job has failed."""
    if result.failed:
        name = result.failed[0]
        more = f", and {len(result.failed) - 1} more failed" if len(result.failed) > 1 else ""
        raise JobFailedError(f"job {name} failed: {result.errors[name]}{more}")


def _jobs(store_path: Path | None, out: "Output") -> "Jobs":
    from musicgen_cli import settings
    from musicgen_cli.actions.jobs.jobs import Jobs
    from musicgen_cli.store import Store

    store = Store(settings.load({"store": store_path}).store, warn=out.warn)
    jobs = Jobs(store, settings.state_dir())
    if not os.path.isdir(jobs.folder):  # noqa: PTH112  # it never raises
        find_store(store_path, out)  # before its first take, a store with jobs is no mistake
    return jobs


commands = {"list": list_, "show": show, "poll": poll, "wait": wait, "cancel": cancel}
