"""`musicgen tag`: changes the tags of stored takes."""

from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import TakeIds, open_store
from musicgen_cli.errors import UsageError


def command(
    ids: TakeIds,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="TAG", help="Add this tag (repeatable).", show_default=False)
    ] = None,
    rm: Annotated[
        list[str] | None, typer.Option("--rm", metavar="TAG", help="Remove this tag (repeatable).", show_default=False)
    ] = None,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add tags to takes, or remove tags from them."""
    from musicgen_cli.actions.library.takes import take_ids
    from musicgen_cli.cli.output import Output

    if not add and not rm:
        raise UsageError("no tag to add or to remove", hint="--add TAG, --rm TAG, or both")
    if both := {*(add or ())} & {*(rm or ())}:
        raise UsageError(f"--add and --rm contradict each other about {min(both)!r}")
    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    out.artifacts(store.tag([*take_ids(ids, store)], add=add or (), rm=rm or ()))
