"""`musicgen tag`: tags of stored takes are changed."""

from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import UsageError


def command(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Takes, by id or the start of it, or `last`.")],
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="TAG", help="Add this (repeatable).", show_default=False)
    ] = None,
    rm: Annotated[
        list[str] | None, typer.Option("--rm", metavar="TAG", help="Remove this (repeatable).", show_default=False)
    ] = None,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add tags to takes, or remove them."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    if not add and not rm:
        raise UsageError("nothing is to be changed", hint="--add TAG, --rm TAG, or both")
    if both := {*(add or ())} & {*(rm or ())}:
        raise UsageError(f"--add and --rm contradict each other about {min(both)!r}")
    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    out.artifacts(kept.tag(ids, add=add or (), rm=rm or ()))
