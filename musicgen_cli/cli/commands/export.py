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
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="wav|flac|ogg|mp3",
            help="[as the file's ending says, else wav]; all but wav need the extra audio.",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Fade the last second into the first, so that it repeats without a seam.")
    ] = False,
    metadata: Annotated[
        bool,
        typer.Option(
            "--metadata/--no-metadata", help="Let a file hold its record; without, and on stdout, a WAV is bit-exact."
        ),
    ] = True,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="The record as JSON beside each.")] = False,
    force: options.Force = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Copy stored takes to files, never over one that exists unless forced.

    A file says what it is: title, licence, and as a comment the record, which `import` reads back from a WAV. What goes
    to stdout never does: it is the stored sound, bit by bit.
    """
    from musicgen_cli import settings
    from musicgen_cli.actions.library.export import check_format, convert, export, resolve_target
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    artifacts = [kept.get(wanted) for wanted in ids]
    if output == "-":
        if name is not None or sidecar:
            raise UsageError("--name and --sidecar are for files, and -o - writes to stdout")
        if form not in {None, "wav"}:
            check_format(form, None)
            raise UsageError(f"-o - writes WAV, not {form}", hint=f"musicgen export ID -o - | ffmpeg -i - take.{form}")
        out.check_sound(many=len(ids) > 1)
        out.sound(convert(kept.read_blob(artifacts[0]), artifacts[0], loop=loop, metadata=False))
        return
    where = resolve_target(
        output,
        name=name,
        many=len(ids) > 1,
        force=force,
        sidecar=sidecar,
        format_=form,
        loop=loop,
        metadata=metadata,
    )
    taken: set[Path] = set()
    for artifact in artifacts:
        out.exported(artifact, export(artifact, kept, where, taken))
