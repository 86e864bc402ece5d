"""`musicgen import`: stores sounds from elsewhere as takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import PartlyImportedError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact


def command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Sound files, folders of them, or other stores.")
    ],
    tag: Annotated[
        list[str] | None,
        typer.Option("-t", "--tag", help="Tag every imported take (repeatable).", show_default=False),
    ] = None,
    creator: Annotated[
        str | None, typer.Option(help="Creator of the imported takes. [as in their sidecars]", show_default=False)
    ] = None,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Import sound files, or the takes of another store.

    WAV is read by itself, FLAC, Ogg and MP3 with the extra audio or ffmpeg. A file keeps the record that it carries or
    that lies beside it as JSON. What is stored already is not imported again.
    """
    from musicgen_cli import settings
    from musicgen_cli.actions.library.import_ import Duplicate, Importer, ImportFailure
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    config = settings.load({"store": store_path, "creator": creator})
    importer = Importer(
        Store(config.store, warn=out.warn),
        tags=tag or (),
        creator=config.creator,
        overrides_creator=creator is not None,
        warn=out.warn,
    )
    imported: list[Artifact] = []
    failed = 0
    try:
        for result in importer.run(paths):
            if isinstance(result, ImportFailure):
                failed += 1
                out.warn(f"{result.source}: {result.error}")
            elif isinstance(result, Duplicate):
                out.note(f"{result.source} is already stored: {result.id}")
            else:
                imported.append(result.artifact)
                if not out.is_table:
                    out.artifact(result.artifact, source=result.source, source_id=result.old_id)
                if result.old_id not in {None, result.artifact.id}:
                    out.note(f"{result.old_id} -> {result.artifact.id}")
    finally:
        if out.is_table:  # one table for all, also after Ctrl-C
            out.artifacts(imported)
    if failed:
        raise PartlyImportedError(failed, len(imported))
