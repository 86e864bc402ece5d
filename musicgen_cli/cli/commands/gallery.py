"""`musicgen gallery`: takes become a page to look at, listen to and hand on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import filters, options
from musicgen_cli.errors import DamagedError, InvalidValueError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact


def command(
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="DIR", help="The folder it is made in. [gallery]", show_default=False),
    ] = "gallery",
    number: Annotated[int | None, typer.Option("-n", help="So many takes. [all]", show_default=False)] = None,
    tag: filters.Tag = None,
    creator: filters.Creator = None,
    variation_set: filters.VariationSet = None,
    parent: filters.Parent = None,
    model: filters.Model = None,
    search: filters.Search = None,
    since: filters.Since = None,
    until: filters.Until = None,
    embed: Annotated[bool, typer.Option("--embed", help="Put the sounds into the page, up to 50 MB.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that no gallery made.")] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="The path alone on stdout, no talk.")] = False,
) -> None:
    """Make a page of takes to look at and listen to, which works without a server."""
    from musicgen_cli import settings
    from musicgen_cli.actions.gallery.gallery import build, check
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    if not output or "\0" in output:
        raise InvalidValueError("the output folder must not be empty or hold NUL")
    if output == "-":
        raise UsageError("a gallery is a folder, and - stands for stdout", hint="-o DIR names a folder")
    filters.check_number(number)
    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    passing = filters.where(
        kept,
        tag=tag,
        creator=creator,
        variation_set=variation_set,
        parent=parent,
        model=model,
        search=search,
        since=since,
        until=until,
    )
    takes = list(kept.newest(number, passing))
    folder = Path(output)
    check(folder, takes, embed=embed, force=force)

    def left_out(take: "Artifact", err: DamagedError) -> None:
        out.warn(f"{take.id} is left out: {err}")

    with out.transfer("gallery") as listener:
        made = build(folder, takes, kept, embed=embed, on_damaged=left_out, on_progress=listener.step)
    if json_:
        out.json({"status": "success", "path": str(made.page), "takes": made.takes, "left_out": made.damaged})
    else:
        out.path(made.page)
    if not takes:
        out.note("no take matches, so the page is empty")
    if made.unused:
        out.note(f"sounds that are not on the page any more, and were left in {folder / 'audio'}: {made.unused}")
    if made.damaged:
        raise DamagedError(
            f"left out {made.damaged} of {len(takes)} takes, for their sound is damaged",
            hint="`musicgen store check --full` tells more",
        )
