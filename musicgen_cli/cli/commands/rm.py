"""`musicgen rm`: removes stored takes, or restores one."""

from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import TakeIds, open_store
from musicgen_cli.errors import UsageError
from musicgen_cli.text import plural


def command(
    ids: TakeIds,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only list what would be removed.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Restore a removed take.")] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Remove takes, or restore a removed one.

    The audio of a removed take stays in the store until `musicgen store gc`, so that `--undo` can restore the take.
    """
    from musicgen_cli.cli.output import Output

    if undo and (yes or len(ids) > 1):
        raise UsageError("--undo takes one ID, and no --yes")
    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    if undo:
        out.artifact(store.restore(ids[0]))
        return
    if yes:
        out.artifacts(store.remove(ids))
        return
    takes = store.get_many(ids)
    out.artifacts(takes)
    message = f"{plural(len(takes), 'take')} would be removed, nothing was"
    raise UsageError(message, hint="--yes removes, and `--undo ID` restores a take")
