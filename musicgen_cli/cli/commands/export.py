"""`musicgen export`: stored sounds become files."""

from pathlib import Path
from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import UsageError


def command(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Takes, by id or the start of it, or `last`.")],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="A file, a folder, or - for stdout. [this folder]",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="TEMPLATE", help="Names in a folder. [{prompt_slug}-{seed}-{id}]", show_default=False),
    ] = None,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="The record as JSON beside each.")] = False,
    force: options.Force = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Copy stored takes to files, never over one that exists unless forced."""
    from musicgen_cli import settings
    from musicgen_cli.actions.export import export, target
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    artifacts = [kept.get(wanted) for wanted in ids]
    if output == "-":
        if name is not None or sidecar:
            raise UsageError("--name and --sidecar are for files, and -o - writes to stdout")
        out.check_sound(many=len(ids) > 1)
        out.sound(kept.read_blob(artifacts[0]))
        return
    where = target(output, name=name, many=len(ids) > 1, force=force, sidecar=sidecar)
    taken: set[Path] = set()
    for artifact in artifacts:
        out.exported(artifact, export(artifact, kept, where, taken))
