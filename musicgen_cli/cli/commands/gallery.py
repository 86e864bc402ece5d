"""`musicgen gallery`: makes an HTML page of takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import filters, options
from musicgen_cli.cli.stores import open_store
from musicgen_cli.errors import DamagedError, InvalidValueError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact


def command(
    *,
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Make the page in this folder. [gallery]", show_default=False
        ),
    ] = "gallery",
    number: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Show at most N takes. [all]", show_default=False)
    ] = None,
    filter_options: filters.FilterOptions,
    embed: Annotated[bool, typer.Option("--embed", help="Put the audio into the page itself, up to 50 MB.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is not a gallery.")] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the path, and no notes.")] = False,
) -> None:
    """
    Make an HTML page with players for takes.

    The page works without a server.
    """
    from musicgen_cli.actions.gallery.gallery import build, check, show
    from musicgen_cli.cli.output import Output

    if not output or "\0" in output:
        raise InvalidValueError("the output folder must not be empty or contain NUL")
    if output == "-":
        raise UsageError("a gallery is a folder, and - stands for stdout", hint="-o DIR names a folder")
    filters.check_number(number)
    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    takes = list(store.newest(number, filter_options.to_filter(store)))
    folder = Path(output)
    check(folder, takes, embed=embed, force=force)

    def left_out(take: "Artifact", err: DamagedError) -> None:
        out.warn(f"{take.id} is left out: {err}")

    with out.transfer("gallery") as listener:
        gallery = build(folder, takes, store, embed=embed, on_damaged=left_out, on_progress=listener.step)
    if json_:
        out.json({"status": "success", "path": str(gallery.page), "takes": gallery.takes, "left_out": gallery.damaged})
    else:
        out.path(gallery.page)
    if open_ and not show(gallery.page):
        out.warn("no browser could be started to show the page")
    if not takes:
        out.note("no take matches, so the page is empty")
    if gallery.unused:
        out.note(f"audio files in {folder / 'audio'} that the page no longer uses: {gallery.unused}")
    if gallery.damaged:
        raise DamagedError(
            f"left out {gallery.damaged} of {len(takes)} takes, as their audio is damaged",
            hint="`musicgen store check --full` lists the damage",
        )
