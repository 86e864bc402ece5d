"""`musicgen name`: gives a stored take a name."""

from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import open_store
from musicgen_cli.errors import UsageError


def command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A take's id, a unique start of it, or `last`.")],
    words: Annotated[list[str], typer.Argument(metavar="NAME", help='The name; "" takes it away.', show_default=False)],
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Give a take a name, which lists and galleries show.

    The name is kept as a tag: `--tag name:NAME` finds it, and it stays when the take is exported and imported.
    """
    from musicgen_cli.actions.library.takes import rename
    from musicgen_cli.cli.output import Output

    if len(words) > 1:
        from musicgen_cli.actions.library.quoting import quote

        name = quote(" ".join(words))
        raise UsageError(
            f"a name is one argument, got {len(words)}", hint=f"quote the name: musicgen name {quote(id_)} {name}"
        )
    out = Output(as_json=json_, quiet=quiet)
    out.artifact(rename(id_, words[0], open_store(store_path, out)))
