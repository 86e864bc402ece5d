"""`musicgen rm`: stored takes are removed from the list, or brought back."""

from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import UsageError


def command(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Takes, by id or the start of it, or `last`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really; without it, what would go is shown.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring a removed take back.")] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Remove takes, or bring one back.

    The sound stays until `musicgen store gc`, so `--undo` works.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    if undo and (yes or len(ids) > 1):
        raise UsageError("--undo takes one ID, and no --yes")
    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    if undo:
        out.artifact(kept.restore(ids[0]))
        return
    if yes:
        out.artifacts(kept.remove(ids))
        return
    would_go = kept.each(ids)
    out.artifacts(would_go)
    takes = "1 take" if len(would_go) == 1 else f"{len(would_go)} takes"
    raise UsageError(f"{takes} would be removed, nothing was", hint="--yes removes, and `--undo ID` brings back")
