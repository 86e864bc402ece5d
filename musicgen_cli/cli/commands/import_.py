"""`musicgen import`: sounds made elsewhere become takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import PartlyImportedError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact


def command(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="WAV files, folders of them, other stores.")],
    tag: Annotated[
        list[str] | None, typer.Option("-t", "--tag", help="A tag for each (repeatable).", show_default=False)
    ] = None,
    creator: Annotated[
        str | None, typer.Option(help="Who made the files; else as their sidecars say.", show_default=False)
    ] = None,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Take in WAV files, with what a sidecar says of them, or the takes of another store.

    What is here already is not stored again.
    """
    from musicgen_cli import settings
    from musicgen_cli.actions.library.import_ import Duplicate, Importer, ImportFailure
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    chosen = settings.load({"store": store, "creator": creator})
    importer = Importer(
        Store(chosen.store, warn=out.warn),
        tags=tag or (),
        creator=chosen.creator,
        is_creator_sure=creator is not None,
        warn=out.warn,
    )
    made: list[Artifact] = []
    failed = 0
    try:
        for result in importer.run(paths):
            if isinstance(result, ImportFailure):
                failed += 1
                out.warn(f"{result.source}: {result.error}")
            elif isinstance(result, Duplicate):
                out.note(f"{result.source} is here already: {result.id}")
            else:
                made.append(result.artifact)
                if not out.is_table:
                    out.artifact(result.artifact, source=result.source, source_id=result.old_id)
                if result.old_id not in {None, result.artifact.id}:
                    out.note(f"{result.old_id} -> {result.artifact.id}")
    finally:
        if out.is_table:  # one for all, also after Ctrl-C
            out.artifacts(made)
    if failed:
        raise PartlyImportedError(failed, len(made))
