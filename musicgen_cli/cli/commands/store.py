"""`musicgen store`: care of the store."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import ProblemsFoundError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store.maintenance import Compaction, Garbage, Repair

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def path(store: options.StoreOption = None, json_: options.Json = False) -> None:
    """Print the store's folder."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_)
    where = settings.load({"store": store}).store
    if json_:
        out.json({"path": str(where)})
    else:
        out.path(where)


def stats(store: options.StoreOption = None, json_: options.Json = False) -> None:
    """Count what is stored."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_)
    where = settings.load({"store": store}).store
    counted = {"path": str(where), **asdict(Store(where, warn=out.warn).stats())}
    if json_:
        out.json(counted)
    else:
        out.pairs(counted)


def check(
    full: Annotated[bool, typer.Option("--full", help="Hash all audio again.")] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """Look for problems and change nothing; exit 1 if there are any."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store.check import check as problems_of
    from musicgen_cli.text import one_line

    out = Output(as_json=json_)
    found = 0
    for problem in problems_of(settings.load({"store": store}).store, full=full):
        found += 1
        if json_:
            out.json(asdict(problem))
        elif out.is_table:
            out.line(f"{problem.kind + ':':<10} {one_line(problem.message)}")
        else:
            out.line("\t".join(map(one_line, (problem.kind, problem.where, problem.message))))
    if found:
        raise ProblemsFoundError(found)
    out.note("no problem was found")


def repair(
    adopt: Annotated[bool, typer.Option("--adopt", help="Make takes of audio that the index doesn't know.")] = False,
    dry_run: DryRun = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """
    Set right what can be set right.

    What is damaged is moved to the store's `quarantine`; nothing is deleted.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import maintenance

    out = Output(as_json=json_)
    done = maintenance.repair(settings.load({"store": store}).store, adopt=adopt, dry_run=dry_run)
    _tell(out, done)
    if done.bad_lines and not adopt:
        out.note("sound whose line was lost is there until `musicgen store gc`: --adopt makes takes of it")
    if done.missing:
        takes = "1 take" if done.missing == 1 else f"{done.missing} takes"
        out.warn(f"the audio of {takes} is missing, which only storing the same audio again can heal")


def compact(
    forget: Annotated[
        bool, typer.Option("--forget", help="Leave no copy of the old index, so that removed prompts are gone.")
    ] = False,
    dry_run: DryRun = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """
    Rewrite the index without what was removed.

    `musicgen rm --undo` finds nothing afterwards.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import maintenance

    out = Output(as_json=json_)
    _tell(out, maintenance.compact(settings.load({"store": store}).store, forget=forget, dry_run=dry_run))


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Really; without it, what would go is counted.")] = False,
    dry_run: DryRun = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """
    Delete audio that no take has any more, and what unfinished writes left.

    What is younger than an hour stays.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import maintenance

    if yes and dry_run:
        raise UsageError("--yes and --dry-run contradict each other")
    out = Output(as_json=json_)
    where = settings.load({"store": store}).store
    found = maintenance.gc(where)
    if not yes:
        _tell(out, found)
        return
    out.note(
        f"deleting {found.blobs} files of audio with {found.blob_bytes} bytes, "
        f"{found.temporaries} temporaries with {found.temporary_bytes} bytes"
    )
    _tell(out, maintenance.gc(where, yes=True))


def _tell(out: "Output", result: "Compaction | Garbage | Repair") -> None:
    if out.as_json:
        out.json(asdict(result))
    else:
        out.pairs({name: value for name, value in asdict(result).items() if name != "done"})
    if not result.done:
        out.note("nothing was changed")


commands = {"path": path, "stats": stats, "check": check, "repair": repair, "compact": compact, "gc": gc}
