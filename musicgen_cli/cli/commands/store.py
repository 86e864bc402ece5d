"""`musicgen store`: inspects and maintains the store."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import find_store
from musicgen_cli.errors import ProblemsFoundError, UsageError
from musicgen_cli.text import plural

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store.maintenance import Compaction, Garbage, Repair

DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; only show what would be done.")]


def path(store_path: options.StoreOption = None, json_: options.Json = False) -> None:
    """Print the path of the store."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_)
    root = settings.load({"store": store_path}).store
    if json_:
        out.json({"path": str(root)})
    else:
        out.path(root)


def stats(store_path: options.StoreOption = None, json_: options.Json = False) -> None:
    """Print how much is stored."""
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_)
    root = find_store(store_path, out)
    values = {"path": str(root), **asdict(Store(root, warn=out.warn).stats())}
    if json_:
        out.json(values)
    else:
        out.pairs(values)


def check(
    full: Annotated[bool, typer.Option("--full", help="Hash all audio again, too.")] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """Look for problems without changing anything; exit 1 if there are any."""
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store.check import check as check_store
    from musicgen_cli.text import one_line

    out = Output(as_json=json_)
    count = 0
    for problem in check_store(find_store(store_path, out), full=full):
        count += 1
        if json_:
            out.json(asdict(problem))
        elif out.is_table:
            out.line(f"{problem.kind + ':':<10} {one_line(problem.message)}")
        else:
            out.line("\t".join(map(one_line, (problem.kind, problem.where, problem.message))))
    if count:
        raise ProblemsFoundError(count, hint="`musicgen store repair` repairs what can be repaired")
    out.note("no problem was found")


def repair(
    adopt: Annotated[bool, typer.Option("--adopt", help="Make takes from audio files that belong to no take.")] = False,
    dry_run: DryRun = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """
    Repair what can be repaired.

    Damaged files and index lines are moved to the folder `quarantine` of the store; nothing is deleted.
    """
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import maintenance

    out = Output(as_json=json_)
    result = maintenance.repair(find_store(store_path, out), adopt=adopt, dry_run=dry_run)
    _print_result(out, result)
    if result.bad_lines and not adopt:
        out.note("audio whose index line was lost stays until `musicgen store gc`; --adopt makes takes from it")
    if result.missing:
        out.warn(f"the audio of {plural(result.missing, 'take')} is missing; storing the same audio again restores it")


def compact(
    forget: Annotated[
        bool, typer.Option("--forget", help="Keep no copy of the old index, which still has the removed prompts.")
    ] = False,
    dry_run: DryRun = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """
    Rewrite the index without removed takes.

    `musicgen rm --undo` can't restore these afterwards.
    """
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import maintenance

    out = Output(as_json=json_)
    _print_result(out, maintenance.compact(find_store(store_path, out), forget=forget, dry_run=dry_run))


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; otherwise only count what would be deleted.")] = False,
    dry_run: DryRun = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
) -> None:
    """
    Delete audio that belongs to no take any more, and the leftovers of unfinished writes.

    Files younger than an hour are kept.
    """
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import maintenance

    if yes and dry_run:
        raise UsageError("--yes and --dry-run contradict each other")
    out = Output(as_json=json_)
    root = find_store(store_path, out)
    garbage = maintenance.gc(root)
    if not yes:
        _print_result(out, garbage)
        return
    out.note(
        f"deleting audio files: {garbage.blobs}, {garbage.blob_bytes} bytes; "
        f"temporary files: {garbage.temporaries}, {garbage.temporary_bytes} bytes"
    )
    _print_result(out, maintenance.gc(root, yes=True))


def _print_result(out: "Output", result: "Compaction | Garbage | Repair") -> None:
    if out.as_json:
        out.json(asdict(result))
    else:
        out.pairs({name: value for name, value in asdict(result).items() if name != "done"})
    if not result.done:
        out.note("nothing was changed")


commands = {"path": path, "stats": stats, "check": check, "repair": repair, "compact": compact, "gc": gc}
